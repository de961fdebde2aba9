"""Where the gateway finds the API server and its credentials, and what it says when it does not.

Whether certificates are accepted is shown on a real API server: tests/apiserver/test_gateway_cluster.py.
"""

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from berth_gateway import connection
from berth_gateway.connection import NoConnection, connect
from local import pki


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> pki.KeyPair:
    return pki.Authority(tmp_path_factory.mktemp("pki") / "ca").pair


@pytest.fixture
def service_account(tmp_path: Path, authority: pki.KeyPair, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_bytes(authority.certificate.read_bytes())
    monkeypatch.setattr(connection, "SERVICE_ACCOUNT", tmp_path)
    return tmp_path


IN_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}


def test_in_a_pod_the_service_account_serves_and_its_token_is_read_each_time(service_account: Path) -> None:
    found = connect(None, IN_POD)
    assert found.server == "https://10.0.0.1:6443"
    assert found.tls is not None
    assert (found.tls.verify_mode, found.tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(found.tls.get_ca_certs()) == 1, "no authority but the cluster's own"
    assert found.token() == "first"
    (service_account / "token").write_text("second\n")
    assert found.token() == "second"


def test_an_address_of_ipv6_is_written_in_brackets(service_account: Path) -> None:
    assert connect(None, {**IN_POD, "KUBERNETES_SERVICE_HOST": "fd00::1"}).server == "https://[fd00::1]:6443"


@pytest.mark.parametrize("environ", [{}, IN_POD], ids=["outside", "without a token"])
def test_without_credentials_the_message_says_what_to_set(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SERVICE_ACCOUNT", tmp_path)
    with pytest.raises(NoConnection, match="set KUBECONFIG"):
        connect(None, environ)


def kubeconfig(directory: Path, user: dict[str, Any], **cluster: Any) -> str:
    path = directory / "kubeconfig"
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://api.test:6443/", **cluster}}],
        "users": [{"name": "other", "user": {"token": "wrong"}}, {"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


def test_a_kubeconfig_goes_before_the_service_account(service_account: Path, authority: pki.KeyPair) -> None:
    data = base64.b64encode(authority.certificate.read_bytes()).decode()
    found = connect(kubeconfig(service_account, {"token": "mine"}, **{"certificate-authority-data": data}), IN_POD)
    assert (found.server, found.token()) == ("https://api.test:6443", "mine")
    assert found.tls is not None
    assert len(found.tls.get_ca_certs()) == 1


def test_files_of_a_kubeconfig_lie_beside_it(tmp_path: Path, authority: pki.KeyPair) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.certificate.read_bytes())
    (tmp_path / "token").write_text("from a file\n")
    found = connect(kubeconfig(tmp_path, {"tokenFile": "token"}, **{"certificate-authority": "ca.pem"}), {})
    assert found.token() == "from a file"
    assert found.tls is not None
    assert len(found.tls.get_ca_certs()) == 1


def test_a_client_certificate_needs_no_token(tmp_path: Path, authority: pki.KeyPair) -> None:
    user = {
        "client-certificate-data": base64.b64encode(authority.certificate.read_bytes()).decode(),
        "client-key": str(authority.key),
    }
    assert connect(kubeconfig(tmp_path, user), {}).token() == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "FileNotFoundError"),
        ("clusters: []", "KeyError('contexts')"),
        ("{", "ParserError"),
        ("- a list", "TypeError"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_named(text: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    with pytest.raises(NoConnection) as raised:
        connect(str(path), {})
    assert str(raised.value).startswith(f"kubeconfig {path} cannot be used: ")
    assert says in str(raised.value)


@pytest.mark.parametrize("key", [b"s3cret", b"s3cret \xff"], ids=["not PEM", "not text"])
def test_a_wrong_credential_is_not_quoted(key: bytes, tmp_path: Path) -> None:
    user = {
        "client-certificate-data": base64.b64encode(b"a certificate").decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }
    with pytest.raises(NoConnection) as raised:
        connect(kubeconfig(tmp_path, user), {})
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_plugin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoConnection, match="logs in with a plugin: use a token or certificate"):
        connect(kubeconfig(tmp_path, {"exec": {"command": "aws"}}), {})
