"""The PodDisruptionBudget: a node drain takes one pod at a time, and never waits for one that does not serve."""

from typing import Any

from berth.api import names
from berth.api.spec import Endpoint
from berth.desired.metadata import metadata
from berth.desired.platform import Platform


def disruption_budget(ep: Endpoint, platform: Platform) -> dict[str, Any]:
    """PodDisruptionBudget of the endpoint."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(ep),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.selector(ep.name)},
        },
    }
