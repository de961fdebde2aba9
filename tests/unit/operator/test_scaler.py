"""Looks at loads, and what they make known: how many replicas, which pods go, and when status hears of it.

In: a cache of objects, loads by pod IP, a clock that the test moves.  Out: what was decided, which passes were wanted.
Only the launchers' answers are played.
"""

from collections.abc import Sequence
from typing import Any

from berth.api.conditions import Reason
from berth.api.names import Key
from berth.api.spec import Endpoint
from berth.kube.cache import Cache
from berth.kube.launchers import LOAD
from berth.kube.resources import DEPLOYMENTS, ENDPOINTS, PODS
from berth.loads import SILENT_SECONDS, Loads
from berth.scaler import FULL_SECONDS, LOOK_SECONDS, TOLD_SECONDS, Scaler, initial
from tests import builders

KEY = Key(builders.NAMESPACE, "demo")
SCALING = {"min": 1, "max": 4, "target": {"inFlightPerReplica": 10}}


class Rig:
    """One endpoint with `scaling`, and its pods `demo-0`, `demo-1` …, each with so many requests as `flights` says."""

    def __init__(self, replicas: int = 1, **scaling: Any) -> None:
        self.now, self.version = 1000.0, 1
        self.flights: dict[str, float] = {}
        self.told: dict[str, float] = {}
        self.asked: list[str] = []
        self.woken: list[Key] = []
        self.cache = Cache()
        self.scaler = Scaler(
            Loads(self._fetch, lambda: self.now),
            self.cache,
            self.woken.append,
            lambda: self.now,
            lambda seconds: f"{self.now + seconds:.0f}",
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
    assert initial(ep, None) == 2
    assert [initial(ep, {"spec": {"replicas": count}}) for count in (1, 3, 9)] == [2, 3, 4]


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
