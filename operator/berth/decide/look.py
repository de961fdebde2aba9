"""One look at the load of an endpoint: from its pods, and what the gateways tell, to what is decided on. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from berth.api.conditions import Reason
from berth.api.spec import Endpoint
from berth.decide import load
from berth.decide.asleep import moved
from berth.decide.demand import Limit, Signals, State
from berth.decide.observed import Scaled

Object = dict[str, Any]
Active = tuple[bool, Reason, str]

DARK_SECONDS = 45.0
"""For so long a pod may fail to tell its load before it is said: it is asked three times."""
TARGET_MOVES = 0.05
"""A target that is measured moves when it differs by more: what it is divided by is part of a sentence."""


class Told(NamedTuple):
    """By the gateways, of one endpoint. held: requests that wait there.  flying: others are on their way through them.

    counters: requests that each gateway has ended.  problem: why that is not all, "" when it is.
    """

    held: float
    flying: bool
    counters: Mapping[str, float]
    problem: str = ""


class Look(NamedTuple):
    """What was seen. staying: pods without those that leave.  ready: of these.  told: load of each pod that answered.

    deployment: as it is.
    """

    staying: list[Object]
    ready: list[Object]
    told: load.Loads
    deployment: Object

    @property
    def loads(self) -> load.Loads:
        """Those of ready pods."""
        return {name: self.told[name] for pod in self.ready if (name := pod["metadata"]["name"]) in self.told}

    @property
    def replicas(self) -> int:
        """Asked for now."""
        return int(self.deployment["spec"].get("replicas", 1))


@dataclass
class Watched:
    """What is remembered of an endpoint between looks. ep: the one that all of this is about.

    proof: which spec a ready pod would prove.  capacity: as last known.  start_seconds: the shortest start.
    served: by name of a pod, when it was ready last.  counters: requests that each pod and each gateway had ended.
    """

    ep: Endpoint
    state: State
    proof: str
    target: float | None = None
    capacity: float | None = None
    start_seconds: float | None = None
    served: dict[str, float] = field(default_factory=dict)
    counters: dict[str, float | None] = field(default_factory=dict)
    full_since: float | None = None
    dark_since: float | None = None
    told_all: bool = False
    scaled: Scaled | None = None
    told_at: float = float("-inf")
    lower_at: float | None = None
    lower_after: str | None = None


def signals(watched: Watched, look: Look, now: float) -> Signals:
    """What this look tells of pods, and remembered of it what the next one needs."""
    spec = watched.ep.spec.scaling
    assert spec is not None
    watched.capacity = load.capacity(look.loads) or watched.capacity
    target = load.target_in_flight(spec, look.loads, watched.capacity, watched.target)
    if watched.target is None or abs(target - watched.target) > TARGET_MOVES * watched.target:
        watched.target = rounded(target)
    started = [found for found in (load.start_seconds(look.staying), watched.start_seconds) if found is not None]
    watched.start_seconds = min(started, default=None)
    room = load.room(watched.ep, look.staying, look.deployment)
    watched.full_since = None if room is None else watched.full_since or now
    names = {pod["metadata"]["name"] for pod in look.staying}
    is_now = {pod["metadata"]["name"] for pod in look.ready}
    # A pod that was ready a while ago may have requests that nobody tells of.
    served = {name: at for name, at in watched.served.items() if name in names and now - at < DARK_SECONDS}
    watched.served = served | dict.fromkeys(is_now, now)
    flights = {name: flight for name, each in look.told.items() if (flight := load.in_flight(each)) is not None}
    return Signals(
        now=now,
        in_flight=sum(flights.values()) if flights.keys() & is_now else None,
        complete=flights.keys() >= watched.served.keys(),
        replicas=look.replicas,
        ready=len(look.ready),
        rolling=load.is_rolling(look.deployment),
        cold_start_seconds=load.START_SECONDS if watched.start_seconds is None else watched.start_seconds,
        room=room.replicas if room else None,
        room_limit=room.limit if room else Limit.QUOTA,
        full=load.is_full(room, now - (watched.full_since or now)),
    )


def with_gateway(watched: Watched, seen: Signals, look: Look, told: Told, proven: str | None) -> Signals:
    """The same of an endpoint that may sleep: what waits at the gateways, and whether anything was asked for at all.

    What some of them hold wakes it, also while others do not tell. proven: which spec was.
    """
    counters: dict[str, float | None] = {name: each["requests"] for name, each in look.told.items()}
    counters |= told.counters
    served = moved(watched.counters, counters) or told.flying
    watched.counters = counters
    in_flight = seen.in_flight
    if in_flight is not None or (not look.ready and (told.held or not told.problem)):
        in_flight = told.held + (in_flight or 0.0)
    awake = Limit.GATEWAY_NOT_READY if told.problem else None
    awake = awake if proven == watched.proof else Limit.NOT_PROVEN
    return replace(seen, in_flight=in_flight, served=served, awake=awake)


def active(look: Look) -> Active:
    """ScalingActive: whether every ready pod tells its load."""
    ready, answered = len(look.ready), len(look.loads)
    told = sum(load.in_flight(each) is not None for each in look.loads.values())
    if not ready:
        return (False, Reason.NO_READY_PODS, "no pod is ready that could tell its load")
    if answered < ready:
        text = f"{ready - answered} of {ready} ready pods do not tell their load at port 8001"
        return (False, Reason.PODS_UNREACHABLE, text)
    if told < answered:
        return (False, Reason.METRICS_MISSING, f"vLLM has no numbers of requests in {answered - told} of {ready} pods")
    text = f"all {ready} ready pods tell their load" if ready > 1 else "the ready pod tells its load"
    return (True, Reason.LOAD_KNOWN, text)


def active_with_gateway(look: Look, told: Told) -> Active:
    """The same of an endpoint that may sleep: what waits for it counts too."""
    pods = active(look)
    if told.problem and (pods[0] or not look.ready):
        return (False, Reason.GATEWAY_NOT_READY, told.problem)
    return pods if look.ready else (True, Reason.LOAD_KNOWN, "no pod is ready; the gateway tells what waits")


def target_per_replica(status: Mapping[str, Any] | None) -> float | None:
    """What status says that a replica shall have."""
    found: float | None = ((status or {}).get("scaling") or {}).get("targetPerReplica")
    return found


def rounded(value: float | None) -> float | None:
    """As status tells it."""
    return None if value is None else round(value, 1) if value < 10 else round(value)


def two_digits(value: float | None) -> float | None:
    """So that a start that takes a little longer is no news."""
    return None if value is None else rounded(float(f"{value:.2g}"))
