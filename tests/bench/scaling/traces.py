"""The loads of the scaling benchmark: two of each kind, one to tune on and one set aside.

The one set aside has another seed, other rates, other times and other service times. No constant of the brain was
chosen by what it showed, though it was looked at once before the last were.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from tests.bench.scaling.simulate import Request

MINUTE = 60.0
Rate = Callable[[float], float]
Service = Callable[[random.Random], float]


@dataclass(frozen=True)
class Trace:
    """rate: requests a second at a time.  most: of all rates.  service: seconds of one request without waiting."""

    name: str
    held_out: bool
    minutes: float
    rate: Rate
    most: float
    service: Service
    seed: int
    min: int = 1

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.minutes * MINUTE

    def requests(self, seed: int = 0) -> list[Request]:
        """Arrivals by chance at the rate of each moment (a Poisson process, by thinning).

        seed: another one gives another draw of the same load.
        """
        draw = random.Random(self.seed * 1000 + seed)
        now, found = 0.0, []
        while (now := now + draw.expovariate(self.most)) < self.seconds:
            if draw.random() * self.most < self.rate(now):
                found.append(Request(now, self.service(draw), draw.random()))
        return found


def levels(*steps: tuple[float, float]) -> Rate:
    """A rate that changes at once: (from which minute, rate) pairs."""
    times = [minute * MINUTE for minute, _ in steps]
    return lambda now: steps[bisect_right(times, now) - 1][1]


def lines(*points: tuple[float, float]) -> Rate:
    """A rate that changes evenly between (minute, rate) points, and stays at the last one."""

    def rate(now: float) -> float:
        minute = now / MINUTE
        for (begin, low), (end, high) in pairwise(points):
            if minute < end:
                return low + (high - low) * (minute - begin) / (end - begin)
        return points[-1][1]

    return rate


def every(period: float, length: float, low: float, high: float, first: float = 0.0) -> Rate:
    """`high` for `length` minutes of each `period`, from minute `first` on; otherwise `low`."""
    return lambda now: high if now >= first * MINUTE and (now / MINUTE - first) % period < length else low


def waves(low: float, *parts: tuple[float, float, float]) -> Rate:
    """The sum of (height, period in minutes, phase of 0 … 1) waves above `low`."""

    def rate(now: float) -> float:
        minute = now / MINUTE
        return low + sum(
            height * (1 - math.cos(2 * math.pi * (minute / period + phase))) / 2 for height, period, phase in parts
        )

    return rate


def about(seconds: float, spread: float = 0.2) -> Service:
    """Service times that differ little: evenly within ± `spread`."""
    return lambda draw: draw.uniform(1 - spread, 1 + spread) * seconds


def lognormal(mean: float, sigma: float) -> Service:
    """Many short answers and a few very long ones, at most 40 times the mean."""
    mu = math.log(mean) - sigma * sigma / 2
    return lambda draw: min(draw.lognormvariate(mu, sigma), 40 * mean)


def pareto(mean: float, alpha: float) -> Service:
    """A heavier tail than the lognormal one, at most 40 times the mean."""
    least = mean * (alpha - 1) / alpha
    return lambda draw: min(least * draw.paretovariate(alpha), 40 * mean)


TRACES = (
    Trace("step", False, 90, levels((0, 1), (15, 6), (60, 1)), 6, about(20), 11),
    Trace("spikes", False, 90, every(20, 5, 1, 6, first=10), 6, about(20), 12),
    Trace("ramp", False, 100, lines((0, 1), (10, 1), (40, 8), (60, 8), (80, 1)), 8, about(20), 13),
    Trace("day", False, 240, waves(0.5, (6.5, 240, 0.0)), 7, about(20), 14),
    Trace("on-off", False, 120, every(30, 10, 0, 3, first=5), 3, about(20), 15, min=0),
    Trace("heavy", False, 90, levels((0, 2), (20, 4), (60, 2.5)), 4, lognormal(20, 1.2), 16),
    Trace("step", True, 110, levels((0, 2), (12, 7), (40, 4), (55, 9), (85, 3)), 9, about(14, 0.5), 21),
    Trace("spikes", True, 100, every(27, 3, 1.5, 7, first=13), 7, about(28, 0.4), 22),
    Trace("ramp", True, 100, lines((0, 0.5), (15, 0.5), (27, 7), (40, 7), (75, 0.5)), 7, about(24, 0.4), 23),
    Trace("day", True, 300, waves(0.4, (4, 300, 0.1), (2.5, 100, 0.3), (0.6, 13, 0.0)), 7.5, about(17, 0.6), 24),
    Trace("on-off", True, 150, every(43, 6, 0, 5, first=9), 5, about(13, 0.3), 25, min=0),
    Trace("heavy", True, 100, levels((0, 1.2), (25, 3.5), (50, 2), (75, 3)), 3.5, pareto(22, 1.7), 26),
)
