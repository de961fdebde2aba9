"""When old pods need not wait for new ones: a rollout goes on and nothing serves."""

import copy
from typing import Any, NamedTuple

import pytest

from berth.decide.plan import make_plan
from berth.decide.rollout import nothing_to_protect, yielding
from berth.desired.deployment import deployment
from tests.builders import PLATFORM, container, endpoint, live, observed, parsed, pod

Object = dict[str, Any]
OTHER = {"server": {"args": {"seed": 1}}}


class Case(NamedTuple):
    name: str
    status: Object
    expect: bool
    changed: bool = False
    generation: int = 1
    live_yields: bool = False
    pods: tuple[Object, ...] = ()


RUNNING = container(running={"startedAt": "x"})
CRASHED = container(waiting={"reason": "CrashLoopBackOff"}, last={"exitCode": 1})
ONE = {"replicas": 1, "updatedReplicas": 1, "observedGeneration": 1}
TWO = {"replicas": 2, "updatedReplicas": 1, "observedGeneration": 1}
CASES = [
    Case("a first start is no rollout", {}, False),
    Case("a start that takes long is no rollout", ONE, False),
    Case("a changed template, and the only pod is broken", ONE, True, changed=True),
    Case("a changed template, and a pod serves", {**ONE, "readyReplicas": 1}, False, changed=True),
    Case("old and new pods, none serves", TWO, True),
    Case("old and new pods, one serves", {**TWO, "readyReplicas": 1}, False),
    Case("a changed template, and the only pod crashes", ONE, True, changed=True,
         pods=(pod(ready=False, containers=[CRASHED, container("sidecar", running={})]),)),
    Case("a changed template, and the only pod is not ready for a moment", ONE, False, changed=True,
         pods=(pod(ready=False, containers=[RUNNING]),)),
    Case("the old pod is not ready for a moment, the new one is broken", TWO, False,
         pods=(pod("new", ready=False, containers=[CRASHED]), pod("old", ready=False, containers=[RUNNING]))),
    Case("the change is not seen by its controller yet", ONE, True, generation=2, live_yields=True),
    Case("another change is not seen yet", ONE, False, generation=2),
    Case("the rollout is over", ONE, False, live_yields=True),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_to_protect(case: Case) -> None:
    ep = parsed()
    found = live(deployment(yielding(ep) if case.live_yields else ep, PLATFORM))
    found["status"], found["metadata"]["generation"] = case.status, case.generation
    wanted = deployment(parsed(**OTHER) if case.changed else ep, PLATFORM)
    assert nothing_to_protect(wanted, found, case.pods) is case.expect


def test_without_a_deployment_there_is_no_rollout() -> None:
    assert not nothing_to_protect(deployment(parsed(), PLATFORM), None, ())


def test_the_correction_of_a_broken_endpoint_lets_its_pod_go_and_protects_the_next() -> None:
    broken = live(deployment(parsed(), PLATFORM))
    broken["status"] = dict(ONE)
    corrected = parsed(**OTHER)
    [first, *_] = make_plan(corrected, observed(endpoint(**OTHER), live_children=[broken]), PLATFORM).apply
    assert first["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": "100%"}

    rolled = live(copy.deepcopy(first))
    rolled["metadata"]["generation"] = 2
    rolled["status"] = {**ONE, "observedGeneration": 2}
    [second, *_] = make_plan(corrected, observed(endpoint(**OTHER), live_children=[rolled]), PLATFORM).apply
    assert second["kind"] == "Deployment"
    assert second["spec"]["strategy"] == deployment(corrected, PLATFORM)["spec"]["strategy"]
    assert second["spec"]["template"] == first["spec"]["template"]
