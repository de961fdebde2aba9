"""What holds of scaling for every load: bounds, rest, order, and what nobody knows.

Loads are played against the decisions: what is wanted is asked for at once and ready a cold start later.
"""

import json
import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from berth.decide.demand import Bounds, Limit, Signals, State, begin, step_seconds, window_seconds
from berth.decide.scaling import TOLERANCE, Decision, decide

FEW = settings(max_examples=40)


@dataclass(frozen=True)
class Look:
    """What is seen, after a wait. share: of the requests, those of the pods that answered; None: none answered."""

    wait_seconds: float
    in_flight: float
    share: float | None = 1.0
    rolling: bool = False
    room: int | None = None
    awake: Limit | None = None
    served: bool = False


class Played:
    """Looks against decisions. asked: replicas before each look, which `decisions` has the answer to."""

    def __init__(self, bounds: Bounds, cold_start: float, replicas: int, now: float = 0.0) -> None:
        self.bounds, self.cold_start = bounds, cold_start
        self.state, self.now = begin(replicas, now), now
        self.replicas, self.created = replicas, [now - cold_start] * replicas
        self.asked: list[int] = []
        self.times: list[float] = []
        self.decisions: list[Decision] = []

    def play(self, looks: Iterable[Look]) -> "Played":
        for given_look in looks:
            self.now += given_look.wait_seconds
            ready = sum(self.now - at >= self.cold_start for at in self.created)
            share = given_look.share
            signals = Signals(
                now=self.now,
                in_flight=None if share is None else given_look.in_flight * share,
                complete=share == 1.0,
                replicas=self.replicas,
                ready=ready,
                rolling=given_look.rolling,
                cold_start_seconds=self.cold_start,
                room=given_look.room,
                awake=given_look.awake,
                served=given_look.served,
            )
            self.state, decision = decide(self.state, self.bounds, signals)
            self.asked.append(self.replicas)
            self.times.append(self.now)
            self.decisions.append(decision)
            self.replicas = decision.replicas
            added = [self.now] * max(0, self.replicas - len(self.created))
            self.created = (self.created + added)[: self.replicas]
        return self

    @property
    def counts(self) -> list[int]:
        return [decision.replicas for decision in self.decisions]


def even(load: Callable[[int], float], minutes: float) -> list[Look]:
    """A look every 5 s."""
    return [Look(5.0, load(number)) for number in range(int(minutes * 12))]


def bounds(least: int = 1) -> st.SearchStrategy[Bounds]:
    return st.builds(
        lambda low, more, target: Bounds(low, max(low + more, 1), target, 600.0 if low == 0 else None),
        st.integers(least, 4), st.integers(0, 30), st.sampled_from([0.7, 1.0, 4.0, 22.4, 24.0, 100.0]),
    )  # fmt: skip


COLD_STARTS = st.sampled_from([0.0, 10.0, 60.0, 300.0, 900.0])
WAITS = st.sampled_from([1.0, 5.0, 5.0, 6.5, 60.0, 90.0])
LOADS = st.floats(0, 1000)
# Stretches of looks alike: of single ones nothing would ever come to a decision.
STRETCHES = st.builds(
    lambda number, look: [look] * number,
    st.sampled_from([1, 2, 12, 40, 80]),
    st.builds(
        Look,
        WAITS,
        st.just(0.0) | LOADS,
        st.sampled_from([1.0, 1.0, 1.0, 0.5, None]),
        st.sampled_from([False, False, False, True]),
        st.none() | st.none() | st.integers(0, 12),
        st.sampled_from([None, None, Limit.NOT_PROVEN, Limit.GATEWAY_NOT_READY]),
        st.sampled_from([False, False, True]),
    ),
)
LOOKS = st.lists(STRETCHES, max_size=8).map(lambda stretches: [look for stretch in stretches for look in stretch])


@given(bounds(0), COLD_STARTS, LOOKS, st.integers(0, 40))
def test_it_is_never_outside_min_and_max_nor_raised_above_room(
    limits: Bounds, cold_start: float, looks: list[Look], replicas: int
) -> None:
    played = Played(limits, cold_start, replicas).play(looks)
    for look, asked, count in zip(looks, played.asked, played.counts, strict=True):
        assert limits.min <= count <= limits.max
        if look.room is not None:
            assert count <= max(look.room, asked, limits.min)


@FEW
@given(bounds(), COLD_STARTS, LOADS, st.integers(1, 30))
def test_a_constant_load_comes_to_rest_at_what_it_needs(
    limits: Bounds, cold_start: float, load: float, replicas: int
) -> None:
    minutes = (window_seconds(cold_start) + 30 * step_seconds(cold_start)) / 60 + 5
    played = Played(limits, cold_start, replicas).play(even(lambda _: load, minutes))
    least, most = (math.ceil(round(load / limits.target / (1 + share), 6)) for share in (TOLERANCE, 0))
    at_rest = played.counts[-24:]
    assert len(set(at_rest)) == 1
    assert min(max(least, limits.min), limits.max) <= at_rest[0] <= max(most, limits.min)


