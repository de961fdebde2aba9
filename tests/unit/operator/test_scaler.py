"""Looks at loads, and what they make known: how many replicas, which pods go, and when status hears of it.

In: a cache of objects, loads by pod IP, a clock that the test moves.  Out: what was decided, which passes were wanted.
Only the launchers' answers are played.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from berth.api.conditions import Reason
from berth.api.names import Key
from berth.api.spec import Endpoint
from berth.decide.asleep import proof
from berth.decide.demand import STABLE_SECONDS
from berth.decide.load import FULL_SECONDS
from berth.decide.look import Told
from berth.kube.cache import Cache
from berth.kube.launchers import LOAD
from berth.kube.resources import DEPLOYMENTS, ENDPOINTS, PODS
from berth.loads import SILENT_SECONDS, Loads
from berth.scaler import LOOK_SECONDS, TOLD_SECONDS, Scaler, initial
from tests import builders

KEY = Key(builders.NAMESPACE, "demo")
SCALING = {"min": 1, "max": 4, "target": {"inFlightPerReplica": 10}}


class Gateways:
    """What they tell of the endpoint."""

    def __init__(self) -> None:
        self.answer = Told(0, False, {}, "no pod of the gateway is ready")
        self.begun = False

    def told(self, uid: str) -> Told:
        assert uid == "uid-of-demo"
        return self.answer

    def begins(self) -> bool:
        return self.begun


class Rig:
    """One endpoint with `scaling`, and its pods `demo-0`, `demo-1` …, each with so many requests as `flights` says.

    served: namespaces for which there is a gateway.
    """

    def __init__(self, replicas: int = 1, served: Sequence[str] = (builders.NAMESPACE,), **scaling: Any) -> None:
        self.now, self.version = 1000.0, 1
        self.flights: dict[str, float] = {}
        self.told: dict[str, float] = {}
        self.asked: list[str] = []
        self.woken: list[Key] = []
        self.gateways = Gateways()
        self.cache = Cache()
        self.scaler = Scaler(
            Loads(self._fetch, lambda: self.now),
            self.gateways,  # type: ignore[arg-type]
            self.cache,
            self.woken.append,
            lambda: self.now,
            lambda seconds: f"{self.now + seconds:.0f}",
            lambda namespace: namespace in served,
        )
        self.endpoint = builders.endpoint(scaling=SCALING | scaling)
        self.put(ENDPOINTS, self.endpoint)
        self.asks_for(replicas)
        self.pods(replicas)

    async def _fetch(self, ip: str) -> dict[str, Any] | None:
        self.asked.append(ip)
        if ip not in self.flights:
            return None
        return dict.fromkeys(LOAD) | {"running": self.flights[ip], "waiting": 0} | self.told

    def put(self, resource: Any, obj: dict[str, Any]) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.cache.put(resource, obj)

    def asks_for(self, replicas: int, exist: int | None = None, conditions: Sequence[dict[str, Any]] = ()) -> None:
        """The Deployment's number of replicas."""
        exist = replicas if exist is None else exist
        status = {"replicas": exist, "updatedReplicas": exist, "conditions": list(conditions)}
        owner = {"kind": "ModelEndpoint", "name": "demo", "uid": self.endpoint["metadata"]["uid"], "controller": True}
        meta = {"name": "demo", "namespace": builders.NAMESPACE, "uid": "d", "ownerReferences": [owner]}
        self.put(DEPLOYMENTS, {"metadata": meta, "spec": {"replicas": replicas}, "status": status})

    def pods(self, count: int) -> None:
        """So many ready pods, which answer."""
        for number in range(count):
            pod = builders.pod(f"demo-{number}")
            pod["status"] |= {"phase": "Running", "podIP": f"ip-{number}"}
            pod["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": builders.T1}]
            pod["metadata"]["creationTimestamp"] = builders.T0
            self.put(PODS, pod)
            self.flights.setdefault(f"ip-{number}", 0)

    async def look(self, seconds: float = 0.0) -> Any:
        """The decision after so many seconds of looks."""
        end = self.now + max(seconds, LOOK_SECONDS)
        while self.now < end:
            self.now += LOOK_SECONDS
            await self.scaler.look(KEY)
        return self.scaler.scaled(self.ep)

    @property
    def ep(self) -> Endpoint:
        return builders.parsed(scaling=self.endpoint["spec"]["scaling"])


