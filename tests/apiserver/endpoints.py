"""A ModelEndpoint of the apiserver tier, and what the API server and its audit log say about it."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from local.kubectl import Kubectl, condition

Object = dict[str, Any]
Calls = Callable[[str], Counter[tuple[str, str]]]

CHILDREN = ("deployment", "service", "poddisruptionbudget")
WRITES = ("create", "update", "patch", "delete")
ONE_ENDPOINT = Counter(
    {
        ("patch", "deployments"): 1,
        ("patch", "services"): 1,
        ("patch", "poddisruptionbudgets"): 1,
        ("patch", "modelendpoints/status"): 1,
    }
)


def endpoint(namespace: str, name: str = "demo", **spec: Any) -> Object:
    """An endpoint with a GPU, which stays pending: there is no scheduler. `spec` overrides whole fields."""
    return {
        "apiVersion": "berth.dev/v1alpha1",
        "kind": "ModelEndpoint",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"source": "pvc://models/tiny"},
            "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "6Gi"}},
            **spec,
        },
    }


def status(kubectl: Kubectl, namespace: str, name: str = "demo") -> Object:
    """Its status, empty when there is none yet."""
    found: Object = kubectl.get("mep", name, "-n", namespace).get("status") or {}
    return found


def reason(kubectl: Kubectl, namespace: str, kind: str = "Ready", name: str = "demo") -> str:
    """The reason of one of its conditions."""
    return str(condition({"status": status(kubectl, namespace, name)}, kind).get("reason", ""))


def waits_for_pods(kubectl: Kubectl, namespace: str, name: str = "demo") -> bool:
    """True when all children are there, and status says so."""
    found = status(kubectl, namespace, name)
    return bool(found.get("problems")) and found["problems"][0]["message"] == "waiting for the scheduler"


def versions(kubectl: Kubectl, namespace: str, name: str = "demo") -> dict[str, str]:
    """resourceVersion of the endpoint and of each child."""
    return {
        kind: kubectl.get(kind, name, "-n", namespace)["metadata"]["resourceVersion"] for kind in ("mep", *CHILDREN)
    }


def writes(calls: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """The part of the calls that changes something."""
    return Counter({call: count for call, count in calls.items() if call[0] in WRITES})


def only_pod(kubectl: Kubectl, namespace: str) -> str:
    """Name of the only pod in the namespace."""
    pods = kubectl.get("pods", "-n", namespace)["items"]
    assert len(pods) == 1
    return str(pods[0]["metadata"]["name"])


def patch_pod_status(kubectl: Kubectl, namespace: str, pod: str, new: Object) -> None:
    """What a kubelet would report."""
    kubectl.run(
        "patch", "pod", pod, "-n", namespace, "--subresource=status", "--type=merge", "-p", json.dumps({"status": new})
    )
