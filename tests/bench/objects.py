"""The endpoints of the bench, and what it looks for on them and on their children."""

from typing import Any

from berth.api import names
from local.kubectl import condition

Object = dict[str, Any]

CREATED, EDITED, EDITED_AFTER_CRASH, EDITED_ALONE = 1024, 2048, 4096, 8192


def endpoint_names(count: int) -> list[str]:
    """Names of `count` endpoints."""
    return [f"e{number:04d}" for number in range(count)]


def endpoint(namespace: str, name: str, length: int = CREATED) -> Object:
    """An endpoint with one replica and one engine argument, which is edited later."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"source": "pvc://models/tiny"},
            "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "6Gi"}},
            **edit(length)["spec"],
        },
    }


def edit(length: int) -> Object:
    """The part of an endpoint that is edited."""
    return {"spec": {"server": {"args": {"max-model-len": length}}}}


def has_length(deployment: Object | None, length: int) -> bool:
    """Whether a Deployment runs the edited argument."""
    return deployment is not None and str(length) in deployment["spec"]["template"]["spec"]["containers"][0]["args"]


def observed(endpoint: Object | None, generation: int) -> bool:
    """Whether status is about this generation."""
    return bool((endpoint or {}).get("status", {}).get("observedGeneration", 0) >= generation)


def ready(endpoint: Object | None, generation: int) -> bool:
    """Whether this generation is ready."""
    told = condition(endpoint, "Ready")
    return bool(told.get("status") == "True" and told["observedGeneration"] >= generation)