async def test_load_raises_the_count_and_wakes_the_endpoint_at_once() -> None:
    rig = Rig()
    assert (await rig.look()).replicas == 1
    rig.flights["ip-0"] = 35
    rig.woken.clear()
    found = await rig.look(120)
    assert (found.replicas, found.status["desired"], found.status["demand"]) == (4, 4, 35)
    assert found.status["targetPerReplica"] == 10
    assert "35" in found.status["explanation"]
    assert found.active[:2] == (True, Reason.LOAD_KNOWN)
    assert KEY in rig.woken


async def test_numbers_alone_wake_it_seldom() -> None:
    rig = Rig()
    await rig.look(60)
    rig.woken.clear()
    for step in range(24):
        rig.flights["ip-0"] = step % 8
        await rig.look()
    assert 1 <= len(rig.woken) <= 24 * LOOK_SECONDS / TOLD_SECONDS


async def test_nothing_is_told_again_while_nothing_changes() -> None:
    rig = Rig()
    await rig.look(600)
    rig.woken.clear()
    await rig.look(600)
    assert rig.woken == []


async def test_with_less_to_do_the_least_busy_pods_go() -> None:
    rig = Rig(replicas=3)
    rig.flights |= {"ip-0": 4, "ip-1": 1, "ip-2": 3}
    found = await rig.look(1200)
    assert (found.replicas, found.leaving) == (2, ("demo-1",))
    rig.asks_for(2)
    found = await rig.look(600)
    assert (found.replicas, len(found.leaving)) == (1, 2 - 1)


async def test_a_pod_that_cannot_be_asked_is_said_and_nothing_goes() -> None:
    rig = Rig(replicas=2)
    del rig.flights["ip-1"]
    found = await rig.look(3600)
    assert found.replicas == 2
    assert found.status["limitedBy"] == "MetricsMissing"
    assert found.active[:2] == (False, Reason.PODS_UNREACHABLE)
    assert "1 of 2 ready pods" in found.active[2]


async def test_without_a_ready_pod_nothing_is_known() -> None:
    rig = Rig(replicas=2)
    rig.cache.replace(PODS, [], str(rig.version + 1))
    found = await rig.look(3600)
    assert (found.replicas, found.active[:2]) == (2, (False, Reason.NO_READY_PODS))


async def test_an_endpoint_without_scaling_is_not_asked() -> None:
    rig = Rig()
    await rig.look()
    rig.asked.clear()
    del rig.endpoint["spec"]["scaling"]
    rig.put(ENDPOINTS, rig.endpoint)
    await rig.scaler.look(KEY)
    assert (rig.asked, rig.woken[1:]) == ([], [])


async def test_another_object_of_the_same_name_is_judged_anew() -> None:
    rig = Rig(replicas=3)
    rig.flights["ip-0"] = 35
    assert (await rig.look(120)).replicas == 4
    rig.flights = {}
    rig.endpoint["metadata"]["uid"] = "another"
    rig.put(ENDPOINTS, rig.endpoint)
    await rig.look()  # the Deployment is that of the deleted one
    assert rig.scaler.scaled(builders.parsed(uid="another", scaling=SCALING)) is None
    rig.asks_for(3)
    await rig.look()
    assert rig.scaler.scaled(builders.parsed(uid="another", scaling=SCALING)).replicas == 3  # type: ignore[union-attr]
    assert rig.scaler.scaled(rig.ep) is None


def test_until_something_is_decided_there_are_as_many_as_there_were() -> None:
    ep = builders.parsed(scaling=SCALING | {"min": 2})
    assert initial(ep, None, {}) == 2
    assert [initial(ep, {"spec": {"replicas": count}}, {}) for count in (1, 3, 9)] == [2, 3, 4]


