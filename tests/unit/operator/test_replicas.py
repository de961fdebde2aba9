"""How many replicas a pass asks for, and what comes before and after a change of that number.

In: a cache, decisions, autoscalers of others.  Out: the number, marks of pods, events.  The API server is played here:
tests/apiserver/test_scaling.py and test_actuators.py have the real one.
"""

from typing import Any

import pytest

from berth import errors
from berth.api.conditions import Reason
from berth.api.names import DELETION_COST, Key
from berth.api.spec import Endpoint
from berth.decide.asleep import proof
from berth.decide.observed import Scaled
from berth.kube.cache import Cache
from berth.kube.lookups import Autoscaler
from berth.kube.resources import AUTOSCALERS, DEPLOYMENTS, PODS
from berth.replicas import LEAVES, MARK_SECONDS, Replicas
from tests import builders

KEY = Key(builders.NAMESPACE, "demo")
SCALING = {"min": 1, "max": 5}
ACTIVE = (True, Reason.LOAD_KNOWN, "known")
METRIC = {"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}}


class Rig:
    """A Deployment, its pods `demo-0` …, what the scaler has decided, and who else scales."""

    def __init__(self, live: int, decided: Scaled | None = None, rival: Autoscaler | None = None) -> None:
        self.time, self.version = 1000.0, 0
        self.decided, self.rival = decided, rival
        self.asked = 0
        self.patches: list[tuple[str, str | None]] = []
        self.events: list[dict[str, Any]] = []
        self.refusal: Exception | None = None
        self.cache = Cache()
        self.has(live)
        for number in range(live):
            self.put(PODS, builders.pod(f"demo-{number}"))
        self.replicas = Replicas(self, self.cache, self, self, lambda: self.time, lambda: builders.T1)  # type: ignore[arg-type]

    def put(self, resource: Any, obj: dict[str, Any]) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.cache.put(resource, obj)

    def has(self, live: int, uid: str = "uid-of-demo") -> dict[str, Any]:
        """The Deployment asks for so many."""
        owner = {"kind": "ModelEndpoint", "name": "demo", "uid": uid, "controller": True}
        meta = {"name": "demo", "namespace": builders.NAMESPACE, "uid": "d", "ownerReferences": [owner]}
        found = {"metadata": meta, "spec": {"replicas": live}}
        self.put(DEPLOYMENTS, found)
        return found

    # What the real client, lookups and scaler have.

    async def annotate(self, resource: Any, namespace: str, name: str, uid: str, annotations: dict[str, Any]) -> Any:
        if self.refusal is not None:
            raise self.refusal
        self.patches.append((name, annotations[DELETION_COST]))
        pod = builders.pod(name)
        pod["metadata"]["annotations"] = {key: value for key, value in annotations.items() if value is not None}
        self.version += 1
        pod["metadata"]["resourceVersion"] = str(self.version)
        return pod

    async def create(self, resource: Any, manifest: dict[str, Any]) -> None:
        self.events.append(manifest)

    async def autoscaler(self, namespace: str, name: str) -> Autoscaler | None:
        self.asked += 1
        return self.rival

    def scaled(self, ep: Endpoint) -> Scaled | None:
        return self.decided


def decided(replicas: int, *leaving: str) -> Scaled:
    return Scaled(replicas, leaving, {"desired": replicas, "explanation": "because"}, ACTIVE)


def foreign() -> dict[str, Any]:
    return {"conditions": [{"type": "ScalingActive", "status": "False", "reason": "ForeignAutoscaler"}]}


async def test_the_number_is_the_decision_within_the_bounds_of_now() -> None:
    for wanted, expect in ((3, 3), (9, 5), (0, 1)):
        ep, _ = await Rig(2, decided(wanted)).replicas.decide(builders.parsed(scaling=SCALING), {})
        assert (ep.wanted_replicas, ep.replicas_left) == (expect, False)


async def test_until_something_is_decided_it_is_what_there_is() -> None:
    rig = Rig(4)
    assert (await rig.replicas.decide(builders.parsed(scaling=SCALING), {}))[0].wanted_replicas == 4
    rig.has(4, uid="another")
    assert (await rig.replicas.decide(builders.parsed(scaling=SCALING), {}))[0].wanted_replicas == 1


async def test_suspended_there_are_none_and_nothing_of_scaling_is_told() -> None:
    rig = Rig(3, decided(3), Autoscaler("theirs", False))
    ep, scaled = await rig.replicas.decide(builders.parsed(scaling=SCALING, suspend=True), {})
    assert (ep.wanted_replicas, scaled, rig.asked) == (0, None, 0)


@pytest.mark.parametrize("spec", [{"scaling": SCALING}, {"replicas": 2}], ids=["scaling", "replicas"])
async def test_another_autoscaler_has_its_way(spec: dict[str, Any]) -> None:
    rig = Rig(4, decided(2), Autoscaler("theirs", False))
    ep, scaled = await rig.replicas.decide(builders.parsed(**spec), {})
    assert (ep.wanted_replicas, ep.replicas_left) == (4, True)
    assert scaled is not None and scaled.active[:2] == (False, Reason.FOREIGN_AUTOSCALER)
    rig.has(2)
    assert (await rig.replicas.decide(builders.parsed(**spec), {}))[0].replicas_left, "they agree for now"
    rig.rival = None
    ep, _ = await rig.replicas.decide(builders.parsed(**spec), {})
    assert (ep.wanted_replicas, ep.replicas_left) == (2, False)


async def test_a_new_operator_remembers_another_autoscaler_by_status() -> None:
    rig = Rig(4, decided(4), Autoscaler("theirs", False))
    assert not (await rig.replicas.decide(builders.parsed(scaling=SCALING), {}))[0].replicas_left
    assert (await rig.replicas.decide(builders.parsed(scaling=SCALING), foreign()))[0].replicas_left


async def test_an_autoscaler_that_does_nothing_at_zero_is_given_a_start() -> None:
    rig = Rig(0, None, Autoscaler("theirs", False))
    assert (await rig.replicas.decide(builders.parsed(replicas=2), {}))[0].wanted_replicas == 2
    rig.rival = Autoscaler("keda-hpa-theirs", True)
    assert (await rig.replicas.decide(builders.parsed(replicas=2), {}))[0].wanted_replicas == 0


async def test_between_mark_and_fewer_replicas_is_time_however_many_passes_there_are() -> None:
    rig = Rig(3, decided(2, "demo-1"))
    ep, scaled = await rig.replicas.decide(builders.parsed(scaling=SCALING), {})
    assert await rig.replicas.mark(ep, scaled) == MARK_SECONDS
    assert rig.patches == [("demo-1", LEAVES)]
    rig.time += 0.5
    assert await rig.replicas.mark(ep, scaled) == MARK_SECONDS - 0.5
    rig.time += 1.0
    assert await rig.replicas.mark(ep, scaled) == 0
    assert len(rig.patches) == 1


async def test_a_new_leader_waits_as_well_and_marks_nothing_again() -> None:
    rig = Rig(3, decided(2, "demo-1"))
    ep, scaled = await rig.replicas.decide(builders.parsed(scaling=SCALING), {})
    await rig.replicas.mark(ep, scaled)
    rig.patches.clear()
    successor = Replicas(rig, rig.cache, rig, rig, lambda: rig.time, lambda: "")  # type: ignore[arg-type]
    assert await successor.mark(ep, scaled) == MARK_SECONDS
    assert rig.patches == []


async def test_a_mark_goes_when_the_pod_stays_after_all_and_others_are_left_alone() -> None:
    rig = Rig(3, decided(2, "demo-1"))
    mine = builders.pod("demo-2")
    mine["metadata"]["annotations"] = {DELETION_COST: "100"}
    rig.put(PODS, mine)
    ep, scaled = await rig.replicas.decide(builders.parsed(scaling=SCALING), {})
    await rig.replicas.mark(ep, scaled)
    rig.decided = decided(3)
    ep, scaled = await rig.replicas.decide(builders.parsed(scaling=SCALING), {})
    assert await rig.replicas.mark(ep, scaled) == 0
    assert rig.patches == [("demo-1", LEAVES), ("demo-1", None)]


async def test_a_mark_that_is_refused_stops_nothing() -> None:
    rig = Rig(3, decided(2, "demo-1"))
    rig.refusal = errors.Forbidden(403, "a policy")
    ep, scaled = await rig.replicas.decide(builders.parsed(scaling=SCALING), {})
    rig.time += await rig.replicas.mark(ep, scaled)
    assert await rig.replicas.mark(ep, scaled) == 0


async def test_an_event_tells_what_was_written_and_nothing_else() -> None:
    rig = Rig(1, decided(3))
    ep, scaled = await rig.replicas.decide(builders.parsed(scaling=SCALING), {})
    await rig.replicas.tell(ep, rig.has(1), rig.has(1), scaled)  # the write was not made, or undone at once
    await rig.replicas.tell(ep, rig.has(3), rig.has(3), scaled)
    await rig.replicas.tell(ep, None, rig.has(3), scaled)
    assert rig.events == []
    await rig.replicas.tell(ep, rig.has(1), rig.has(3), scaled)
    assert [(event["reason"], event["message"]) for event in rig.events] == [("ScaledUp", "from 1 to 3: because")]


async def test_an_actuator_of_our_own_has_the_number_from_when_it_is_there() -> None:
    rig = Rig(3)
    wide = builders.parsed(scaling=SCALING | {"actuator": "HPA", "metric": METRIC})
    ep, scaled = await rig.replicas.decide(wide, {})
    assert scaled is not None and scaled.active[1] == Reason.KEDA_MISSING, "kinds that were never listed"
    rig.cache.replace(AUTOSCALERS, [], "1")
    ep, _ = await rig.replicas.decide(wide, {})
    assert (ep.autoscaler, ep.wanted_replicas, ep.replicas_left) == ("HPA", 3, False)
    child = {"metadata": rig.has(3)["metadata"] | {"uid": "h"}, "spec": {}, "status": {}}
    rig.put(AUTOSCALERS, child)
    rig.has(7)
    ep, scaled = await rig.replicas.decide(wide, {})
    assert (ep.autoscaler, ep.wanted_replicas, ep.replicas_left) == ("HPA", 7, True)
    assert scaled is not None and scaled.active[2].endswith("has not said anything yet")


async def test_an_actuator_of_our_own_is_away_while_the_endpoint_sleeps_and_begins_with_what_is_held() -> None:
    rig = Rig(3, decided(0))
    rig.cache.replace(AUTOSCALERS, [], "1")
    spec = {"min": 0, "max": 5, "actuator": "HPA", "metric": METRIC}
    wide = builders.parsed(scaling=spec)
    child = {"metadata": rig.has(3)["metadata"] | {"uid": "h"}, "spec": {}, "status": {}}
    rig.put(AUTOSCALERS, child)
    ep, scaled = await rig.replicas.decide(wide, {})
    assert (ep.autoscaler, ep.wanted_replicas, ep.replicas_left) == (None, 0, False)
    assert scaled == decided(0)
    rig.rival = Autoscaler("demo", False)
    assert not (await rig.replicas.decide(wide, {}))[0].replicas_left, "its own is no other one's"
    rig.put(AUTOSCALERS, {**child, "metadata": child["metadata"] | {"deletionTimestamp": builders.T1}})
    assert not (await rig.replicas.decide(wide, {}))[0].replicas_left, "nor while it is being deleted"
    rig.cache.replace(AUTOSCALERS, [], str(rig.version + 1))
    assert (await rig.replicas.decide(wide, {}))[0].replicas_left
    rig.rival = None
    rig.put(AUTOSCALERS, child)

    rig.has(0)
    rig.decided = decided(4)
    for there in (True, False):
        ep, _ = await rig.replicas.decide(wide, {})
        assert (ep.autoscaler, ep.wanted_replicas, ep.replicas_left) == ("HPA", 4, False), there
        rig.cache.replace(AUTOSCALERS, [], str(rig.version + 1))
    rig.has(4)
    rig.put(AUTOSCALERS, child)
    rig.has(2)
    ep, _ = await rig.replicas.decide(wide, {})
    assert (ep.autoscaler, ep.wanted_replicas, ep.replicas_left) == ("HPA", 2, True)

    rig.has(0)
    rig.decided = None
    told = {"scaling": {"proven": proof(wide)}}
    assert (await rig.replicas.decide(wide, told))[0].wanted_replicas == 0, "a new operator knows nothing better"
    assert (await rig.replicas.decide(wide, {}))[0].wanted_replicas == 1


async def test_what_was_decided_before_another_actuator_had_the_number_is_not_its_first_one() -> None:
    rig = Rig(0, decided(4))
    rig.cache.replace(AUTOSCALERS, [], "1")
    wide = builders.parsed(scaling=SCALING | {"min": 2, "actuator": "HPA", "metric": METRIC})
    assert (await rig.replicas.decide(wide, {}))[0].wanted_replicas == 2


async def test_where_none_stays_no_pod_is_marked() -> None:
    rig = Rig(2, decided(0, "demo-0", "demo-1"))
    ep, scaled = await rig.replicas.decide(builders.parsed(scaling={"min": 0, "max": 5}), {})
    assert await rig.replicas.mark(ep, scaled) == 0
    assert rig.patches == []
