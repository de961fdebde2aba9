"""One endpoint under one load and one policy of scaling: replicas with slots, cold starts, a Service and a gateway.

- A replica serves up to `slots` requests at once, each for its own service time; the others wait in it, first come
  first served, and stay there when another replica comes.
- The Service gives a request to a ready replica by chance, as kube-proxy does: not to the least loaded one.
- With no replica ready a request waits in the gateway until one is, at most `hold_seconds`; then it has failed.
- A replica is loading for `cold_start_seconds` after it was asked for. One that is to go gets no more requests,
  finishes those it has and is gone; a loading one is gone at once. Loading ones go first, then the youngest, as in a
  ReplicaSet.

As places are taken in the order of arrival, it is known on arrival when a request will start: nothing has to be
simulated between two arrivals.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from itertools import pairwise
from typing import NamedTuple, Protocol


class Request(NamedTuple):
    """seconds: service time without waiting.  draw: 0 … 1, which of the ready replicas gets it."""

    arrival: float
    seconds: float
    draw: float


@dataclass(frozen=True)
class Plant:
    """What all policies have in common. target: requests in flight per replica that a policy is to aim at."""

    cold_start_seconds: float
    min: int = 1
    max: int = 10
    slots: int = 32
    target: float = 22.0  # about 70 % of the slots
    hold_seconds: float = 300.0


@dataclass(frozen=True)
class Look:
    """What a policy sees. ready: requests in flight of each ready replica, running and waiting.

    leaving: those of replicas that go.  held: those in the gateway.  asked: replicas asked for, loading ones too.
    """

    now: float
    asked: int
    ready: Sequence[int]
    leaving: int
    held: int

    @property
    def in_flight(self) -> int:
        """All requests of the endpoint."""
        return sum(self.ready) + self.leaving + self.held


class Policy(Protocol):
    """interval_seconds: how often it looks."""

    interval_seconds: float

    def decide(self, look: Look) -> int:
        """The replicas it wants."""
        ...


@dataclass
class Result:
    """waits: seconds from arrival to start, of each request; a failed hold has the longest.

    counts: (time, replicas asked for) at each change.
    """

    waits: list[float] = field(default_factory=list)
    failed: int = 0
    replica_seconds: float = 0.0
    counts: list[tuple[float, int]] = field(default_factory=list)

    @property
    def p95_wait_seconds(self) -> float:
        """0 without requests."""
        return sorted(self.waits)[int(0.95 * len(self.waits))] if self.waits else 0.0

    @property
    def gpu_hours(self) -> float:
        """One GPU a replica, from creation until it is gone."""
        return self.replica_seconds / 3600

    @property
    def changes_of_direction(self) -> int:
        """How often a change up follows one down, or the other way round."""
        steps = [after > before for (_, before), (_, after) in pairwise(self.counts)]
        return sum(one != other for one, other in pairwise(steps))


class _Replica:
    __slots__ = ("_ends", "_places", "_slots", "created", "ready_at")

    def __init__(self, created: float, ready_at: float, slots: int) -> None:
        self.created, self.ready_at, self._slots = created, ready_at, slots
        self._places: list[float] = []  # when each place is free again, behind all that wait for it
        self._ends: list[float] = []

    def take(self, now: float, seconds: float) -> float:
        """Time at which the request starts."""
        places = self._places
        if len(places) < self._slots:
            start = now
            heappush(places, start + seconds)
        else:
            start = max(now, places[0])
            heapreplace(places, start + seconds)
        heappush(self._ends, start + seconds)
        return start

    def in_flight(self, now: float) -> int:
        ends = self._ends
        while ends and ends[0] <= now:
            heappop(ends)
        return len(ends)

    def empty_at(self, now: float) -> float:
        return max(now, max(self._ends, default=now))


class _Endpoint:
    """The replicas at one moment."""

    def __init__(self, plant: Plant, replicas: int) -> None:
        self._plant = plant
        self.result = Result(counts=[(0.0, replicas)])
        self.ready = [_Replica(0.0, 0.0, plant.slots) for _ in range(replicas)]
        self.loading: list[_Replica] = []
        self.leaving: list[_Replica] = []
        self.held: list[Request] = []
        self._cost = 0.0

    def advance(self, until: float, requests: Iterator[Request], following: Request | None) -> Request | None:
        """All that happens up to and at `until`. Returns the first request after it."""
        while self.loading and self.loading[0].ready_at <= until:
            following = self._arrivals(self.loading[0].ready_at, requests, following)
            self._become_ready()
        return self._arrivals(until, requests, following)

    def _arrivals(self, until: float, requests: Iterator[Request], following: Request | None) -> Request | None:
        ready, waits = self.ready, self.result.waits
        while following is not None and following.arrival <= until:
            if ready:
                replica = ready[int(following.draw * len(ready))]
                waits.append(replica.take(following.arrival, following.seconds) - following.arrival)
            else:
                self.held.append(following)
            following = next(requests, None)
        return following

    def _become_ready(self) -> None:
        replica = self.loading.pop(0)
        self.ready.append(replica)
        held, self.held = self.drop_expired(replica.ready_at), []
        for request in held:
            chosen = self.ready[int(request.draw * len(self.ready))]
            self.result.waits.append(chosen.take(replica.ready_at, request.seconds) - request.arrival)

    def drop_expired(self, now: float) -> list[Request]:
        """Requests that the gateway still holds; the others have failed."""
        limit = self._plant.hold_seconds
        self.result.waits += [limit for request in self.held if now - request.arrival > limit]
        self.result.failed += sum(now - request.arrival > limit for request in self.held)
        self.held = [request for request in self.held if now - request.arrival <= limit]
        return self.held

    def look(self, now: float) -> Look:
        """Also lets replicas go that are empty by now."""
        self.drop_expired(now)
        self.leaving = [replica for replica in self.leaving if replica.in_flight(now)]
        ready = [replica.in_flight(now) for replica in self.ready]
        leaving = sum(replica.in_flight(now) for replica in self.leaving)
        return Look(now, len(self.ready) + len(self.loading), ready, leaving, len(self.held))

    def scale(self, now: float, replicas: int) -> None:
        asked = len(self.ready) + len(self.loading)
        if replicas == asked:
            return
        self.result.counts.append((now, replicas))
        for _ in range(replicas - asked):
            ready_at = now + self._plant.cold_start_seconds
            self.loading.append(_Replica(now, ready_at, self._plant.slots))
        for _ in range(asked - replicas):
            if self.loading:
                self._cost += now - self.loading.pop().created
            else:
                replica = self.ready.pop()
                self.leaving.append(replica)
                self._cost += replica.empty_at(now) - replica.created

    def finish(self, end: float) -> Result:
        self.result.waits += [min(end - request.arrival, self._plant.hold_seconds) for request in self.held]
        for replica in self.ready + self.loading:
            self._cost += end - replica.created
        self.result.replica_seconds = self._cost
        return self.result


def simulate(
    requests: Sequence[Request], seconds: float, plant: Plant, policy: Policy, replicas: int | None = None
) -> Result:
    """What comes of `requests` within `seconds`. replicas: ready at the beginning, otherwise the plant's min."""
    endpoint = _Endpoint(plant, plant.min if replicas is None else replicas)
    queue = iter(requests)
    following = next(queue, None)
    steps = int(seconds / policy.interval_seconds)
    for step in range(steps + 1):
        now = step * policy.interval_seconds
        following = endpoint.advance(now, queue, following)
        wanted = policy.decide(endpoint.look(now))
        endpoint.scale(now, min(max(wanted, plant.min), plant.max))
    endpoint.advance(seconds, queue, following)
    return endpoint.finish(seconds)