async def test_a_deployment_deleted_by_hand_comes_back_as_it_was() -> None:
    rig = Rig(replicas=3)
    rig.flights |= {"ip-0": 9, "ip-1": 9, "ip-2": 9}
    assert (await rig.look(60)).replicas == 3
    rig.cache.replace(DEPLOYMENTS, [], str(rig.version + 1))
    assert (await rig.look()).replicas == 3


async def test_a_pod_that_misses_a_look_now_and_then_is_not_said_and_changes_nothing() -> None:
    rig = Rig(replicas=2)
    rig.flights |= {"ip-0": 9, "ip-1": 9}
    await rig.look(120)
    rig.woken.clear()
    for _ in range(12):
        del rig.flights["ip-1"]
        await rig.look()
        rig.flights["ip-1"] = 9
        assert (await rig.look(20)).active[:2] == (True, Reason.LOAD_KNOWN)
    assert len(rig.woken) <= 12 * 25 / TOLD_SECONDS


async def test_a_pod_that_does_not_answer_is_asked_seldom() -> None:
    rig = Rig()
    rig.flights = {}
    await rig.look(300)
    assert len(rig.asked) == 300 / SILENT_SECONDS


async def test_a_pod_that_was_ready_a_moment_ago_holds_what_there_is() -> None:
    rig = Rig(replicas=2)
    rig.flights |= {"ip-0": 1, "ip-1": 9}
    await rig.look(2)
    pod = rig.cache.get(PODS, builders.NAMESPACE, "demo-1")
    assert pod is not None
    pod["status"]["conditions"][0]["status"] = "False"
    rig.put(PODS, pod)
    assert "not every pod answered" in (await rig.look()).status["explanation"]


async def test_the_first_guess_of_a_target_is_forgotten_when_the_engine_tells() -> None:
    rig = Rig(target={})
    assert (await rig.look()).status["targetPerReplica"] == 5.6
    rig.told = {"max_num_seqs": 100}
    assert (await rig.look(60)).status["targetPerReplica"] == 70
    rig.told |= {"kv_cache_tokens": 4000, "requests": 20, "tokens": 2000}
    assert (await rig.look(60)).status["targetPerReplica"] == 28
    rig.told |= {"requests": 40, "tokens": 4060}
    assert (await rig.look(60)).status["targetPerReplica"] == 28, "a little difference"
    rig.told |= {"requests": 2, "tokens": 20}
    assert (await rig.look(60)).status["targetPerReplica"] == 28, "a new engine does not know better"


async def test_what_keeps_pods_from_running_is_named() -> None:
    rig = Rig(replicas=2)
    rig.flights |= {"ip-0": 20, "ip-1": 20}
    failure = {"type": "ReplicaFailure", "status": "True", "message": 'pods "x" is forbidden: exceeded quota: gpus'}
    rig.asks_for(4, exist=2, conditions=[failure])
    found = await rig.look(60)
    assert (found.replicas, found.status["limitedBy"]) == (4, "Quota")
    assert found.status["explanation"].endswith("the quota allows 2")


