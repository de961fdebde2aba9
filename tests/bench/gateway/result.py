"""What was measured, and the figures that follow from it. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Work:
    """One load on one proxy. answered: requests or events that came, all as they should be.

    seconds: how long it took.  user, system: CPU-seconds of the proxy.  others: share of its core that anything else
    used.  reads: of the client.  microseconds: how long events were on their way, p50 and p99.
    """

    answered: int
    seconds: float
    user: float = 0.0
    system: float = 0.0
    others: float = 0.0
    reads: int = 0
    microseconds: tuple[float, float] = (0.0, 0.0)

    @property
    def cpu_microseconds(self) -> float:
        """CPU of one request or event."""
        return 1e6 * (self.user + self.system) / self.answered

    @property
    def rate(self) -> float:
        """Answered in a second."""
        return self.answered / self.seconds

    @property
    def share_of_core(self) -> float:
        """Of the time."""
        return (self.user + self.system) / self.seconds

    @property
    def share_of_kernel(self) -> float:
        """Of the CPU."""
        return self.system / (self.user + self.system)


@dataclass(frozen=True)
class Latency:
    """Of paced requests, those through the proxy and those to the stub in turns: p50 and p99, microseconds."""

    direct: tuple[float, float]
    proxied: tuple[float, float]

    @property
    def added(self) -> tuple[float, float]:
        """By the proxy."""
        return self.proxied[0] - self.direct[0], self.proxied[1] - self.direct[1]


@dataclass(frozen=True)
class Memory:
    """idle: bytes without a stream.  open: bytes by number of open streams."""

    idle: int
    open: dict[int, int]

    def per_stream(self, streams: int) -> float:
        """Bytes of one."""
        return (self.open[streams] - self.idle) / streams


@dataclass
class Results:
    """By name of the proxy, one for each round. events: by number of streams.  endpoints: by how many are known."""

    plain: dict[str, list[Work]] = field(default_factory=dict)
    events: dict[int, dict[str, list[Work]]] = field(default_factory=dict)
    latency: dict[str, list[Latency]] = field(default_factory=dict)
    memory: dict[str, list[Memory]] = field(default_factory=dict)
    endpoints: dict[int, list[Work]] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """How many."""
        return min((len(each) for each in self.plain.values()), default=0)

    def works(self) -> list[Work]:
        """All loads that CPU was measured of."""
        found = [*self.plain.values(), *self.endpoints.values()]
        found += [works for by_name in self.events.values() for works in by_name.values()]
        return [work for works in found for work in works]


def median(values: Sequence[float]) -> float:
    """Of one or more."""
    return statistics.median(values)


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """p50 and p99, of one or more."""
    ordered = sorted(values)
    return ordered[int(0.50 * len(ordered))], ordered[int(0.99 * len(ordered))]


@dataclass(frozen=True)
class Ratio:
    """Of the medians of two; least and most: of rounds, each with its own."""

    value: float
    least: float
    most: float


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Measured in the same rounds."""
    pairs = [_divided(one, other) for one, other in zip(ours, theirs, strict=True)]
    return Ratio(_divided(median(ours), median(theirs)), min(pairs), max(pairs))


def _divided(one: float, other: float) -> float:
    """What is added to nothing, or to less, is no ratio to be content with."""
    return one / other if other > 0 else math.inf
