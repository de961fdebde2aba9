"""The simulator of the scaling benchmark: that its queues, clocks and bills are right, and what it calls better."""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.bench.scaling import __main__ as page
from tests.bench.scaling.front import Cell, ahead, better, mean
from tests.bench.scaling.policies import POLICIES, HpaOnInFlight, KubeAI
from tests.bench.scaling.simulate import Look, Plant, Request, Result, simulate
from tests.bench.scaling.traces import TRACES, Trace, about, every, levels, lines, lognormal, pareto, waves


class Script:
    """A policy that asks for what is written for a time, and keeps what it saw."""

    interval_seconds = 1.0

    def __init__(self, *steps: tuple[float, int]) -> None:
        self._steps = steps
        self.seen: list[Look] = []

    def decide(self, look: Look) -> int:
        self.seen.append(look)
        return next((count for since, count in reversed(self._steps) if look.now >= since), look.asked)


def poisson(rate: float, seconds: float, service: float) -> list[Request]:
    return Trace("x", False, seconds / 60, lambda _: rate, rate, about(service), 1).requests()


def test_a_case_by_hand() -> None:
    """Two slots of 10 s; a second replica is asked for at 5 s, is ready at 15 s, and goes at 21 s."""
    arrivals = [0.0, 0.0, 1.0, 2.0, 3.0, 16.0, 16.0]
    requests = [Request(arrival, 10.0, 0.9) for arrival in arrivals]
    policy = Script((0, 1), (5, 2), (21, 1))
    result = simulate(requests, 60, Plant(10, slots=2), policy)
    # 0, 0 start at once; 1 and 2 wait for them until 10, 3 until 20; at 16 the second replica takes both.
    assert result.waits == pytest.approx([0, 0, 9, 8, 17, 0, 0])
    assert result.counts == [(0.0, 1), (5.0, 2), (21.0, 1)]
    assert result.changes_of_direction == 1
    # The first one all the time; the second from 5 s until its requests are done at 26 s.
    assert result.replica_seconds == pytest.approx(60 + 21)
    assert result.p95_wait_seconds == 17
    assert [
        (look.asked, list(look.ready), look.leaving) for look in policy.seen if look.now in (4, 14, 15, 16, 22)
    ] == [
        (1, [5], 0),
        (2, [3], 0),
        (2, [3, 0], 0),
        (2, [3, 2], 0),
        (1, [1], 2),
    ]


def test_a_loading_replica_that_is_not_wanted_any_more_goes_at_once_and_first() -> None:
    result = simulate([], 100, Plant(50), Script((0, 1), (10, 3), (20, 2), (90, 1)))
    assert result.replica_seconds == pytest.approx(100 + 80 + 10)


def test_what_finds_no_replica_is_held_and_fails_after_the_limit() -> None:
    requests = [Request(arrival, 1.0, 0.5) for arrival in (0.0, 30.0, 90.0, 155.0)]
    plant = Plant(100, min=0, hold_seconds=60)
    policy = Script((0, 0), (40, 1), (150, 0))
    result = simulate(requests, 200, plant, policy)
    # Ready at 140: the first two have given up at 60 and 90, the third waits 50; the last one is held to the end.
    assert (result.failed, sorted(result.waits)) == (2, [45, 50, 60, 60])
    assert [look.held for look in policy.seen if look.now in (31, 70, 95, 139, 141, 156)] == [2, 1, 1, 1, 0, 1]


@pytest.mark.parametrize("cold_start", [7.0, 60.0, 333.0])
def test_no_request_starts_in_a_replica_that_loads(cold_start: float) -> None:
    requests = poisson(2, 900, 5)
    policy = Script((0, 0), (100, 2))
    result = simulate(requests, 900, Plant(cold_start, min=0, hold_seconds=1e9), policy)
    starts = [request.arrival + wait for request, wait in zip(requests, result.waits, strict=True)]
    assert min(starts) == pytest.approx(100 + cold_start)
    assert next(look.now for look in policy.seen if look.ready) == pytest.approx(100 + cold_start, abs=1)


def test_littles_law() -> None:
    """Mean in flight = arrival rate × mean time in the endpoint, also with queues."""
    requests = poisson(1.5, 20_000, 20)
    policy = Script((0, 1))
    result = simulate(requests, 20_000, Plant(10, slots=32), policy)
    times = [wait + request.seconds for request, wait in zip(requests, result.waits, strict=True)]
    in_flight = sum(look.in_flight for look in policy.seen) / len(policy.seen)
    assert max(result.waits) > 1
    assert in_flight == pytest.approx(len(requests) / 20_000 * sum(times) / len(times), rel=0.01)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
@pytest.mark.parametrize("least", [0, 1])
def test_no_request_is_lost_or_made(policy: Callable[[Plant], HpaOnInFlight], least: int) -> None:
    draw = random.Random(3)
    requests = [Request(number + draw.random(), draw.uniform(20, 120), draw.random()) for number in range(1500)]
    requests = [request for request in requests if request.arrival % 500 < 250]
    result = simulate(requests, 1600, Plant(60, min=least), policy(Plant(60, min=least)))
    assert len(result.waits) == len(requests)
    assert all(least <= count <= 10 for _, count in result.counts)
    assert all(before != after for (_, before), (_, after) in pairwise(result.counts))
    assert max(count for _, count in result.counts) > 1