async def test_more_is_asked_for_until_a_cluster_has_had_time_to_grow() -> None:
    rig = Rig(max=9)
    waits = builders.pod("demo-1")
    message = "0/3 nodes are available: 3 Insufficient cpu."
    waits["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    ]
    rig.put(PODS, waits)
    rig.asks_for(2)
    rig.flights["ip-0"] = 35
    found = await rig.look(60)
    assert (found.replicas, found.status["limitedBy"]) == (4, "Unschedulable")
    assert found.status["explanation"].endswith("the scheduler finds nodes for 1")
    rig.asks_for(4)
    await rig.look(FULL_SECONDS)
    rig.flights["ip-0"] = 75
    assert (await rig.look(120)).replicas == 4


async def test_a_suspended_endpoint_is_forgotten() -> None:
    rig = Rig()
    await rig.look(60)
    rig.endpoint["spec"]["suspend"] = True
    rig.put(ENDPOINTS, rig.endpoint | {"metadata": rig.endpoint["metadata"] | {"generation": 2}})
    assert await rig.look() is None


async def test_one_look_alone_changes_nothing() -> None:
    rig = Rig()
    rig.flights["ip-0"] = 35
    assert await rig.look() is None
    assert (await rig.look()).replicas == 4


async def test_an_edit_of_scaling_forgets_no_target_that_was_measured() -> None:
    rig = Rig(target={})
    rig.told = {"max_num_seqs": 100, "kv_cache_tokens": 4000, "requests": 20, "tokens": 2000}
    assert (await rig.look(60)).status["targetPerReplica"] == 28
    rig.told = {}
    rig.endpoint["spec"]["scaling"]["max"] = 9
    rig.put(ENDPOINTS, rig.endpoint | {"metadata": rig.endpoint["metadata"] | {"generation": 2}})
    assert (await rig.look(60)).status["targetPerReplica"] == 28
    rig.endpoint["spec"]["scaling"]["target"] = {"inFlightPerReplica": 3}
    rig.put(ENDPOINTS, rig.endpoint | {"metadata": rig.endpoint["metadata"] | {"generation": 3}})
    assert (await rig.look(60)).status["targetPerReplica"] == 3


class Sleeper(Rig):
    """The same with a lower bound of zero, half a minute of idleness, one gateway, and a spec that was proven."""

    def __init__(self, replicas: int = 1, **scaling: Any) -> None:
        super().__init__(replicas, **{"min": 0, "idleSeconds": 30, **scaling})
        self.holds(0)
        self.told |= {"requests": 0, "tokens": 0}
        self.has_proven(proof(self.ep))

    def has_proven(self, spec: str, **told: Any) -> None:
        """What status says."""
        self.put(ENDPOINTS, self.endpoint | {"status": {"scaling": {"proven": spec, **told}}})

    def holds(self, requests: float, ended: float = 0, flying: bool = False) -> None:
        self.gateways.answer = Told(requests, flying, {"gateway": ended})

    def no_pods(self) -> None:
        self.cache.replace(PODS, [], str(self.version + 1))
        self.asks_for(0)


IDLE_SECONDS = 30 + STABLE_SECONDS  # the window until what was needed before is known, and the idleness after it


async def test_it_sleeps_when_neither_pods_nor_gateways_have_counted_anything() -> None:
    rig = Sleeper()
    found = await rig.look(IDLE_SECONDS + 300)
    assert (found.replicas, found.status["explanation"]) == (0, "no requests")
    assert found.active[:2] == (True, Reason.LOAD_KNOWN)


@pytest.mark.parametrize("who", ["a pod", "a gateway", "a pod that was restarted", "one on its way"])
async def test_requests_shorter_than_a_look_keep_it_awake(who: str) -> None:
    rig = Sleeper()
    for number in range(1, 60):
        if who == "a pod":
            rig.told["requests"] = number // 4
        elif who == "a gateway":
            rig.holds(0, ended=number // 4)
        elif who == "a pod that was restarted":
            rig.told["requests"] = number // 4 % 2
        else:
            rig.holds(0, flying=number % 4 == 0)
        assert (await rig.look()).replicas == 1 if number > 1 else await rig.look() is not None
    rig.holds(0)
    assert (await rig.look(IDLE_SECONDS)).replicas == 0


async def test_what_is_not_known_is_not_idle() -> None:
    rig = Sleeper()
    rig.gateways.answer = Told(0, False, {}, "no pod of the gateway is ready")
    found = await rig.look(3600)
    assert (found.replicas, found.status["limitedBy"]) == (1, "GatewayNotReady")
    assert found.active == (False, Reason.GATEWAY_NOT_READY, "no pod of the gateway is ready")
    assert "lowerAfter" not in found.status
    rig.holds(0)
    rig.told["requests"] = None  # type: ignore[assignment]
    assert (await rig.look(3600)).replicas == 1, "a pod that does not count"
    rig.told["requests"] = 0
    del rig.flights["ip-0"]
    rig.holds(3)
    found = await rig.look(3600)
    assert (found.replicas, found.status["limitedBy"]) == (1, "MetricsMissing"), "a pod that does not answer"
    assert found.status["explanation"] == "kept at 1: no pod answered how many requests it has"


async def test_a_spec_that_was_not_proven_does_not_sleep_and_is_woken_for_it() -> None:
    rig = Sleeper()
    rig.has_proven("another")
    found = await rig.look(3600)
    assert (found.replicas, found.status["limitedBy"]) == (1, "NotProven")
    assert found.status["explanation"].startswith("kept at 1 until a pod has proven this spec; ")
    rig.has_proven(proof(rig.ep))
    assert (await rig.look(3600)).replicas == 0
    rig.no_pods()
    await rig.look(60)
    rig.has_proven("another")
    found = await rig.look()
    assert (found.replicas, found.status["limitedBy"]) == (1, "NotProven")


async def test_what_is_held_wakes_it_with_as_many_as_that_takes() -> None:
    rig = Sleeper()
    assert (await rig.look(IDLE_SECONDS + 300)).replicas == 0
    rig.no_pods()
    await rig.look(60)
    rig.woken.clear()
    rig.holds(35)
    found = await rig.look()
    assert (found.replicas, found.status["demand"], rig.woken) == (4, 35, [KEY])
    assert found.active == (True, Reason.LOAD_KNOWN, "no pod is ready; the gateway tells what waits")
    rig.holds(0)  # they all leave again
    for _ in range(120):
        rig.asks_for(found.replicas)
        found = await rig.look()
    assert found.replicas == 1, "what was woken is kept until it was ready once"


async def test_what_one_gateway_holds_wakes_it_while_another_one_is_silent() -> None:
    rig = Sleeper()
    await rig.look(IDLE_SECONDS + 300)
    rig.no_pods()
    rig.gateways.answer = Told(0, False, {"gateway": 0}, "the gateway at b is silent")
    found = await rig.look()
    assert (found.replicas, found.status["limitedBy"]) == (0, "GatewayNotReady")
    assert found.active == (False, Reason.GATEWAY_NOT_READY, "the gateway at b is silent")
    rig.gateways.answer = Told(12, False, {"gateway": 0}, "the gateway at b is silent")
    assert (await rig.look()).replicas == 2


async def test_a_new_operator_decides_nothing_before_a_gateway_has_answered() -> None:
    rig = Sleeper()
    rig.no_pods()
    rig.gateways.begun = True
    rig.gateways.answer = Told(0, False, {}, "no pod of the gateway is ready")
    assert await rig.look(10) is None
    assert rig.woken == []
    rig.holds(1)
    rig.gateways.begun = False
    rig.scaler.held_changed("uid-of-demo")
    await asyncio.wait_for(asyncio.gather(*rig.scaler._looks), 10)
    assert rig.scaler.scaled(rig.ep).replicas == 1  # type: ignore[union-attr]


async def test_a_change_of_what_is_held_is_looked_at_at_once() -> None:
    rig = Sleeper()
    await rig.look(IDLE_SECONDS + 300)
    uid = rig.endpoint["metadata"]["uid"]
    rig.asked.clear()
    rig.scaler.held_changed(uid)
    await asyncio.sleep(0)
    assert rig.asked == [], "pods that are ready are asked by and by"
    rig.no_pods()
    await rig.look()
    rig.holds(1)
    rig.woken.clear()
    rig.scaler.held_changed(uid)
    rig.scaler.held_changed("of an endpoint that is not known")
    await asyncio.wait_for(asyncio.gather(*rig.scaler._looks), 10)
    assert rig.woken == [KEY]
    assert rig.scaler.scaled(rig.ep).replicas == 1  # type: ignore[union-attr]


async def test_asleep_nothing_is_told_again() -> None:
    rig = Sleeper()
    await rig.look(IDLE_SECONDS + 300)
    rig.no_pods()
    await rig.look(120)
    rig.woken.clear()
    await rig.look(3600)
    assert rig.woken == []


async def test_a_start_that_takes_no_time_is_measured_too() -> None:
    rig = Sleeper()
    pod = rig.cache.get(PODS, builders.NAMESPACE, "demo-0")
    assert pod is not None
    pod["status"]["conditions"][0]["lastTransitionTime"] = builders.T0
    rig.put(PODS, {**pod, "metadata": {**pod["metadata"]}})
    found = await rig.look(IDLE_SECONDS)
    assert (found.replicas, found.status["startSeconds"]) == (0, 0), "the window is not that of an unknown start"


async def test_a_start_is_remembered_over_the_sleep_and_over_a_restart() -> None:
    rig = Sleeper()
    assert (await rig.look(IDLE_SECONDS)).status["startSeconds"] == 60
    rig.no_pods()
    assert (await rig.look(120)).status["startSeconds"] == 60
    rig = Sleeper()
    rig.has_proven(proof(rig.ep), startSeconds=41)
    rig.no_pods()
    assert (await rig.look()).status["startSeconds"] == 41
    rig = Sleeper()
    rig.has_proven("another", startSeconds=41)
    rig.no_pods()
    assert "startSeconds" not in (await rig.look()).status, "another model may load for longer"


ENGINE = {"max_num_seqs": 256, "kv_cache_tokens": 400000}


@pytest.mark.parametrize("requests", [10, 100], ids=["too few to tell how long they are", "enough"])
async def test_asleep_the_target_is_that_of_the_pod_that_was(requests: int) -> None:
    rig = Sleeper(target={}, max=10)
    rig.told |= ENGINE | {"requests": requests, "tokens": requests * 500}
    assert (await rig.look(60)).status["targetPerReplica"] == 179
    assert (await rig.look(IDLE_SECONDS + 300)).replicas == 0
    rig.no_pods()
    rig.holds(40)
    found = await rig.look()
    assert (found.replicas, found.status["targetPerReplica"]) == (1, 179)


async def test_a_target_is_remembered_over_a_restart_while_it_sleeps() -> None:
    def asleep(spec: str, **scaling: Any) -> Sleeper:
        rig = Sleeper(**{"target": {}, "max": 10, **scaling})
        rig.has_proven(spec or proof(rig.ep), targetPerReplica=179)
        rig.no_pods()
        rig.holds(40)
        return rig

    found = await asleep("").look()
    assert (found.replicas, found.status["targetPerReplica"]) == (1, 179)
    assert (await asleep("another").look()).status["targetPerReplica"] == 5.6, "another model may be larger"
    found = await asleep("", target={"inFlightPerReplica": 10}).look()
    assert (found.replicas, found.status["targetPerReplica"]) == (4, 10), "the spec has its way"


async def test_where_no_gateway_serves_its_namespace_it_does_not_sleep() -> None:
    rig = Sleeper(served=())
    found = await rig.look(3600)
    assert (found.replicas, found.status["limitedBy"]) == (1, "GatewayNotReady")
    text = f"no gateway serves endpoints of namespace {builders.NAMESPACE}"
    assert found.active == (False, Reason.GATEWAY_NOT_READY, text)
    rig.no_pods()
    assert (await rig.look(3600)).replicas == 0
    rig = Sleeper(served=(builders.NAMESPACE,))
    assert (await rig.look(IDLE_SECONDS + 300)).replicas == 0


async def test_what_another_autoscaler_scales_sleeps_all_the_same() -> None:
    rig = Sleeper(actuator="HPA", metric={})
    assert (await rig.look(IDLE_SECONDS + 300)).replicas == 0
    rig = Sleeper(min=1, idleSeconds=None, actuator="HPA", metric={})
    assert await rig.look(600) is None


def test_a_new_endpoint_begins_with_a_pod_and_one_that_was_proven_as_it_is() -> None:
    ep = builders.parsed(scaling=SCALING | {"min": 0})
    told = {"scaling": {"proven": proof(ep)}}
    asleep = {"spec": {"replicas": 0}}
    assert [initial(ep, live, status) for live in (None, asleep) for status in ({}, told)] == [1, 1, 1, 0]
