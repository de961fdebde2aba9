"""Where the API server is and who we are: the pod's service account, or a kubeconfig."""

import base64
import contextlib
import ssl
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NoConnection(Exception):
    """There is neither a service account nor a usable kubeconfig; the message says what to do."""


class Connection(NamedTuple):
    """How to reach the API server.

    server: URL without a slash at its end.  tls: None for plain HTTP.
    token: reads the present bearer token, as the kubelet replaces the file; "" where a certificate says who we are.
    """

    server: str
    tls: ssl.SSLContext | None
    token: Callable[[], str]


def connect(kubeconfig: str | None, environ: Mapping[str, str]) -> Connection:
    """Connection from `kubeconfig`, else from the pod's service account. Reads files; raises NoConnection."""
    if kubeconfig:
        try:
            return _from_kubeconfig(yaml.safe_load(Path(kubeconfig).read_text()), Path(kubeconfig).parent)
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            # The name of what is wrong and no more: an error may quote what it read, and that is a credential.
            what = f"{error!r}" if isinstance(error, OSError | KeyError) else type(error).__name__
            raise NoConnection(f"kubeconfig {kubeconfig} cannot be used: {what}") from None
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    token = SERVICE_ACCOUNT / "token"
    if not host or not token.exists():
        raise NoConnection("not running in a pod with a service account, and no kubeconfig is named: set KUBECONFIG")
    host = f"[{host}]" if ":" in host else host
    tls = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
    return Connection(f"https://{host}:{port}", tls, partial(_read, token))


def _read(path: Path) -> str:
    return path.read_text().strip()


def _from_kubeconfig(config: Any, directory: Path) -> Connection:
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    user = _named(config["users"], context["user"])["user"]
    if "exec" in user or "auth-provider" in user:
        raise NoConnection(
            f"user {context['user']} of the kubeconfig logs in with a plugin: use a token or certificate"
        )
    tls = None
    if cluster["server"].startswith("https:"):
        authority = _pem(cluster, "certificate-authority", directory)
        tls = ssl.create_default_context(cadata=authority or None)
        if cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        if certificate := _pem(user, "client-certificate", directory):
            # Python takes a certificate from files only.
            with tempfile.TemporaryDirectory() as private:
                both = Path(private) / "client.pem"
                both.touch(mode=0o600)
                both.write_text(f"{certificate}\n{_pem(user, 'client-key', directory)}")
                tls.load_cert_chain(both)
    token = (
        partial(_read, directory / user["tokenFile"]) if "tokenFile" in user else partial(str, user.get("token", ""))
    )
    return Connection(cluster["server"].rstrip("/"), tls, token)


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    with contextlib.suppress(StopIteration):
        return next(item for item in items if item["name"] == name)
    raise KeyError(name)


def _pem(part: dict[str, Any], name: str, directory: Path) -> str:
    """What a kubeconfig holds as `name-data`, or as a file's path relative to its own directory; else ""."""
    if data := part.get(f"{name}-data"):
        return base64.b64decode(data).decode()
    return (directory / part[name]).read_text() if name in part else ""
