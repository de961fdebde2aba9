"""How many replicas one look asks for, and the sentence beside it."""

from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from berth.decide.demand import Bounds, Limit, Signals, State, begin, observe
from berth.decide.scaling import Decision, decide
from berth.decide.series import highest, mean, recent

BOUNDS = Bounds(min=1, max=8, target=24)
FROM_ZERO = replace(BOUNDS, min=0, idle_seconds=1800)
COLD_START = 200.0
DAY = 86400.0


def look(now: float, in_flight: float | None, replicas: int, **override: Any) -> Signals:
    """A complete look at pods that are all ready."""
    base = Signals(now, in_flight, True, replicas, replicas, False, COLD_START)
    return replace(base, **override)


def calm(in_flight: float, replicas: int, bounds: Bounds = BOUNDS, seconds: float = 3600) -> State:
    """What is remembered after an hour of the same, whatever was decided meanwhile; the next look is at DAY."""
    state = begin(replicas, DAY - seconds)
    for now in range(int(DAY - seconds), int(DAY), 5):
        state, _ = decide(state, bounds, look(now, in_flight, replicas))
    return state


def after(state: State, bounds: Bounds, *looks: Signals) -> Decision:
    """The last decision."""
    for signals in looks:
        state, decision = decide(state, bounds, signals)
    return decision


class Case(NamedTuple):
    name: str
    before: tuple[float, int]
    given: dict[str, Any]
    expect: tuple[int, Limit | None, str]
    bounds: Bounds = BOUNDS


