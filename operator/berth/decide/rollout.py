"""How a rollout may proceed: old pods are protected as long as one of them serves."""

from collections.abc import Iterable, Mapping
from typing import Any

from berth.api import names
from berth.api.spec import Endpoint
from berth.decide.differs import differs

ALL_PODS = "100%"


def yielding(ep: Endpoint) -> Endpoint:
    """The endpoint with old pods that leave at once, whatever `spec.rollout.maxUnavailable` says."""
    rollout = ep.spec.rollout.model_copy(update={"max_unavailable": ALL_PODS})
    return ep.model_copy(update={"spec": ep.spec.model_copy(update={"rollout": rollout})})


def nothing_to_protect(
    wanted: Mapping[str, Any], live: Mapping[str, Any] | None, pods: Iterable[Mapping[str, Any]]
) -> bool:
    """True while a rollout goes on, or is about to begin, no pod serves and in none of them a server runs.

    Otherwise a pod that can never serve would keep the accelerator that its corrected successor needs: with
    `maxUnavailable: 0` Kubernetes keeps it until the new one is ready. A server that runs is no such pod: it loads,
    or missed a probe, or its node does not answer, and may serve long before a successor does.
    wanted, live: the Deployment.  pods: those of the endpoint.
    """
    if any(_runs(pod) for pod in pods):
        return False
    if live is None:
        return False
    status = live.get("status") or {}
    if status.get("readyReplicas") or not status.get("replicas"):
        return False
    if differs(wanted["spec"]["template"], live["spec"]["template"]):
        return True
    if status.get("updatedReplicas", 0) < status["replicas"]:
        return True
    unseen = status.get("observedGeneration", 0) < live["metadata"]["generation"]
    strategy = (live["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    return unseen and strategy.get("maxUnavailable") == ALL_PODS


def _runs(pod: Mapping[str, Any]) -> bool:
    containers = pod["status"].get("containerStatuses") or []
    return any(item["name"] == names.SERVER_CONTAINER and "running" in item.get("state", {}) for item in containers)
