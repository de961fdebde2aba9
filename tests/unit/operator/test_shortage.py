"""Which resource keeps a pod from every node, and by how much."""

from typing import Any, NamedTuple

import pytest

from berth.decide.shortage import pod_requests, shortages
from tests.builders import node, pod

Object = dict[str, Any]
GPU = "nvidia.com/gpu"


def _wants(**requests: str) -> Object:
    return pod(requests={GPU if name == "gpu" else name: value for name, value in requests.items()})


def _on(name: str, **requests: str) -> Object:
    found = _wants(**requests)
    found["spec"]["nodeName"] = name
    return found


class Case(NamedTuple):
    name: str
    pod: Object
    nodes: list[Object]
    bound: list[Object]
    expect: list[str]


CASES = [
    Case("it fits", _wants(gpu="1"), [node("a", {GPU: "1"})], [], []),
    Case("it fits exactly beside others", _wants(gpu="1"), [node("a", {GPU: "2"})], [_on("a", gpu="1")], []),
    Case("one GPU is short", _wants(gpu="2"), [node("a", {GPU: "2"})], [_on("a", gpu="1")],
         ["the pod needs 2 nvidia.com/gpu; the node with the most left, a, has 1 of 2 free: 1 short"]),
    Case("the node with the most left is named", _wants(gpu="4"), [node("a", {GPU: "2"}), node("b", {GPU: "8"})],
         [_on("b", gpu="5")],
         ["the pod needs 4 nvidia.com/gpu; the node with the most left, b, has 3 of 8 free: 1 short"]),
    Case("no node has any", _wants(gpu="1"), [node("a", {"cpu": "4"})], [],
         ["the pod needs 1 nvidia.com/gpu, and no node has any"]),
    Case("a node that offers none of it has none", _wants(gpu="1"), [node("a", {GPU: "0"})], [],
         ["the pod needs 1 nvidia.com/gpu, and no node has any"]),
    Case("a cordoned node does not count", _wants(gpu="1"), [node("a", {GPU: "8"}, unschedulable=True), node("b")], [],
         ["the pod needs 1 nvidia.com/gpu, and no node has any"]),
    Case("memory in units for people", _wants(memory="64Gi"), [node("a", {"memory": "32Gi"})],
         [_on("a", memory="512Mi")],
         ["the pod needs 64.0Gi memory; the node with the most left, a, has 31.5Gi of 32.0Gi free: 32.5Gi short"]),
    Case("cpu in parts", _wants(cpu="1500m"), [node("a", {"cpu": "2"})], [_on("a", cpu="1")],
         ["the pod needs 1.5 cpu; the node with the most left, a, has 1 of 2 free: 0.5 short"]),
    Case("GPUs are named before the rest", _wants(cpu="9", gpu="9"), [node("a", {"cpu": "1", GPU: "1"})], [],
         ["the pod needs 9 nvidia.com/gpu; the node with the most left, a, has 1 of 1 free: 8 short",
          "the pod needs 9 cpu; the node with the most left, a, has 1 of 1 free: 8 short"]),
    Case("a node that is overcommitted has nothing, not less", _wants(cpu="1"), [node("a", {"cpu": "1"})],
         [_on("a", cpu="3")], ["the pod needs 1 cpu; the node with the most left, a, has 0 of 1 free: 1 short"]),
    Case("each fits on some node: no single resource is short", _wants(cpu="4", gpu="1"),
         [node("a", {"cpu": "4"}), node("b", {"cpu": "1", GPU: "1"})], [], []),
    Case("without nodes nothing can be said", _wants(gpu="1"), [], [], []),
    Case("a pod that asks for nothing lacks nothing", _wants(), [node("a")], [], []),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_shortages(case: Case) -> None:
    assert [str(found) for found in shortages(case.pod, case.nodes, case.bound)] == case.expect


def test_the_order_of_nodes_does_not_matter() -> None:
    nodes = [node("a", {GPU: "2"}), node("b", {GPU: "8"}), node("c", {GPU: "1"})]
    told = {
        str(shortages(_wants(gpu="9"), order, [])) for order in (nodes, nodes[::-1], [nodes[1], nodes[2], nodes[0]])
    }
    assert len(told) == 1


class Requests(NamedTuple):
    name: str
    containers: list[Object]
    init: list[Object]
    expect: dict[str, int]


def _container(restart: str | None = None, limits: Object | None = None, **requests: str) -> Object:
    found: Object = {"name": "x", "resources": {"requests": requests, "limits": limits or {}}}
    return found | ({"restartPolicy": restart} if restart else {})


REQUESTS = [
    Requests("containers add up", [_container(cpu="1"), _container(cpu="2")], [], {"cpu": 3}),
    Requests("the largest init container counts when it is more", [_container(cpu="1")],
             [_container(cpu="4"), _container(cpu="2")], {"cpu": 4}),
    Requests("and not when it is less", [_container(cpu="5")], [_container(cpu="4")], {"cpu": 5}),
    Requests("a sidecar adds up", [_container(cpu="1")], [_container("Always", cpu="2")], {"cpu": 3}),
    Requests("a limit is the request that is not there", [_container(limits={GPU: "2"})], [], {GPU: 2}),
    Requests("a request counts, not its limit", [_container(limits={"cpu": "8"}, cpu="1")], [], {"cpu": 1}),
    Requests("no resources", [{"name": "x"}], [], {}),
]  # fmt: skip


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_pod_requests(case: Requests) -> None:
    found = pod_requests({"spec": {"containers": case.containers, "initContainers": case.init}})
    assert found == case.expect
