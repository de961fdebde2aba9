"""How many replicas an endpoint wants, and why: one look at its requests in flight after the other.

    demand  = mean in flight of a minute, or of the last 10 s as far as that is more than chance
    least   = demand / (target × (1 + TOLERANCE)), rounded up
    most    = highest demand within the window / target, rounded up
    wanted  = what is asked for now, moved as little as it takes to lie within least … most

Counts are never multiplied by a ratio, so nothing cascades: what loads is asked for already and counts as capacity.
Between `least` and `most` nothing moves, so noise, or a load on the boundary of two counts, changes nothing. Down goes
step by step, and not at all while something is not known or a rollout is under way.
"""

from dataclasses import dataclass, replace

from berth.decide.demand import Bounds, Limit, Signals, State, count, observe, step_seconds, window_seconds

# An HPA has the same: above the target by less than this is not worth a cold start.
TOLERANCE = 0.1
# One replica, or one of so many, at a time.
STEP_SHARE = 4


@dataclass(frozen=True)
class Decision:
    """demand: smoothed, as in the explanation.  limited_by: what keeps the count from what the demand asks for.

    change_after_seconds: soonest time of a lower count if the demand stays as it is; None: no change is pending.
    """

    replicas: int
    demand: float | None
    explanation: str
    limited_by: Limit | None = None
    change_after_seconds: float | None = None


def decide(state: State, bounds: Bounds, signals: Signals) -> tuple[State, Decision]:
    """The state after this look, and the replicas wanted: within min … max, and not raised above `room`."""
    state = observe(state, signals)
    now, current = signals.now, signals.replicas
    missing = signals.in_flight is None
    demand = 0.0 if missing or not state.demands else state.demands[-1][1]
    least = count(demand, bounds.target * (1 + TOLERANCE))
    floor = max(_most(state, bounds), _step(state.asked[0][1]))
    if _held(state, signals):
        floor = current
    if bounds.min == 0 and (signals.awake is not None or not _idle(state, bounds, now)):
        floor = max(floor, 1)
    wanted = max(least, min(current, floor))
    if signals.awake == Limit.NOT_PROVEN:
        wanted = max(wanted, 1)
    cap = bounds.max if signals.room is None or not signals.full else min(bounds.max, max(signals.room, current))
    replicas = max(bounds.min, min(wanted, cap))
    if not missing and (replicas != current or _moved(state.shown, demand, bounds.target)):
        state = replace(state, shown=round(demand, 0 if demand >= 10 else 1))
    after = _change_after(state, bounds, signals, demand, replicas)
    limited_by, explanation = _explain(state, bounds, signals, replicas)
    return state, Decision(replicas, state.shown, explanation, limited_by, after)


_ROOM = {
    Limit.QUOTA: "the quota allows",
    Limit.PODS_NOT_CREATED: "Kubernetes creates no pods above",
    Limit.ACCELERATORS: "the free accelerators are enough for",
    Limit.UNSCHEDULABLE: "the scheduler finds nodes for",
}

_AWAKE = {
    Limit.NOT_PROVEN: "until a pod has proven this spec",
    Limit.GATEWAY_NOT_READY: "as not every pod of the gateway tells what it holds",
}