def test_requests_are_spread_by_chance_over_what_is_ready() -> None:
    policy = Script((0, 4))
    simulate(poisson(4, 2000, 20), 2000, Plant(10), policy, replicas=4)
    means = [sum(look.ready[place] for look in policy.seen) / len(policy.seen) for place in range(4)]
    assert means == pytest.approx([20] * 4, rel=0.1)
    assert any(max(look.ready) > 2 * min(look.ready) for look in policy.seen[100:])


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: f"{trace.name}-{trace.held_out}")
def test_a_trace_has_the_requests_that_its_rate_gives(trace: Trace) -> None:
    expected = sum(trace.rate(float(second)) for second in range(int(trace.seconds)))
    requests = trace.requests(seed=1)
    assert len(requests) == pytest.approx(expected, abs=5 * expected**0.5)
    assert max(trace.rate(float(second)) for second in range(int(trace.seconds))) <= trace.most
    assert requests != trace.requests(seed=2)
    assert requests == trace.requests(seed=1)
    assert all(before.arrival <= after.arrival for before, after in pairwise(requests))


def test_every_kind_of_load_has_one_that_nothing_was_tuned_on() -> None:
    kinds = {trace.name for trace in TRACES}
    assert {trace.name for trace in TRACES if trace.held_out} == kinds
    assert {trace.name for trace in TRACES if not trace.held_out} == kinds


def test_shapes_of_loads() -> None:
    assert [levels((0, 1), (5, 3))(minute * 60) for minute in (0, 4.9, 5)] == [1, 1, 3]
    assert [lines((0, 1), (10, 3))(minute * 60) for minute in (0, 5, 20)] == [1, 2, 3]
    assert [every(10, 2, 1, 9, first=5)(minute * 60) for minute in (0, 4, 5, 7, 15)] == [1, 1, 9, 1, 9]
    assert [waves(1, (4, 60, 0))(minute * 60) for minute in (0, 30)] == pytest.approx([1, 5])
    for service, rel in ((about(20), 0.02), (lognormal(20, 1.2), 0.1), (pareto(20, 1.7), 0.15)):
        draw = random.Random(1)
        assert sum(service(draw) for _ in range(20_000)) / 20_000 == pytest.approx(20, rel=rel)


def test_the_moving_average_of_kubeai_makes_a_ramp_of_a_step() -> None:
    policy = KubeAI(Plant(10, target=10))
    wanted = [policy.decide(Look(10.0 * number, 1, [100], 0, 0)) for number in range(1, 61)]
    assert wanted[5] == 1
    assert wanted[29] == 5
    assert wanted[59] == 10


def test_an_hpa_on_the_sum_does_not_cascade_and_doubles_or_adds_four() -> None:
    policy = HpaOnInFlight(Plant(10, target=10))
    assert policy.decide(Look(0, 1, [200], 0, 0)) == 5
    assert policy.decide(Look(15, 5, [200], 0, 0)) == 10
    assert policy.decide(Look(30, 10, [105], 0, 0)) == 10
    assert policy.decide(Look(299, 10, [10], 0, 0)) == 10
    assert policy.decide(Look(330, 10, [10], 0, 0)) == 10
    assert policy.decide(Look(331, 10, [10], 0, 0)) == 1


def cell(wait: float, cost: float, failed: float = 0) -> Cell:
    return Cell(wait, failed, cost, 0, 1000)


@pytest.mark.parametrize(
    ("other", "one", "expect"),
    [
        (cell(1, 5), cell(2, 5), True),
        (cell(1, 5), cell(1.4, 5), False),
        (cell(100, 5), cell(101.9, 5), False),
        (cell(10, 4), cell(10, 5), True),
        (cell(10, 4.95), cell(10, 5), False),
        (cell(10, 4), cell(9, 5), False),
        (cell(1, 6), cell(10, 5), False),
        (cell(1, 4, failed=6), cell(10, 5), False),
        (cell(1, 4, failed=5), cell(10, 5), True),
        (cell(10, 5), cell(10, 5, failed=900), False),
    ],
)
def test_what_is_better(other: Cell, one: Cell, expect: bool) -> None:
    assert better(other, one) is expect


def test_the_page_says_who_is_ahead() -> None:
    row = {"Berth": cell(10, 5), "A": cell(10, 4), "B": cell(1, 9, failed=3), "C": cell(20, 6)}
    assert ahead("Berth", row) == ["A"]
    assert ahead("C", row) == ["Berth", "A"]
    found = {60.0: row, 300.0: {name: cell(1, 1) for name in row}}
    assert [line[-1] for line in page.rows(found)] == ["A", "yes"]
    assert page.described(row["B"]) == "1.0 s, 9.00 h, 0, 3 failed"
    assert mean([cell(1, 2), cell(3, 6)]) == cell(2, 4)


def test_nothing_asked_is_no_wait() -> None:
    assert Result().p95_wait_seconds == 0
