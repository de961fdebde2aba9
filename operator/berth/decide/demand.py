"""What an endpoint's requests in flight ask for, remembered from look to look."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from berth.decide.series import Series, highest, mean, recent

# The mean that decides in calm times. Within the time that one answer takes, what is in flight swings by chance; this
# is longer than most answers take.
STABLE_SECONDS = 60.0
# Two looks at least: one alone may have caught a burst.
PANIC_SECONDS = 10.0
# So many standard deviations of what PANIC_SECONDS show count as chance: requests that do not know of each other swing
# by the square root of their number (the reason of square-root staffing in queueing theory).
CHANCE = 1.0
# What takes long to add is added at the first sign: chance counts less the longer the cold start, from here on nothing.
LONG_COLD_START_SECONDS = 300.0
# Down to the most that was needed within half a cold start: taking a replica away too early costs loading it again.
# In the simulation (docs/benchmarks-scaling.md) twice that cost 3 % more and shortened the waits by 2 %.
WINDOW_COLD_STARTS = 0.5
LEAST_WINDOW_SECONDS = 30.0
# One step down in a tenth of a cold start, at most a minute: a step too far is seen before many follow.
STEP_COLD_STARTS = 0.1
MOST_STEP_SECONDS = 60.0


class Limit(StrEnum):
    """What keeps the count from what the demand asks for."""

    MAX_REPLICAS = "MaxReplicas"
    MIN_REPLICAS = "MinReplicas"
    QUOTA = "Quota"
    PODS_NOT_CREATED = "PodsNotCreated"
    ACCELERATORS = "Accelerators"
    UNSCHEDULABLE = "Unschedulable"
    ROLLOUT = "Rollout"
    METRICS_MISSING = "MetricsMissing"
    NOT_PROVEN = "NotProven"
    GATEWAY_NOT_READY = "GatewayNotReady"
    GATEWAY_PORTS = "GatewayPorts"


@dataclass(frozen=True)
class Bounds:
    """Of the spec. target: requests in flight per replica, > 0.  idle_seconds: before 1 → 0; None unless min is 0."""

    min: int
    max: int
    target: float
    idle_seconds: float | None = None


@dataclass(frozen=True)
class Signals:
    """Of one look, every few seconds; one may be late by a minute.

    now: of a steady clock.  in_flight: running and waiting in the pods that answered, also in those that drain, and
    held by a gateway; None: nobody answered.  complete: every ready pod answered, otherwise it is a lower bound.
    served: a request ended since the look before, of which `in_flight` may have seen nothing.
    replicas: asked for now.  ready: of them proven.  rolling: a rollout is under way.  cold_start_seconds: from pod
    created to ready.  room: replicas that there can be, because of `room_limit`; None: no limit known.  full: more are
    not asked for, as nothing has made more room for long.  awake: why the last replica stays however idle it is;
    NOT_PROVEN also asks for one where there is none.
    """

    now: float
    in_flight: float | None
    complete: bool
    replicas: int
    ready: int
    rolling: bool
    cold_start_seconds: float
    room: int | None = None
    room_limit: Limit = Limit.QUOTA
    full: bool = True
    served: bool = False
    awake: Limit | None = None


@dataclass(frozen=True)
class State:
    """What is remembered between looks: plain numbers, `dataclasses.asdict` makes JSON of it.

    unknown: last moment before which nothing is known.  known: last look at every ready pod.  busy: last time that a
    request was there or may have been.  samples: (time, in flight).  demands, asked: (time, demand or count), without
    those that a later one reaches, so that the first is the highest.  shown: the demand of the last explanation.
    """

    unknown: float
    known: float
    busy: float
    samples: Series = ()
    demands: Series = ()
    asked: Series = ()
    shown: float | None = None


def begin(replicas: int, now: float) -> State:
    """Nothing is known before now: up at once, down only after a whole window."""
    return State(unknown=now, known=now, busy=now, asked=((now, replicas),))


def window_seconds(cold_start_seconds: float) -> float:
    """For how long what was needed once is kept."""
    return max(LEAST_WINDOW_SECONDS, WINDOW_COLD_STARTS * cold_start_seconds)


def step_seconds(cold_start_seconds: float) -> float:
    """Time between two steps down."""
    return min(MOST_STEP_SECONDS, STEP_COLD_STARTS * cold_start_seconds)


def count(demand: float, target: float) -> int:
    """Replicas for a demand: 66 / 22 is three also when the 66 is a sum of fractions."""
    return math.ceil(round(demand / target, 6))


def observe(state: State, signals: Signals) -> State:
    """The state with what this look saw. Nothing seen changes nothing but what is known to be busy."""
    now, value = signals.now, signals.in_flight
    waking = signals.replicas > 0 and signals.ready == 0
    if value is None:
        return replace(state, busy=now) if waking or signals.served else state
    samples = state.samples
    if not signals.complete and samples:
        # A lower bound may raise the mean and must not lower it.
        value = max(value, mean(samples, STABLE_SECONDS))
    samples = (*recent(samples, now - STABLE_SECONDS), (now, value))
    cold_start, demand = signals.cold_start_seconds, _demand(samples, signals)
    # Longer than this without a full answer, and nobody can say what was needed.
    blind = signals.complete and now - state.known > STABLE_SECONDS
    return replace(
        state,
        unknown=now if blind else state.unknown,
        known=now if signals.complete else state.known,
        busy=now if value > 0 or signals.served or waking else state.busy,
        samples=samples,
        demands=highest(state.demands, now, demand, window_seconds(cold_start)),
        asked=highest(state.asked, now, signals.replicas, step_seconds(cold_start)),
    )


def _demand(samples: Series, signals: Signals) -> float:
    stable, panic = mean(samples, STABLE_SECONDS), mean(samples, PANIC_SECONDS)
    patience = max(0.0, 1 - signals.cold_start_seconds / LONG_COLD_START_SECONDS)
    demand = max(stable, panic - CHANCE * patience * math.sqrt(panic))
    # With nothing ready every request is held: there is nothing that swings.
    return max(demand, samples[-1][1]) if signals.ready == 0 else demand
