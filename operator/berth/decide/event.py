"""Events about an endpoint, as `kubectl describe` lists them. Pure."""

from typing import Any

from berth.api import names
from berth.api.spec import Endpoint


def scaled_event(ep: Endpoint, before: int, after: int, explanation: str, now: str) -> dict[str, Any]:
    """That the number of replicas was changed, and why. now: RFC 3339, seconds."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{ep.name}.", "namespace": ep.namespace},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "namespace": ep.namespace,
            "name": ep.name,
            "uid": ep.uid,
        },
        "type": "Normal",
        "reason": "ScaledUp" if after > before else "ScaledDown",
        "message": f"from {before} to {after}: {explanation}",
        "source": {"component": names.MANAGED_BY},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
