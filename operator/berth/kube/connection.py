"""Where the API server is and who we are: the pod's service account, or a kubeconfig."""

import base64
from pathlib import Path
from typing import Any

import kopf
import yaml

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NoConnection(Exception):
    """There is neither a service account nor a usable kubeconfig; the message says what to do."""


def connect(kubeconfig: str | None, environ: dict[str, str]) -> kopf.ConnectionInfo:
    """Connection from `kubeconfig`, else from the pod's service account. Reads files; raises NoConnection.

    The service account's token is read anew at each call: the kubelet replaces the file. `default_namespace` is where
    this process runs, or the kubeconfig's context points.
    """
    if kubeconfig:
        return _from_kubeconfig(Path(kubeconfig))
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    token, namespace = SERVICE_ACCOUNT / "token", SERVICE_ACCOUNT / "namespace"
    if not host or not token.exists():
        raise NoConnection("not running in a pod with a service account, and no kubeconfig is named: set KUBECONFIG")
    host = f"[{host}]" if ":" in host else host
    return kopf.ConnectionInfo(
        server=f"https://{host}:{port}",
        ca_path=str(SERVICE_ACCOUNT / "ca.crt"),
        scheme="Bearer",
        token=token.read_text().strip(),
        default_namespace=namespace.read_text().strip(),
    )


def _from_kubeconfig(path: Path) -> kopf.ConnectionInfo:
    try:
        config = yaml.safe_load(path.read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise NoConnection(f"kubeconfig {path} cannot be used: {error!r}") from error
    if "exec" in user or "auth-provider" in user:
        raise NoConnection(
            f"kubeconfig {path}: user {context['user']} logs in with a plugin; use a token or certificate"
        )
    return kopf.ConnectionInfo(
        server=cluster["server"],
        default_namespace=context.get("namespace", "default"),
        ca_data=_decoded(cluster.get("certificate-authority-data")),
        ca_path=cluster.get("certificate-authority"),
        scheme="Bearer" if user.get("token") else None,
        token=user.get("token"),
        certificate_data=_decoded(user.get("client-certificate-data")),
        certificate_path=user.get("client-certificate"),
        private_key_data=_decoded(user.get("client-key-data")),
        private_key_path=user.get("client-key"),
    )


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for item in items:
        if item["name"] == name:
            return item
    raise KeyError(name)


def _decoded(data: str | None) -> str | None:
    return base64.b64decode(data).decode() if data else None
