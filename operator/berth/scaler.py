"""Looks at the load of every endpoint with `spec.scaling`, and keeps what was decided for the next pass.

A standby looks too: when it comes to lead, it knows as much of the last minutes as its predecessor.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import structlog

from berth.api.names import Key
from berth.api.scaling import Actuator
from berth.api.spec import Endpoint
from berth.decide import scaling
from berth.decide.admit import Refusal
from berth.decide.asleep import proof, proven, sleeps, start_seconds
from berth.decide.demand import Bounds, Signals, begin
from berth.decide.load import least_busy
from berth.decide.look import (
    DARK_SECONDS,
    Active,
    Look,
    Told,
    Watched,
    active,
    active_with_gateway,
    rounded,
    signals,
    target_per_replica,
    two_digits,
    with_gateway,
)
from berth.decide.observed import Scaled, is_ready
from berth.decide.parse import parse
from berth.decide.plan import prunable
from berth.held import Held
from berth.kube.cache import Cache
from berth.kube.resources import DEPLOYMENTS, ENDPOINTS, PODS
from berth.loads import Loads

Object = dict[str, Any]

LOOK_SECONDS = 5.0
TOLD_SECONDS = 30.0
"""Numbers alone change status at most so often."""
SAME_TIME_SECONDS = 15.0

log = structlog.get_logger()


class Demand(NamedTuple):
    """in_flight: requests that run or wait, smoothed.  target: of them per replica."""

    in_flight: float
    target: float


class Scaler:
    """wake: wants a pass of an endpoint.  clock: monotonic seconds.

    time_in: RFC 3339 time of day in so many seconds.  serves: whether a gateway serves the endpoints of a namespace.
    """

    def __init__(
        self,
        loads: Loads,
        held: Held,
        cache: Cache,
        wake: Callable[[Key], None],
        clock: Callable[[], float],
        time_in: Callable[[float], str],
        serves: Callable[[str], bool] = lambda namespace: True,
    ) -> None:
        self._loads = loads
        self._held = held
        self._cache = cache
        self._wake = wake
        self._clock = clock
        self._time_in = time_in
        self._serves = serves
        self._watched: dict[Key, Watched] = {}
        self._keys: dict[str, Key] = {}  # by uid, of those that may sleep
        self._looks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look at all endpoints every LOOK_SECONDS. Never returns."""
        while True:
            began = self._clock()
            keys = list(self._cache.endpoints())
            for gone in self._watched.keys() - set(keys):
                self._forget(gone)
            await asyncio.gather(*map(self._look_safely, keys))
            self._loads.forget_old()
            await asyncio.sleep(max(0.0, began + LOOK_SECONDS - self._clock()))

    def held_changed(self, uid: str) -> None:
        """More or fewer requests of an endpoint wait at the gateways: look now if no pod could answer them."""
        key = self._keys.get(uid)
        if key is not None and not any(map(is_ready, self._cache.of(PODS, key))):
            look = asyncio.create_task(self._look_safely(key))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)

    def _forget(self, key: Key) -> None:
        if (watched := self._watched.pop(key, None)) is not None:
            self._keys.pop(watched.ep.uid, None)

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
        # The metric of an HPA is not Berth's; when it sleeps is.
        theirs = spec is not None and spec.actuator == Actuator.HPA and spec.min > 0
        if endpoint is None or ep is None or spec is None or ep.spec.suspend or theirs:
            self._forget(key)
            return
        deployment = self._cache.get(DEPLOYMENTS, key.namespace, key.name)
        if deployment is None or not prunable(ep, deployment):
            return  # deleted by hand, or that of an endpoint before: it comes, as it was decided
        watched = self._known(key, ep, endpoint.get("status"), deployment)
        if sleeps(ep) and self._held.begins():
            return  # it stays as it is for so long
        pods = self._cache.of(PODS, key)
        staying = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        ready = [pod for pod in staying if is_ready(pod)]
        # Also those that leave: what they still have to do would otherwise seem to be gone.
        told = await self._loads.ask([pod for pod in pods if pod["metadata"].get("deletionTimestamp") or is_ready(pod)])
        first, found = not watched.state.samples, Look(staying, ready, told, deployment)
        seen = signals(watched, found, self._clock())
        if sleeps(ep):
            seen = with_gateway(watched, seen, found, self._told(ep), proven(endpoint.get("status")))
        decision = self._decide(watched, seen)
        if first and watched.state.samples and ready and decision.replicas != found.replicas:
            return  # one look alone may have caught a burst
        leaving = least_busy(ready, found.loads, found.replicas - decision.replicas)
        self._keep(key, watched, decision, self._active(watched, found), leaving)

    def _told(self, ep: Endpoint) -> Told:
        """By the gateways. Where none serves it nothing is known, which keeps a pod: none of them would wake it."""
        if self._serves(ep.namespace):
            return self._held.told(ep.uid)
        return Told(0.0, False, {}, f"no gateway serves endpoints of namespace {ep.namespace}")

    def _parsed(self, key: Key, endpoint: Object) -> Endpoint | None:
        meta, watched = endpoint["metadata"], self._watched.get(key)
        if meta.get("deletionTimestamp") or not endpoint["spec"].get("scaling"):
            return None
        if watched is not None and (watched.ep.uid, watched.ep.generation) == (meta["uid"], meta["generation"]):
            return watched.ep
        ep = parse(endpoint)
        return None if isinstance(ep, Refusal) else ep

    def _known(self, key: Key, ep: Endpoint, status: Object | None, deployment: Object) -> Watched:
        watched = self._watched.get(key)
        if watched is not None and watched.ep is ep:
            return watched
        spec_hash, start, before = proof(ep), None, watched
        if watched is None or (watched.ep.uid, watched.ep.spec.scaling) != (ep.uid, ep.spec.scaling):
            self._forget(key)
            state = begin(deployment["spec"].get("replicas", 1), self._clock())
            watched = self._watched[key] = Watched(ep, state, spec_hash)
        # Of the same spec what was measured holds: there may be no pod to measure.
        if before is not None and (before.ep.uid, before.proof) == (ep.uid, spec_hash):
            watched.capacity, watched.target, start = before.capacity, before.target, before.start_seconds
        elif proven(status) == spec_hash:
            watched.target, start = target_per_replica(status), start_seconds(status)
        watched.ep, watched.proof, watched.start_seconds = ep, spec_hash, start
        if sleeps(ep):
            self._keys[ep.uid] = key
        return watched

    def _decide(self, watched: Watched, signals: Signals) -> scaling.Decision:
        spec = watched.ep.spec.scaling
        assert spec is not None and watched.target is not None
        watched.told_all = signals.complete and signals.in_flight is not None
        bounds = Bounds(spec.min, spec.max, watched.target, spec.awake_seconds)
        watched.state, decision = scaling.decide(watched.state, bounds, signals)
        return decision

    def _active(self, watched: Watched, look: Look) -> Active:
        """What holds now; that pods do not tell their load, only when it has lasted."""
        found = active_with_gateway(look, self._told(watched.ep)) if sleeps(watched.ep) else active(look)
        if not look.ready or found[0]:
            watched.dark_since = None
            return found
        watched.dark_since = watched.dark_since or self._clock()
        before = watched.scaled
        waits = self._clock() - watched.dark_since < DARK_SECONDS
        return before.active if before is not None and waits else found

    def _keep(
        self,
        key: Key,
        watched: Watched,
        decision: scaling.Decision,
        active: Active,
        leaving: tuple[str, ...],
    ) -> None:
        before = watched.scaled
        status = {
            "desired": decision.replicas,
            "demand": rounded(decision.demand),
            "targetPerReplica": rounded(watched.target),
            "explanation": decision.explanation,
            "limitedBy": decision.limited_by,
            "lowerAfter": self._lower_after(watched, decision.change_after_seconds),
            "startSeconds": two_digits(watched.start_seconds),
        }
        status = {name: value for name, value in status.items() if value is not None}
        same = before is not None and (before.replicas, before.active) == (decision.replicas, active)
        if before is not None and same and (before.status == status or self._clock() - watched.told_at < TOLD_SECONDS):
            watched.scaled = replace(before, leaving=leaving)
            return
        watched.scaled = Scaled(decision.replicas, leaving, status, active)
        watched.told_at = self._clock()
        self._wake(key)

    def _lower_after(self, watched: Watched, seconds: float | None) -> str | None:
        at = None if seconds is None else self._clock() + seconds
        if at is None or watched.lower_at is None or abs(at - watched.lower_at) > SAME_TIME_SECONDS:
            watched.lower_at = at
            watched.lower_after = None if seconds is None else self._time_in(seconds)
        return watched.lower_after


def initial(ep: Endpoint, deployment: Object | None, status: Object) -> int:
    """Replicas until something is decided: as many as there are, or the least. status: of the endpoint so far."""
    bounds = ep.spec.scaling
    assert bounds is not None
    least = bounds.min if proven(status) == proof(ep) else bounds.awake_min
    live = deployment["spec"].get("replicas", 1) if deployment is not None else bounds.awake_min
    return min(max(live, least), bounds.max)