def _step(replicas: float) -> int:
    """Where one step down from a count leads."""
    return int(replicas) - max(1, int(replicas) // STEP_SHARE)


def _most(state: State, bounds: Bounds) -> int:
    return count(state.demands[0][1], bounds.target) if state.demands else 0


def _held(state: State, signals: Signals) -> bool:
    """Whether nothing may go down for now, whatever the demand."""
    if signals.in_flight is None or not signals.complete or signals.rolling:
        return True
    return signals.now < state.unknown + window_seconds(signals.cold_start_seconds)


def _idle(state: State, bounds: Bounds, now: float) -> bool:
    return bounds.idle_seconds is not None and now >= state.busy + bounds.idle_seconds


def _moved(shown: float | None, demand: float, target: float) -> bool:
    """Whether the demand differs from the last explanation by more than noise."""
    if shown is None or (demand == 0) != (shown == 0):
        return shown is None or demand == 0 or demand > TOLERANCE * target
    return abs(demand - shown) > TOLERANCE * max(shown, target)


def _change_after(state: State, bounds: Bounds, signals: Signals, demand: float, replicas: int) -> float | None:
    if signals.in_flight is None or not signals.complete or signals.rolling:
        return None
    if replicas == 1 and signals.awake is not None:
        return None
    lowest = max(count(demand, bounds.target), bounds.min, 0 if bounds.idle_seconds is not None else 1)
    if lowest >= replicas:
        return None
    window = window_seconds(signals.cold_start_seconds)
    until = [state.unknown + window]
    until += [time + window for time, value in state.demands if count(value, bounds.target) >= replicas]
    step = step_seconds(signals.cold_start_seconds)
    until += [time + step for time, asked in state.asked if _step(asked) >= replicas]
    if replicas == 1 and bounds.idle_seconds is not None:
        until.append(state.busy + bounds.idle_seconds)
    return max(0.0, max(until) - signals.now)


def _explain(state: State, bounds: Bounds, signals: Signals, replicas: int) -> tuple[Limit | None, str]:
    """From the demand as shown, so that neither changes with every look."""
    if signals.in_flight is None or state.shown is None:
        if not signals.ready and signals.awake is not None:
            return signals.awake, f"kept at {replicas} {_AWAKE[signals.awake]}"
        return Limit.METRICS_MISSING, f"kept at {replicas}: no pod answered how many requests it has"
    wanted = count(state.shown, bounds.target)
    what = "request" if state.shown == 1 else "requests"
    load = f"{state.shown:g} {what} in flight / {bounds.target:g} per replica"
    if signals.room is not None and signals.room < min(wanted, bounds.max):
        return signals.room_limit, f"{load} = {_replicas(wanted)}; {_ROOM[signals.room_limit]} {signals.room}"
    if replicas == wanted:
        return None, f"{load} = {_replicas(wanted)}" if wanted else "no requests"
    if replicas < wanted:
        return _explain_fewer(load, state.shown / bounds.target, bounds, signals, replicas)
    return _explain_more(f"{load} = {_replicas(wanted)}", state, bounds, signals, replicas)


def _explain_fewer(
    load: str, exact: float, bounds: Bounds, signals: Signals, replicas: int
) -> tuple[Limit | None, str]:
    wanted = f"{load} = {_replicas(count(exact, 1))}"
    if exact > replicas * (1 + TOLERANCE) and replicas >= bounds.max:
        return Limit.MAX_REPLICAS, f"{wanted}; spec.scaling.max is {bounds.max}"
    return None, f"{load} = {exact:.2f}, within {TOLERANCE:.0%} of {_replicas(replicas)}"


def _explain_more(load: str, state: State, bounds: Bounds, signals: Signals, replicas: int) -> tuple[Limit | None, str]:
    if replicas == bounds.min:
        return Limit.MIN_REPLICAS, f"{load}; spec.scaling.min is {bounds.min}"
    if replicas == 1 and signals.awake == Limit.NOT_PROVEN:
        return signals.awake, f"kept at 1 {_AWAKE[signals.awake]}; {load}"
    if signals.rolling:
        return Limit.ROLLOUT, f"kept at {replicas} while a rollout is under way; {load}"
    if not signals.complete:
        return Limit.METRICS_MISSING, f"kept at {replicas}: not every pod answered how many requests it has; {load}"
    span = _span(window_seconds(signals.cold_start_seconds))
    if _held(state, signals):
        return None, f"kept at {replicas}: what was needed in the last {span} is not known yet; {load}"
    if _most(state, bounds) >= replicas:
        return None, f"kept at {replicas}, which were needed within the last {span}; {load}"
    if replicas == 1 and signals.awake is not None:
        return signals.awake, f"kept at 1 {_AWAKE[signals.awake]}; {load}"
    if replicas == 1 and bounds.idle_seconds is not None:
        return None, f"kept at 1 until {_span(bounds.idle_seconds)} have passed without a request; {load}"
    return None, f"{replicas} on the way down in steps; {load}"


def _replicas(number: int) -> str:
    return f"{number} replica" if number == 1 else f"{number} replicas"


def _span(seconds: float) -> str:
    """As a person says it; it does not change while the cold start is measured a little differently."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes"
