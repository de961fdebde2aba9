"""Looks at the load of every endpoint with `spec.scaling`, and keeps what was decided for the next pass.

A standby looks too: when it comes to lead, it knows as much of the last minutes as its predecessor.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import structlog

from berth.api.conditions import Reason
from berth.api.names import Key
from berth.api.scaling import Actuator
from berth.api.spec import Endpoint
from berth.decide import load, scaling
from berth.decide.admit import Refusal
from berth.decide.demand import Bounds, Limit, Signals, State, begin
from berth.decide.observed import Scaled, is_ready
from berth.decide.parse import parse
from berth.decide.plan import prunable
from berth.kube.cache import Cache
from berth.kube.resources import DEPLOYMENTS, ENDPOINTS, PODS
from berth.loads import SILENT_SECONDS, Loads

Object = dict[str, Any]

LOOK_SECONDS = 5.0
TOLD_SECONDS = 30.0
"""Numbers alone change status at most so often."""
DARK_SECONDS = 3 * SILENT_SECONDS
"""For so long a pod may fail to tell its load before it is said."""
FULL_SECONDS = 600.0
"""Longer than a node takes to come: without room for so long, no more replicas are asked for."""
TARGET_MOVES = 0.05
"""A target that is measured moves when it differs by more: what it is divided by is part of a sentence."""
SAME_TIME_SECONDS = 15.0

log = structlog.get_logger()


class Demand(NamedTuple):
    """in_flight: requests that run or wait, smoothed.  target: of them per replica."""

    in_flight: float
    target: float


@dataclass
class _Watched:
    """ep: the endpoint that all of this is about.

    capacity: as last known.  start_seconds: the shortest start.  served: by name of a pod, when it was ready last.
    """

    ep: Endpoint
    state: State
    target: float | None = None
    capacity: float | None = None
    start_seconds: float | None = None
    served: dict[str, float] = field(default_factory=dict)
    full_since: float | None = None
    dark_since: float | None = None
    told_all: bool = False
    scaled: Scaled | None = None
    told_at: float = float("-inf")
    lower_at: float | None = None
    lower_after: str | None = None


class Scaler:
    """wake: wants a pass of an endpoint.  clock: monotonic seconds.

    time_in: RFC 3339 time of day in so many seconds.
    """

    def __init__(
        self,
        loads: Loads,
        cache: Cache,
        wake: Callable[[Key], None],
        clock: Callable[[], float],
        time_in: Callable[[float], str],
    ) -> None:
        self._loads = loads
        self._cache = cache
        self._wake = wake
        self._clock = clock
        self._time_in = time_in
        self._watched: dict[Key, _Watched] = {}

    async def run(self) -> None:
        """Look at all endpoints every LOOK_SECONDS. Never returns."""
        while True:
            began = self._clock()
            keys = list(self._cache.endpoints())
            for gone in self._watched.keys() - set(keys):
                del self._watched[gone]
            await asyncio.gather(*map(self._look_safely, keys))
            self._loads.forget_old()
            await asyncio.sleep(max(0.0, began + LOOK_SECONDS - self._clock()))

    async def _look_safely(self, key: Key) -> None:
        try:
            await self.look(key)
        except Exception:  # what is wrong with one endpoint must not end the looks at all others
            log.exception("look_failed", endpoint=str(key))

    def scaled(self, ep: Endpoint) -> Scaled | None:
        """What was decided last for this endpoint."""
        watched = self._watched.get(Key(ep.namespace, ep.name))
        return watched.scaled if watched and watched.ep.uid == ep.uid else None

    def demand(self, key: Key) -> Demand | None:
        """What the load of an endpoint asks for, None while it is not known: that is not zero."""
        watched = self._watched.get(key)
        if watched is None or watched.target is None or not watched.told_all or not watched.state.demands:
            return None
        seen_at, demand = watched.state.demands[-1]
        if self._clock() - seen_at > 3 * LOOK_SECONDS:
            return None
        return Demand(demand, watched.target)

    def demands(self) -> Iterator[tuple[Key, Demand]]:
        """Those that are known."""
        return ((key, found) for key in self._watched if (found := self.demand(key)) is not None)

    async def look(self, key: Key) -> None:
        """Ask the ready pods of one endpoint, and decide."""
        endpoint = self._cache.get(ENDPOINTS, key.namespace, key.name)
        ep = self._parsed(key, endpoint) if endpoint is not None else None
        spec = ep.spec.scaling if ep is not None else None
        if ep is None or spec is None or ep.spec.suspend or spec.actuator == Actuator.HPA:
            self._watched.pop(key, None)  # the metric of an HPA is not Berth's
            return
        deployment = self._cache.get(DEPLOYMENTS, key.namespace, key.name)
        if deployment is None or not prunable(ep, deployment):
            return  # deleted by hand, or that of an endpoint before: it comes, as it was decided
        replicas, watched = deployment["spec"].get("replicas", 1), self._watched.get(key)
        if watched is None or (watched.ep.uid, watched.ep.spec.scaling) != (ep.uid, spec):
            watched = self._watched[key] = _Watched(ep, begin(replicas, self._clock()))
        elif watched.ep.generation != ep.generation:
            watched.start_seconds = None  # another model may load for longer
        watched.ep = ep
        pods = self._cache.of(PODS, key)
        staying = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        ready = [pod for pod in staying if is_ready(pod)]
        # Also those that leave: what they still have to do would otherwise seem to be gone.
        told = await self._loads.ask([pod for pod in pods if pod["metadata"].get("deletionTimestamp") or is_ready(pod)])
        loads = {name: told[name] for pod in ready if (name := pod["metadata"]["name"]) in told}
        first = not watched.state.samples
        decision = self._decide(watched, staying, ready, deployment, told, loads)
        if first and watched.state.samples and ready and decision.replicas != replicas:
            return  # one look alone may have caught a burst
        leaving = load.least_busy(ready, loads, replicas - decision.replicas)
        self._keep(key, watched, decision, self._active(watched, ready, loads), leaving)

    def _parsed(self, key: Key, endpoint: Object) -> Endpoint | None:
        meta, watched = endpoint["metadata"], self._watched.get(key)
        if meta.get("deletionTimestamp") or not endpoint["spec"].get("scaling"):
            return None
        if watched is not None and (watched.ep.uid, watched.ep.generation) == (meta["uid"], meta["generation"]):
            return watched.ep
        ep = parse(endpoint)
        return None if isinstance(ep, Refusal) else ep

    def _decide(
        self,
        watched: _Watched,
        staying: list[Object],
        ready: list[Object],
        deployment: Object,
        told: load.Loads,
        loads: load.Loads,
    ) -> scaling.Decision:
        spec, now = watched.ep.spec.scaling, self._clock()
        assert spec is not None
        watched.capacity = load.capacity(loads) or watched.capacity
        target = load.target_in_flight(spec, loads, watched.capacity)
        if watched.target is None or abs(target - watched.target) > TARGET_MOVES * watched.target:
            watched.target = _rounded(target)
        started = [found for found in (load.start_seconds(staying), watched.start_seconds) if found is not None]
        watched.start_seconds = min(started, default=None)
        room = load.room(watched.ep, staying, deployment)
        watched.full_since = None if room is None else watched.full_since or now
        names, is_now = {pod["metadata"]["name"] for pod in staying}, {pod["metadata"]["name"] for pod in ready}
        # A pod that was ready a while ago may have requests that nobody tells of.
        served = {name: at for name, at in watched.served.items() if name in names and now - at < DARK_SECONDS}
        watched.served = served | dict.fromkeys(is_now, now)
        flights = {name: flight for name, each in told.items() if (flight := load.in_flight(each)) is not None}
        signals = Signals(
            now=now,
            in_flight=sum(flights.values()) if flights.keys() & is_now else None,
            complete=flights.keys() >= watched.served.keys(),
            replicas=deployment["spec"].get("replicas", 1),
            ready=len(ready),
            rolling=_rolling(deployment),
            cold_start_seconds=watched.start_seconds or load.START_SECONDS,
            room=room.replicas if room else None,
            room_limit=room.limit if room else Limit.QUOTA,
            full=room is not None and _is_full(room, now - (watched.full_since or now)),
        )
        assert watched.target is not None
        watched.told_all = signals.complete and signals.in_flight is not None
        watched.state, decision = scaling.decide(watched.state, Bounds(spec.min, spec.max, watched.target), signals)
        return decision

    def _active(self, watched: _Watched, ready: list[Object], loads: load.Loads) -> tuple[bool, Reason, str]:
        """What holds now; that pods do not tell their load, only when it has lasted."""
        told = sum(load.in_flight(each) is not None for each in loads.values())
        found = _active(len(ready), len(loads), told)
        if not ready or found[0]:
            watched.dark_since = None
            return found
        watched.dark_since = watched.dark_since or self._clock()
        before = watched.scaled
        waits = self._clock() - watched.dark_since < DARK_SECONDS
        return before.active if before is not None and waits else found

    def _keep(
        self,
        key: Key,
        watched: _Watched,
        decision: scaling.Decision,
        active: tuple[bool, Reason, str],
        leaving: tuple[str, ...],
    ) -> None:
        before = watched.scaled
        status = {
            "desired": decision.replicas,
            "demand": _rounded(decision.demand),
            "targetPerReplica": _rounded(watched.target),
            "explanation": decision.explanation,
            "limitedBy": decision.limited_by,
            "lowerAfter": self._lower_after(watched, decision.change_after_seconds),
        }
        status = {name: value for name, value in status.items() if value is not None}
        same = before is not None and (before.replicas, before.active) == (decision.replicas, active)
        if before is not None and same and (before.status == status or self._clock() - watched.told_at < TOLD_SECONDS):
            watched.scaled = replace(before, leaving=leaving)
            return
        watched.scaled = Scaled(decision.replicas, leaving, status, active)
        watched.told_at = self._clock()
        self._wake(key)

    def _lower_after(self, watched: _Watched, seconds: float | None) -> str | None:
        at = None if seconds is None else self._clock() + seconds
        if at is None or watched.lower_at is None or abs(at - watched.lower_at) > SAME_TIME_SECONDS:
            watched.lower_at = at
            watched.lower_after = None if seconds is None else self._time_in(seconds)
        return watched.lower_after


def initial(ep: Endpoint, deployment: Object | None) -> int:
    """Replicas until something is decided: as many as there are, or the least."""
    bounds = ep.spec.scaling
    assert bounds is not None
    live = deployment["spec"].get("replicas", 1) if deployment is not None else bounds.min
    return min(max(live, bounds.min), bounds.max)


def _active(ready: int, answered: int, told: int) -> tuple[bool, Reason, str]:
    if not ready:
        return (False, Reason.NO_READY_PODS, "no pod is ready that could tell its load")
    if answered < ready:
        text = f"{ready - answered} of {ready} ready pods do not tell their load at port 8001"
        return (False, Reason.PODS_UNREACHABLE, text)
    if told < answered:
        return (False, Reason.METRICS_MISSING, f"vLLM has no numbers of requests in {answered - told} of {ready} pods")
    text = f"all {ready} ready pods tell their load" if ready > 1 else "the ready pod tells its load"
    return (True, Reason.LOAD_KNOWN, text)


def _is_full(room: load.Room, seconds: float) -> bool:
    """Whether to ask for more is idle. A cluster may make room for pods by itself, with another node."""
    return room.limit in (Limit.QUOTA, Limit.PODS_NOT_CREATED) or seconds > FULL_SECONDS


def _rolling(deployment: Object) -> bool:
    status = deployment.get("status") or {}
    unseen = status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0)
    return bool(unseen or status.get("replicas", 0) > status.get("updatedReplicas", 0))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1) if value < 10 else round(value)
