"""What is held, under any order of arrivals, departures, releases and time, against lists that are counted anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from berth_gateway.holding import Full, Holds, Limits, room
from berth_gateway.table import Endpoint, Pod

LIMITS = Limits(per_endpoint=4, in_all=7, bytes_per_endpoint=50, bytes_in_all=80, seconds=30)
NAMES = ("a", "b", "c")


@dataclass
class One:
    """An item of the model: one object for each request, as in the gateway."""

    number: int
    size: int
    since: float

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


@dataclass
class Naive:
    """What is waiting, as a plain list, and those that were let go."""

    waiting: list[One] = field(default_factory=list)
    gone: list[One] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(one.size for one in self.waiting)


class Holding(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.holds = Holds(LIMITS)
        self.endpoints = {
            name: Endpoint(uid=name, namespace="team", name=name, created="", key=f"team/{name}") for name in NAMES
        }
        self.naive = {name: Naive() for name in NAMES}
        self.now = 0.0
        self.version = self.made = self.told = 0
        self.ever_released: set[One] = set()
        self.holds.on_change = self.count_change

    def count_change(self) -> None:
        self.told += 1

    def all(self) -> list[One]:
        return [one for naive in self.naive.values() for one in naive.waiting]

    def try_to_add(self, name: str, one: One, since: float | None) -> None:
        naive, everything = self.naive[name], self.all()
        fits = (
            len(naive.waiting) < LIMITS.per_endpoint
            and naive.bytes + one.size <= LIMITS.bytes_per_endpoint
            and len(everything) < LIMITS.in_all
            and sum(other.size for other in everything) + one.size <= LIMITS.bytes_in_all
        )
        if not fits:
            with pytest.raises(Full):
                self.holds.add(self.endpoints[name], one, one.size, self.now, since)
            return
        self.holds.add(self.endpoints[name], one, one.size, self.now, since)
        self.version += 1
        if since is None:
            naive.waiting.append(one)
        else:
            if naive.waiting:
                one.since = min(since, naive.waiting[0].since)
            naive.waiting.insert(0, one)

    @rule(name=st.sampled_from(NAMES), size=st.integers(0, 40))
    def arrive(self, name: str, size: int) -> None:
        self.made += 1
        self.try_to_add(name, One(self.made, size, self.now), None)

    @precondition(lambda self: any(naive.gone for naive in self.naive.values()))
    @rule(data=st.data())
    def come_back(self, data: Any) -> None:
        name = data.draw(st.sampled_from([name for name in NAMES if self.naive[name].gone]))
        gone = self.naive[name].gone
        one = gone.pop(data.draw(st.integers(0, len(gone) - 1)))
        self.ever_released.discard(one)
        self.try_to_add(name, one, one.since)

    @precondition(lambda self: bool(self.all()))
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        name = data.draw(st.sampled_from([name for name in NAMES if self.naive[name].waiting]))
        one = data.draw(st.sampled_from(self.naive[name].waiting))
        assert self.holds.remove(self.endpoints[name], one)
        self.naive[name].waiting.remove(one)
        self.ever_released.add(one)
        self.version += 1

    @precondition(lambda self: bool(self.ever_released))
    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def leave_again(self, data: Any, name: str) -> None:
        assert not self.holds.remove(self.endpoints[name], data.draw(st.sampled_from(list(self.ever_released))))

    @rule(name=st.sampled_from(NAMES), room=st.integers(0, 5))
    def let_go(self, name: str, room: int) -> None:
        naive = self.naive[name]
        expected = naive.waiting[:room]
        found = self.holds.release(self.endpoints[name], room)
        assert [one.number for one in found] == [one.number for one in expected]
        assert not self.ever_released.intersection(found)
        del naive.waiting[:room]
        naive.gone += found
        self.ever_released.update(found)
        self.version += bool(found)

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        late = {
            (name, one.number)
            for name, naive in self.naive.items()
            for one in naive.waiting
            if one.since <= self.now - LIMITS.seconds
        }
        found = self.holds.overdue(self.now)
        assert {(endpoint.name, one.number) for endpoint, one in found} == late
        assert len(found) == len(late)
        self.version += len({name for name, _ in late})
        for name, naive in self.naive.items():
            self.ever_released.update(one for one in naive.waiting if (name, one.number) in late)
            naive.waiting = [one for one in naive.waiting if (name, one.number) not in late]

    @invariant()
    def the_books_are_exact(self) -> None:
        everything = self.all()
        assert self.holds.count == len(everything)
        assert self.holds.bytes == sum(one.size for one in everything)
        assert {endpoint.name for endpoint in self.holds.endpoints} == {n for n in NAMES if self.naive[n].waiting}
        assert self.holds.version == self.told == self.version
        for name, naive in self.naive.items():
            held = self.endpoints[name].held
            assert bool(held) is bool(naive.waiting)
            if held is None:
                continue
            assert [one.number for one in held.waiting] == [one.number for one in naive.waiting]
            assert (len(held), held.bytes) == (len(naive.waiting), naive.bytes)
            assert held.since == (naive.waiting[0].since if naive.waiting else None)
            assert list(held.waiting.values()) == sorted(held.waiting.values(), key=lambda value: value[0])


class Releasing(RuleBasedStateMachine):
    """Pods come, answer, fail and go; the relay asks for room after each, and what goes on goes to the emptiest pod."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = Holds(Limits())
        self.endpoint = Endpoint(uid="a", namespace="team", name="a", created="", key="team/a")
        self.endpoint.target = 3.0
        self.now = 0.0
        self.made = self.came = self.went = 0

    def relay(self) -> None:
        """What may go on goes; no pod that gets more is above its target by more than what was answered since."""
        ready = [pod for pod in self.endpoint.ready if pod.ejected_until <= self.now]
        before = {id(pod): pod.in_flight for pod in ready}
        found = self.holds.release(self.endpoint, room(self.endpoint, self.now))
        assert found == list(range(self.went, self.went + len(found)))
        self.went += len(found)
        for _ in found:
            min(ready, key=lambda pod: pod.in_flight).in_flight += 1
        for pod in ready:
            if pod.in_flight > before[id(pod)]:
                assert pod.in_flight <= 3 + self.endpoint.held.answered // len(ready)
        if self.endpoint.held and ready:
            assert room(self.endpoint, self.now) == 0

    @rule(many=st.integers(1, 30))
    def arrive(self, many: int) -> None:
        for _ in range(many):
            self.holds.add(self.endpoint, self.came, 1, self.now)
            self.came += 1
        self.relay()

    @precondition(lambda self: len(self.endpoint.ready) < 4)
    @rule()
    def start_a_pod(self) -> None:
        self.made += 1
        new = Pod("10.0.0.1", self.made, "p")
        self.endpoint.ready.append(new)
        self.relay()
        assert new.in_flight <= 3

    @precondition(lambda self: bool(self.endpoint.ready))
    @rule(which=st.integers(0, 3), seconds=st.sampled_from([None, 5.0]))
    def lose_a_pod(self, which: int, seconds: float | None) -> None:
        pods = self.endpoint.ready
        pod = pods[which % len(pods)]
        before = {id(other): other.in_flight for other in pods}
        if seconds is None:
            pods.remove(pod)
        else:
            pod.ejected_until = self.now + seconds
        self.relay()
        for other in pods:
            assert other.in_flight <= max(3, before[id(other)])

    @precondition(lambda self: any(pod.in_flight for pod in self.endpoint.ready))
    @rule(which=st.integers(0, 99), well=st.booleans())
    def answer(self, which: int, well: bool) -> None:
        busy = [pod for pod in self.endpoint.ready if pod.in_flight]
        busy[which % len(busy)].in_flight -= 1
        if well:
            self.holds.answered(self.endpoint)
        before = self.went
        self.relay()
        # One more for each pod, when its share of the growth is whole, and the place of the one that was answered.
        assert self.went - before <= 1 + len(self.endpoint.ready)

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.relay()

    def teardown(self) -> None:
        """With a pod that answers, all who wait are let go in the end."""
        if not self.endpoint.ready:
            self.endpoint.ready.append(Pod("10.0.0.1", 1, "p"))
        self.now += 100
        self.relay()
        for _ in range(self.came):
            for pod in self.endpoint.ready:
                if pod.in_flight:
                    pod.in_flight -= 1
                    self.holds.answered(self.endpoint)
            self.relay()
        assert self.went == self.came


TestHolding = Holding.TestCase
TestHolding.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestReleasing = Releasing.TestCase
TestReleasing.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
