"""What several gateways do to the fewest in flight, as each knows only of its own requests: simulated. Pure.

Requests come by chance and last as long as they last, whatever else their pod does, so that the choice alone makes the
difference. Each goes through a gateway by chance, which chooses the pod as the real one does (`berth_gateway.choice`).
Imbalance: how many requests the busiest pod has in flight beyond the mean of the pods.
"""

import math
import random
from heapq import heappop, heappush
from typing import NamedTuple

from berth_gateway.choice import choose
from berth_gateway.table import Endpoint, Pod, Table
from tests.bench.gateway.played import endpoint, endpoint_slice

GATEWAYS = (1, 2, 4, 8)
PODS = (4, 16)
IN_FLIGHT = (8, 64)
REQUESTS = 10_000
MEAN_SECONDS = 10.0
WARM_UP_SECONDS = 5 * MEAN_SECONDS
SIGMA = 1.0  # of the logarithms of the seconds that requests last
# How many beginnings the prompts have: requests with the same one go to the same pod, as far as its load allows.
BEGINNINGS = {"without affinity": 0, "prompts that begin alike": 1, "1,000 beginnings": 1000}


class Imbalance(NamedTuple):
    """In requests, as a request that arrives finds it: the mean, and what 99 % of them do not exceed."""

    mean: float
    most: float


def simulate(gateways: int, pods: int, in_flight: int, beginnings: int = 0) -> Imbalance:
    """Of so many gateways; 0: requests go to a pod by chance, as kube-proxy has it. in_flight: mean of a pod.

    beginnings: of the prompts; 0: nothing binds requests to pods.
    """
    draw = random.Random(1)
    known = [_endpoint(pods) for _ in range(gateways or 1)]
    totals = dict.fromkeys((pod.name for pod in known[0].ready), 0)
    ends: list[tuple[float, int, Pod]] = []
    found: list[float] = []
    now = 0.0
    rate = pods * in_flight / MEAN_SECONDS
    for number in range(REQUESTS + round(rate * WARM_UP_SECONDS)):
        now += draw.expovariate(rate)
        while ends and ends[0][0] <= now:
            pod = heappop(ends)[2]
            pod.in_flight -= 1
            totals[pod.name] -= 1
        if now > WARM_UP_SECONDS:
            found.append(max(totals.values()) - sum(totals.values()) / pods)
        affinity = b"%d" % draw.randrange(beginnings) if beginnings else None
        chosen = choose(draw.choice(known), affinity, now) if gateways else draw.choice(known[0].ready)
        assert chosen is not None
        chosen.in_flight += 1
        totals[chosen.name] += 1
        seconds = draw.lognormvariate(math.log(MEAN_SECONDS) - SIGMA**2 / 2, SIGMA)
        heappush(ends, (now + seconds, number, chosen))
    return Imbalance(sum(found) / len(found), sorted(found)[int(0.99 * len(found))])


def _endpoint(pods: int) -> Endpoint:
    table = Table()
    table.put_slice(endpoint_slice(0, [f"192.0.2.{number}:8000" for number in range(pods)]))
    return table.put_endpoint(endpoint(0))


def head() -> list[str]:
    """Of the table."""
    return ["gateways", *(f"{pods} pods, {load} in flight each" for pods in PODS for load in IN_FLIGHT)]


def rows() -> list[list[str]]:
    """Of the table: each kind of prompts with numbers of gateways, and choice by chance."""
    found = [
        [f"{count}, {name}", *_cells(count, beginnings)]
        for name, beginnings in BEGINNINGS.items()
        for count in GATEWAYS
    ]
    return [*found, ["none, by chance", *_cells(0, 0)]]


def _cells(gateways: int, beginnings: int) -> list[str]:
    found = [simulate(gateways, pods, in_flight, beginnings) for pods in PODS for in_flight in IN_FLIGHT]
    return [f"{each.mean:.1f} / {each.most:.0f}" for each in found]
