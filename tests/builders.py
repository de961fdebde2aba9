"""Objects for tests: raw dicts, valid by default, one override per test.

`endpoint` is what the API server hands out, `parsed` what decisions take, `live` a child as it comes back from the API
server after an apply. Times are RFC 3339; T0 is before T1.
"""

import copy
from typing import Any

from berth.api.names import API_VERSION, ENDPOINT_LABEL, KIND, MANAGED_BY, MANAGED_BY_LABEL
from berth.api.spec import Endpoint
from berth.decide.admit import Refusal
from berth.decide.observed import ChildId, Observed
from berth.decide.parse import parse
from berth.desired.children import children
from berth.desired.platform import Platform

Object = dict[str, Any]

T0 = "2026-01-02T03:04:05Z"
T1 = "2026-01-02T03:05:05Z"
NAMESPACE = "team-a"
PLATFORM = Platform(server_image="example.test/vllm:v1", payload_image="example.test/berth-server:v1")


def endpoint(
    name: str = "demo",
    *,
    namespace: str = NAMESPACE,
    uid: str = "uid-of-demo",
    generation: int = 1,
    status: Object | None = None,
    **spec: Any,
) -> Object:
    """A ModelEndpoint. `spec` overrides whole fields of spec: model, server, replicas, podTemplate …"""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "generation": generation,
            "resourceVersion": "1",
            "creationTimestamp": T0,
        },
        "spec": {"model": {"source": "hf://org/model"}, "replicas": 1, **spec},
        **({"status": status} if status is not None else {}),
    }


def parsed(name: str = "demo", **given: Any) -> Endpoint:
    """`endpoint(…)`, parsed."""
    found = parse(endpoint(name, **given))
    assert not isinstance(found, Refusal), found.message
    return found


def pod(
    name: str = "demo-abc",
    *,
    endpoint: str = "demo",
    namespace: str = NAMESPACE,
    node: str | None = "node-1",
    phase: str = "Running",
    ready: bool = True,
    scheduled: Object | None = None,
    containers: list[Object] | None = None,
    init: list[Object] | None = None,
    requests: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    version: int = 1,
    **status: Any,
) -> Object:
    """A pod of an endpoint, ready by default.

    scheduled: the PodScheduled condition without its type.  containers, init: container statuses.
    requests: resources of the server container.  status: further fields of status, such as podIP or message.
    """
    conditions = [
        {"type": "PodScheduled", **(scheduled or {"status": "True"})},
        {"type": "Ready", "status": str(ready)},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-of-{name}",
            "resourceVersion": str(version),
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, ENDPOINT_LABEL: endpoint} if labels is None else labels,
        },
        "spec": {
            "nodeName": node,
            "containers": [{"name": "server", "resources": {"requests": requests or {}}}],
            "initContainers": [{"name": "berth-payload"}],
        },
        "status": {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": containers or [],
            "initContainerStatuses": init or [],
            **status,
        },
    }


def container(
    name: str = "server", *, ready: bool = False, restarts: int = 0, last: Object | None = None, **state: Any
) -> Object:
    """A container status. state: one of running, waiting, terminated.  last: how it ended before."""
    return {
        "name": name,
        "image": "example.test/vllm:v1",
        "ready": ready,
        "restartCount": restarts,
        "state": state,
        "lastState": {"terminated": last} if last else {},
    }


def node(name: str = "node-1", allocatable: dict[str, str] | None = None, *, unschedulable: bool = False) -> Object:
    """A node. allocatable: what pods can have of it, by resource name."""
    return {
        "metadata": {"name": name},
        "spec": {"unschedulable": True} if unschedulable else {},
        "status": {"allocatable": allocatable or {}},
    }


def deployment(
    ready: int = 1,
    of: int = 1,
    *,
    updated: int | None = None,
    generation: int = 1,
    observed: int | None = None,
    conditions: list[Object] | None = None,
    ep: Endpoint | None = None,
) -> Object:
    """The live Deployment: `ready` of `of` pods are ready, `updated` of them (all by default) run the current spec.

    observed: generation that the Deployment controller has acted on (the current one by default).
    """
    ep = ep or parsed(replicas=of)
    found = live(children(ep, PLATFORM)[0])
    found["metadata"]["generation"] = generation
    counts = {
        "observedGeneration": generation if observed is None else observed,
        "replicas": of,
        "readyReplicas": ready,
        "updatedReplicas": of if updated is None else updated,
    }
    # The API server leaves out what is 0.
    found["status"] = {name: count for name, count in counts.items() if count} | {"conditions": conditions or []}
    return found


def live(manifest: Object) -> Object:
    """A child as the API server returns it after an apply: identity and defaults filled in, empty values dropped."""
    found = copy.deepcopy(manifest)
    found["metadata"] |= {"uid": f"uid-of-{found['kind']}", "resourceVersion": "10", "generation": 1}
    if found["kind"] == "Service":
        found["spec"] |= {"clusterIP": "10.0.0.10", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}
    if found["kind"] == "Deployment":
        pod_spec = found["spec"]["template"]["spec"]
        pod_spec |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
        for item in [*pod_spec["containers"], *pod_spec["initContainers"]]:
            item.setdefault("imagePullPolicy", "IfNotPresent")
            item |= {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
        for item in pod_spec["containers"]:
            item["env"] = [{k: v for k, v in var.items() if v != ""} for var in item.get("env", [])]
    return found


def observed(ep: Object | None = None, *, live_children: list[Object] | None = None, **seen: Any) -> Observed:
    """What a pass has read. live_children: objects under the children's names."""
    kept = {ChildId(obj["kind"], obj["metadata"]["name"]): obj for obj in live_children or []}
    return Observed(endpoint=ep or endpoint(), children=kept, **seen)