def turns(counts: Sequence[int]) -> int:
    """Changes of direction."""
    steps = [after > before for before, after in pairwise(counts) if after != before]
    return sum(one != other for one, other in pairwise(steps))


@FEW
@given(COLD_STARTS, st.floats(0, 700), st.integers(0, 1000), st.integers(1, 30))
def test_noise_of_a_tenth_turns_it_at_most_once(cold_start: float, load: float, seed: int, replicas: int) -> None:
    draw = random.Random(seed)
    noisy = even(lambda _: load * draw.uniform(0.9, 1.1), 60)
    played = Played(Bounds(1, 40, 24), cold_start, replicas).play(noisy)
    assert turns([replicas, *played.counts]) <= 1


@FEW
@given(COLD_STARTS, st.integers(1, 25), st.integers(1, 24), st.integers(1, 30))
def test_a_load_that_swings_around_a_boundary_turns_it_at_most_once(
    cold_start: float, replicas: int, looks: int, at_first: int
) -> None:
    boundary = 24 * replicas
    swinging = even(lambda number: boundary + (1 if number // looks % 2 else -1), 60)
    played = Played(Bounds(1, 40, 24), cold_start, at_first).play(swinging)
    assert turns([at_first, *played.counts]) <= 1


# Looks, and by how many twentieths the load is above a low one, and above that once more.
STEPS = st.tuples(st.integers(1, 30), st.integers(0, 20), st.sampled_from([0, 0, 1, 2, 5, 15]), st.booleans())


@given(st.sampled_from([1.0, 24.0]), COLD_STARTS, st.lists(STEPS, max_size=8), st.integers(1, 400))
def test_more_demand_never_wants_fewer(
    target: float, cold_start: float, steps: list[tuple[int, int, int, bool]], replicas: int
) -> None:
    """With what was decided fed back. Not so with min 0: what one keeps ready has no need to wake at once."""
    counts = []
    for share in (0, 1):
        looks = [
            Look(5.0, 100 * 1.05 ** (level + share * more), 1.0 if complete else 0.5)
            for number, level, more, complete in steps
            for _ in range(number)
        ]
        counts.append(Played(Bounds(1, 10_000, target), cold_start, replicas).play(looks).counts)
    assert all(fewer <= more for fewer, more in zip(*counts, strict=True))


@FEW
@given(COLD_STARTS, st.floats(1, 300), st.floats(0, 500), st.integers(0, 1000))
def test_what_loads_stays_while_the_demand_for_it_lasts(
    cold_start: float, before: float, rise: float, seed: int
) -> None:
    """Also when it swings by a twentieth meanwhile."""
    draw = random.Random(seed)
    steady = [Look(draw.choice([1.0, 5.0, 60.0]), before) for _ in range(200)]
    raised = [Look(5.0, (before + rise) * draw.uniform(0.95, 1.05)) for _ in range(200)]
    played = Played(Bounds(1, 60, 24), cold_start, 1).play(steady)
    counts = [played.replicas, *played.play(raised).counts[len(steady) :]]
    assert counts == sorted(counts)


@given(bounds(0), COLD_STARTS, LOOKS, st.data())
def test_a_restart_with_what_was_remembered_changes_nothing(
    limits: Bounds, cold_start: float, looks: list[Look], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(looks)))
    whole = Played(limits, cold_start, 1).play(looks)
    halves = Played(limits, cold_start, 1).play(looks[:at])
    halves.state = restored(json.dumps(asdict(halves.state)))
    assert halves.play(looks[at:]).decisions == whole.decisions


def restored(text: str) -> State:
    fields = {
        name: tuple(tuple(pair) for pair in value) if isinstance(value, list) else value
        for name, value in json.loads(text).items()
    }
    return State(**fields)


@given(bounds(), COLD_STARTS, LOOKS, LOOKS)
def test_a_new_leader_takes_nothing_away_for_a_window(
    limits: Bounds, cold_start: float, before: list[Look], after: list[Look]
) -> None:
    played = Played(limits, cold_start, limits.min).play(before)
    begun, kept = played.now, played.replicas
    played.state = begin(played.replicas, played.now)
    played.play(after)
    for now, count in list(zip(played.times, played.counts, strict=True))[len(before) :]:
        if now < begun + window_seconds(cold_start):
            assert count >= kept


@FEW
@given(bounds(), COLD_STARTS, st.lists(st.tuples(WAITS, LOADS), min_size=1, max_size=60), st.data())
def test_a_new_leader_is_never_behind_the_old_one_while_the_load_grows(
    limits: Bounds, cold_start: float, steps: list[tuple[float, float]], data: st.DataObject
) -> None:
    loads = sorted(load for _, load in steps)
    looks = [Look(wait, load) for (wait, _), load in zip(steps, loads, strict=True)]
    at = data.draw(st.integers(0, len(looks)))
    old = Played(limits, cold_start, 1).play(looks)
    new = Played(limits, cold_start, 1).play(looks[:at])
    new.state = begin(new.replicas, new.now)
    new.play(looks[at:])
    assert all(one <= other for one, other in zip(old.counts, new.counts, strict=True))


@given(bounds(), COLD_STARTS, LOOKS, st.integers(1, 30))
def test_nothing_goes_down_on_what_is_not_known(
    limits: Bounds, cold_start: float, looks: list[Look], replicas: int
) -> None:
    played = Played(limits, cold_start, replicas).play(looks)
    answered = 0.0
    for look, now, asked, decision in zip(looks, played.times, played.asked, played.decisions, strict=True):
        blind = now - answered > 60
        if look.share != 1.0 or look.rolling or blind:
            assert decision.replicas >= min(asked, limits.max)
        answered = now if look.share == 1.0 else answered
        if look.share is None:
            assert decision.limited_by == Limit.METRICS_MISSING


@given(COLD_STARTS, LOOKS)
def test_down_goes_one_or_a_quarter_at_a_time(cold_start: float, looks: list[Look]) -> None:
    played = Played(Bounds(1, 100, 10), cold_start, 100).play(looks)
    for number, (now, count) in enumerate(zip(played.times, played.counts, strict=True)):
        past = zip(played.times[: number + 1], played.asked, strict=False)
        most = max(asked for at, asked in past if at > now - step_seconds(cold_start) or at == now)
        assert count >= most - max(1, most // 4)


@given(COLD_STARTS, LOOKS)
def test_asleep_only_after_idle_seconds_and_awake_at_once(cold_start: float, looks: list[Look]) -> None:
    limits = Bounds(0, 50, 24, idle_seconds=120.0)
    idle = [Look(5.0, 0.0)] * 150
    looks = looks + idle + looks + idle
    played = Played(limits, cold_start, 1).play(looks)
    busy = 0.0
    for look, now, asked, count in zip(looks, played.times, played.asked, played.counts, strict=True):
        if look.share is not None and look.in_flight * look.share > 0:
            busy = now
            if asked == 0:
                room = 50 if look.room is None else look.room
                assert count >= min(math.ceil(round(look.in_flight * look.share / 24 / 1.1, 6)), room, 50)
        busy = now if look.served and look.share is not None else busy
        if asked > 0 and count == 0:
            assert now - busy >= 120
            assert look.share == 1.0
            assert look.awake is None
        if look.awake == Limit.NOT_PROVEN and look.room is None:
            assert count >= 1


@FEW
@given(COLD_STARTS, st.sampled_from([10.0, 120.0, 1800.0]), st.lists(st.tuples(LOADS, st.integers(1, 60))))
def test_between_two_sleeps_lies_a_request_and_between_sleep_and_wake_no_time(
    cold_start: float, idle_seconds: float, visits: list[tuple[float, int]]
) -> None:
    """Every wake is somebody's, and brings at once what is asked for; idleness alone never wakes anything."""
    looks = [look for load, number in visits for look in [*[Look(5.0, load)] * number, *[Look(5.0, 0.0)] * number]]
    played = Played(Bounds(0, 100, 24, idle_seconds), cold_start, 1).play([*looks, *[Look(5.0, 0.0)] * 1000])
    asleep_at: float | None = None
    for look, now, asked, count in zip(
        [*looks, *[Look(5.0, 0.0)] * 1000], played.times, played.asked, played.counts, strict=True
    ):
        if asked == 0 and count > 0:
            assert look.in_flight > 0
            assert count >= math.ceil(round(min(look.in_flight, 2400) / 24 / 1.1, 6))
            woke_at = now
        if asked > 0 and count == 0:
            assert asleep_at is None or now - woke_at >= max(idle_seconds, cold_start)
            asleep_at = now
    assert played.counts[-1] == 0


@FEW
@given(COLD_STARTS, LOOKS, st.data())
def test_a_new_leader_wakes_what_the_old_one_would_have_woken(
    cold_start: float, looks: list[Look], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(looks)))
    old = Played(Bounds(0, 50, 24, 120.0), cold_start, 1).play(looks)
    new = Played(Bounds(0, 50, 24, 120.0), cold_start, 1).play(looks[:at])
    new.state = begin(new.replicas, new.now)
    new.play(looks[at:])
    for look, before, after in zip(looks[at:], old.asked[at:], new.counts[at:], strict=True):
        if before == 0 and look.share is not None and look.room is None and look.in_flight * look.share > 0:
            assert after > 0


FIGURES = re.compile(r"([\d.e+]+) requests? in flight / ([\d.]+) per replica = (\d+) replica")


@FEW
@given(COLD_STARTS, st.floats(0, 700), st.integers(0, 1000))
def test_the_sentence_adds_up_and_keeps_still(cold_start: float, load: float, seed: int) -> None:
    draw = random.Random(seed)
    noisy = even(lambda _: load * draw.uniform(0.95, 1.05), 120)
    decisions = Played(Bounds(1, 20, 24), cold_start, 10).play(noisy).decisions
    for decision in decisions:
        for figures in FIGURES.finditer(decision.explanation):
            demand, target, count = map(float, figures.groups())
            assert math.ceil(round(demand / target, 6)) == count
    last_hour = [(decision.explanation, decision.demand, decision.limited_by) for decision in decisions[-720:]]
    assert sum(one != other for one, other in pairwise(last_hour)) <= 3
