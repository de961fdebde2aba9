"""Objects of a cluster as the API server hands them to the gateway."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

Object = dict[str, Any]


def created(second: int) -> str:
    """A creationTimestamp: the later the greater."""
    return f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z"


def endpoint(
    key: str, at: int = 0, *served: str, source: str = "file:///m", uid: str = "", status: Any = None, **spec: Any
) -> Object:
    """A ModelEndpoint. key: namespace/name.  at: when it was created.  served: its servedNames."""
    namespace, name = key.split("/")
    model = {"source": source, **({"servedNames": list(served)} if served else {})}
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": uid or f"uid of {key}",
            "creationTimestamp": created(at),
            "generation": 2,
        },
        "spec": {"model": model, **spec},
        **({"status": status} if status is not None else {}),
    }


def address(host: str, name: str | None = None, **conditions: Any) -> Object:
    """An entry of a slice. name: of the pod; None: that of the host."""
    named = f"pod-{host}" if name is None else name
    return {
        "addresses": [host],
        "conditions": {"ready": True, **conditions},
        **({"targetRef": {"kind": "Pod", "name": named}} if named else {}),
    }


def pods_slice(
    key: str, *entries: Object | str, suffix: str = "a", port: int = 8000, port_name: str = "http"
) -> Object:
    """A slice of the controller for the endpoint's Service. entries: hosts that are ready, or what `address` makes."""
    namespace, name = key.split("/")
    return {
        "metadata": {
            "namespace": namespace,
            "name": f"{name}-{suffix}",
            "creationTimestamp": created(0),
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "ports": [{"name": "metrics", "port": 1}, {"name": port_name, "port": port}],
        "endpoints": [address(each) if isinstance(each, str) else each for each in entries],
    }


def own_slice(key: str, port: int, at: int = 0, uid: str = "", suffix: str = "gateway") -> Object:
    """Berth's own slice, with the gateway's port for the endpoint."""
    namespace, name = key.split("/")
    return {
        "metadata": {
            "namespace": namespace,
            "name": f"{name}-{suffix}",
            "creationTimestamp": created(at),
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "berth.dev",
            },
            "ownerReferences": [{"kind": "ModelEndpoint", "name": name, "uid": uid or f"uid of {key}"}],
        },
        "ports": [{"name": "http", "port": port}],
        "endpoints": [],
    }


def secret(name: str, at: int = 0, **data: str) -> Object:
    """A Secret with these texts."""
    return {
        "metadata": {"namespace": "berth", "name": name, "creationTimestamp": created(at)},
        "data": {key: b64encode(value.encode()).decode() for key, value in data.items()},
    }