CASES = [
    Case("a sum by a target", (31, 2), {}, (2, None, "31 requests in flight / 24 per replica = 2 replicas")),
    Case("one request", (1, 1), {}, (1, None, "1 request in flight / 24 per replica = 1 replica")),
    Case("a little above", (50, 2), {},
         (2, None, "50 requests in flight / 24 per replica = 2.08, within 10% of 2 replicas")),
    Case("more than a little above", (54, 2), {}, (3, None, "54 requests in flight / 24 per replica = 3 replicas")),
    Case("one that loads is asked for already", (70, 3), {"ready": 1},
         (3, None, "70 requests in flight / 24 per replica = 3 replicas")),
    Case("above max", (300, 8), {},
         (8, Limit.MAX_REPLICAS, "300 requests in flight / 24 per replica = 13 replicas; spec.scaling.max is 8")),
    Case("no quota", (130, 3), {"room": 4},
         (4, Limit.QUOTA, "130 requests in flight / 24 per replica = 6 replicas; the quota allows 4")),
    Case("no accelerators", (100, 3), {"room": 3, "room_limit": Limit.ACCELERATORS},
         (3, Limit.ACCELERATORS,
          "100 requests in flight / 24 per replica = 5 replicas; the free accelerators are enough for 3")),
    Case("room that is full already takes none away", (100, 5), {"room": 2},
         (5, Limit.QUOTA, "100 requests in flight / 24 per replica = 5 replicas; the quota allows 2")),
    Case("room may come", (130, 3), {"room": 4, "room_limit": Limit.UNSCHEDULABLE, "full": False},
         (5, Limit.UNSCHEDULABLE,
          "130 requests in flight / 24 per replica = 6 replicas; the scheduler finds nodes for 4")),
    Case("a quota below min: the spec wins", (1, 1), {"room": 2},
         (3, Limit.MIN_REPLICAS, "1 request in flight / 24 per replica = 1 replica; spec.scaling.min is 3"),
         replace(BOUNDS, min=3)),
    Case("nothing to do", (0, 1), {},
         (1, Limit.MIN_REPLICAS, "0 requests in flight / 24 per replica = 0 replicas; spec.scaling.min is 1")),
    Case("one step down", (30, 8), {}, (6, None, "6 on the way down in steps; 30 requests in flight / 24 per replica = "
                                        "2 replicas")),
    Case("no way down in a rollout", (30, 4), {"rolling": True},
         (4, Limit.ROLLOUT,
          "kept at 4 while a rollout is under way; 30 requests in flight / 24 per replica = 2 replicas")),
    Case("up in a rollout", (90, 3), {"rolling": True},
         (4, None, "90 requests in flight / 24 per replica = 4 replicas")),
    Case("nobody answered", (30, 4), {"in_flight": None},
         (4, Limit.METRICS_MISSING, "kept at 4: no pod answered how many requests it has")),
    Case("not everybody answered", (30, 4), {"in_flight": 5, "complete": False},
         (4, Limit.METRICS_MISSING, "kept at 4: not every pod answered how many requests it has; "
                                    "30 requests in flight / 24 per replica = 2 replicas")),
    Case("those that answered are enough to go up", (30, 2), {"in_flight": 190, "complete": False},
         (3, None, "67 requests in flight / 24 per replica = 3 replicas")),
    Case("edited above max", (30, 12), {"in_flight": None},
         (8, Limit.METRICS_MISSING, "kept at 8: no pod answered how many requests it has")),
    Case("edited below min", (90, 1), {}, (4, None, "90 requests in flight / 24 per replica = 4 replicas"),
         replace(BOUNDS, min=2)),
    Case("asleep until something is held", (0, 0), {}, (0, None, "no requests"), FROM_ZERO),
    Case("awake at once for all that is held", (0, 0), {"in_flight": 60},
         (3, None, "60 requests in flight / 24 per replica = 3 replicas"), FROM_ZERO),
    Case("a request a while ago", (0, 1), {"served": True},
         (1, None, "kept at 1 until 30 minutes have passed without a request; "
                   "0 requests in flight / 24 per replica = 0 replicas"), FROM_ZERO),
    Case("asleep after idleSeconds", (0, 1), {}, (0, None, "no requests"), FROM_ZERO),
    Case("not asleep before it was ready once", (0, 1), {"ready": 0},
         (1, None, "kept at 1 until 30 minutes have passed without a request; "
                   "0 requests in flight / 24 per replica = 0 replicas"), FROM_ZERO),
    Case("not asleep before the spec is proven", (0, 1), {"awake": Limit.NOT_PROVEN},
         (1, Limit.NOT_PROVEN, "kept at 1 until a pod has proven this spec; "
                               "0 requests in flight / 24 per replica = 0 replicas"), FROM_ZERO),
    Case("woken to prove a spec", (0, 0), {"awake": Limit.NOT_PROVEN},
         (1, Limit.NOT_PROVEN, "kept at 1 until a pod has proven this spec; "
                               "0 requests in flight / 24 per replica = 0 replicas"), FROM_ZERO),
    Case("not asleep while a gateway does not tell", (0, 1), {"awake": Limit.GATEWAY_NOT_READY},
         (1, Limit.GATEWAY_NOT_READY, "kept at 1 as not every pod of the gateway tells what it holds; "
                                      "0 requests in flight / 24 per replica = 0 replicas"), FROM_ZERO),
    Case("not woken by a gateway that does not tell", (0, 0), {"awake": Limit.GATEWAY_NOT_READY, "in_flight": None},
         (0, Limit.GATEWAY_NOT_READY, "kept at 0 as not every pod of the gateway tells what it holds"), FROM_ZERO),
    Case("down to the last one though a gateway does not tell", (0, 2), {"awake": Limit.GATEWAY_NOT_READY},
         (1, Limit.GATEWAY_NOT_READY, "kept at 1 as not every pod of the gateway tells what it holds; "
                                      "0 requests in flight / 24 per replica = 0 replicas"), FROM_ZERO),
    Case("not asleep on half an answer", (0, 1), {"complete": False},
         (1, Limit.METRICS_MISSING, "kept at 1: not every pod answered how many requests it has; "
                                    "0 requests in flight / 24 per replica = 0 replicas"), FROM_ZERO),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_look(case: Case) -> None:
    in_flight, replicas = case.before
    given = {"in_flight": in_flight, **case.given}
    state = calm(in_flight, replicas, case.bounds)
    decision = after(state, case.bounds, look(DAY, given.pop("in_flight"), replicas, **given))
    assert (decision.replicas, decision.limited_by, decision.explanation) == case.expect


def test_what_was_needed_is_kept_for_a_window_and_the_time_until_then_is_told() -> None:
    state = calm(90, 4)
    looks = [look(DAY + seconds, 20, 4) for seconds in range(0, 100, 5)]
    decision = after(state, BOUNDS, *looks)
    assert decision.replicas == 4
    assert decision.limited_by is None
    assert decision.explanation == (
        "kept at 4, which were needed within the last 2 minutes; 20 requests in flight / 24 per replica = 1 replica"
    )
    assert decision.change_after_seconds is not None
    assert 0 < decision.change_after_seconds <= 100
    early = look(DAY + 95 + decision.change_after_seconds - 1, 20, 4)
    assert after(state, BOUNDS, *looks, early).replicas == 4
    assert after(state, BOUNDS, *looks, replace(early, now=early.now + 1)).replicas == 3


@pytest.mark.parametrize(
    ("given", "expect"),
    [({}, None), ({"in_flight": None}, None), ({"rolling": True}, None), ({"complete": False}, None)],
    ids=["as many as needed", "nobody answered", "a rollout", "not everybody answered"],
)
def test_no_change_is_announced_that_nobody_knows(given: dict[str, Any], expect: float | None) -> None:
    replicas = 4 if given else 2
    given = {"in_flight": 30, **given}
    decision = after(calm(30, replicas), BOUNDS, look(DAY, given.pop("in_flight"), replicas, **given))
    assert decision.change_after_seconds == expect


def test_a_new_leader_keeps_the_count_for_a_window_and_says_until_when() -> None:
    state, decision = decide(begin(6, 0.0), BOUNDS, look(0.0, 10, 6))
    assert (decision.replicas, decision.limited_by, decision.change_after_seconds) == (6, None, 100.0)
    assert decision.explanation.startswith("kept at 6: what was needed in the last 2 minutes is not known yet; ")
    for now in range(5, 100, 5):
        state, decision = decide(state, BOUNDS, look(now, 10, 6))
        assert decision.replicas == 6
    assert decide(state, BOUNDS, look(100.0, 10, 6))[1].replicas == 5


def test_half_an_answer_lowers_nothing_that_is_shown() -> None:
    looks = [look(DAY + seconds, 40, 4, complete=False) for seconds in range(0, 300, 5)]
    decision = after(calm(90, 4), BOUNDS, *looks)
    assert (decision.replicas, decision.demand) == (4, 90)


def test_sleep_comes_idle_seconds_after_the_last_request() -> None:
    state = calm(3, 1, FROM_ZERO)
    for now in range(int(DAY), int(DAY) + 1795, 5):
        state, decision = decide(state, FROM_ZERO, look(now, 0, 1))
        assert decision.replicas == 1
    assert decision.change_after_seconds == 1795 - 1790
    assert decide(state, FROM_ZERO, look(DAY + 1795, 0, 1))[1].replicas == 0


def test_a_target_that_is_edited_counts_for_the_past_too() -> None:
    state = calm(90, 4)
    assert after(state, replace(BOUNDS, target=90), look(DAY, 90, 4)).replicas == 3
    assert after(state, replace(BOUNDS, target=12), look(DAY, 90, 4)).replicas == 7


def test_a_mean_counts_time_and_not_looks() -> None:
    assert mean(((0, 10), (50, 10), (60, 70)), 60) == pytest.approx((50 * 10 + 10 * 40) / 60)
    assert mean(((0, 0), (100, 100)), 60) == pytest.approx(70)
    assert mean(((0, 0), (70, 70), (71, 71), (72, 72), (100, 100)), 60) == pytest.approx(70)
    assert mean(((7, 3),), 60) == 3
    assert mean(((7, 3), (7, 5)), 60) == 5


def test_only_what_a_window_needs_is_remembered() -> None:
    series = ((0.0, 1.0), (50.0, 2.0), (100.0, 3.0), (110.0, 4.0))
    assert recent(series, 60) == series[1:]
    assert recent(series, 100) == series[2:]
    assert recent((), 100) == ()
    assert highest(((0.0, 9.0), (10.0, 5.0), (20.0, 3.0)), 50.0, 4.0, 45.0) == ((10.0, 5.0), (50.0, 4.0))


def test_what_was_served_since_keeps_it_busy_also_when_the_load_is_not_known() -> None:
    state = calm(0, 1, FROM_ZERO)
    unknown = look(DAY, None, 1, complete=False)
    assert observe(state, unknown).busy == state.busy < DAY
    assert observe(state, replace(unknown, served=True)).busy == DAY
