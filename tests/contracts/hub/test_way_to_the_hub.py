"""Proxies and private certificate authorities between a pod and its hub, by the environment variables that pods get.

The hub has a name that no resolver knows: only a proxy leads to it.
"""

from pathlib import Path

import pytest

from local.pki import Authority
from tests.contracts.hub.conftest import SHARDS
from tests.contracts.hub.fetching import REPO, Fetching
from tests.hub import Hub
from tests.proxy import Proxy

HOST = "hub.harbour.example"


@pytest.fixture
def small(repository: Path) -> Path:
    for name in SHARDS:
        (repository / REPO / name).write_bytes(b"w" * 100_000)
    return repository


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def certificate(tmp_path: Path, authority: Authority) -> tuple[Path, Path]:
    pair = authority.issue(tmp_path / "server", HOST, hosts=[HOST, "127.0.0.1"])
    return pair.certificate, pair.key


def named(hub: Hub) -> str:
    return f"{hub.scheme}://{HOST}:{hub.server.server_address[1]}"


def test_every_request_goes_through_the_proxy(small: Path, model: Path) -> None:
    with Hub(small) as hub, Proxy() as proxy:
        with Fetching(model, {"HF_ENDPOINT": named(hub), "HTTP_PROXY": proxy.url}) as fetching:
            assert fetching.ended() == 0, fetching.said
        assert len(proxy.requests) == len(hub.requests) > 0
        assert {line.split()[1].partition(":")[0] for line in proxy.requests} == {HOST}


def test_tls_goes_through_a_tunnel_of_the_proxy(
    small: Path, model: Path, authority: Authority, certificate: tuple[Path, Path]
) -> None:
    with Hub(small, certificate=certificate) as hub, Proxy() as proxy:
        env = {"HF_ENDPOINT": named(hub), "HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": str(authority.pair.certificate)}
        with Fetching(model, env) as fetching:
            assert fetching.ended() == 0, fetching.said
        ports = [server.server_address[1] for server in (hub.server, hub.store)]
        assert set(proxy.requests) == {f"CONNECT {HOST}:{port}" for port in ports}


def test_a_hub_in_no_proxy_is_asked_directly(small: Path, model: Path) -> None:
    with Hub(small) as hub, Proxy() as proxy:
        env = {"HF_ENDPOINT": hub.url, "HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url, "NO_PROXY": "127.0.0.1"}
        with Fetching(model, env) as fetching:
            assert fetching.ended() == 0, fetching.said
        assert proxy.requests == []
        assert hub.requests


def test_a_private_authority_is_trusted_when_the_pod_names_it(
    small: Path, model: Path, authority: Authority, certificate: tuple[Path, Path]
) -> None:
    with Hub(small, certificate=certificate) as hub:
        env = {"HF_ENDPOINT": hub.url, "SSL_CERT_FILE": str(authority.pair.certificate)}
        with Fetching(model, env) as fetching:
            assert fetching.ended() == 0, fetching.said


def test_an_unknown_authority_is_told_at_once_with_what_to_do(
    small: Path, model: Path, certificate: tuple[Path, Path]
) -> None:
    with Hub(small, certificate=certificate) as hub:
        with Fetching(model, {"HF_ENDPOINT": hub.url}) as fetching:
            failure = fetching.failure()
        assert hub.requests == []
    assert failure.reason == "HubUnreachable"
    assert "certificate verify failed" in failure.message
    assert "SSL_CERT_FILE" in failure.suggestion
    assert not any("trying again" in line.get("message", "") for line in fetching.said)


def test_a_certificate_file_that_is_not_mounted_is_named(small: Path, model: Path) -> None:
    with Hub(small) as hub, Fetching(model, {"HF_ENDPOINT": hub.url, "SSL_CERT_FILE": "/etc/ca/none.crt"}) as fetching:
        failure = fetching.failure()
    assert failure.reason == "HubUnreachable"
    assert "SSL_CERT_FILE names /etc/ca/none.crt" in failure.message
