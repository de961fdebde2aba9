"""From what pods tell to what the number of replicas is decided on.

In: loads as `read_load` gives them, pods.  Out: numbers, names.
"""

from typing import Any, NamedTuple

import pytest

from berth.api.scaling import Scaling
from berth.decide import load as loads
from berth.kube.launchers import LOAD
from tests import builders


def load(**told: float) -> dict[str, Any]:
    return dict.fromkeys(LOAD) | told


class Flight(NamedTuple):
    name: str
    load: dict[str, Any]
    expect: float | None


@pytest.mark.parametrize(
    "case",
    [
        Flight("running and waiting", load(running=3, waiting=2, deferred=0), 5),
        Flight("deferred do not count", load(running=3, waiting=2, deferred=2), 3),
        Flight("read at different moments", load(running=3, waiting=1, deferred=2), 3),
        Flight("vLLM tells no deferred", load(running=3, waiting=2), 5),
        Flight("idle", load(running=0, waiting=0, deferred=0), 0),
        Flight("vLLM tells nothing", load(), None),
        Flight("half of it", load(running=3), None),
    ],
    ids=lambda case: case.name,
)
def test_in_flight(case: Flight) -> None:
    assert loads.in_flight(case.load) == case.expect


class Target(NamedTuple):
    name: str
    loads: list[dict[str, Any]]
    expect: float
    known: float | None = None
    spec: int | None = None
    before: float | None = None


@pytest.mark.parametrize(
    "case",
    [
        Target("the spec's", [load(max_num_seqs=100)], 24, spec=24, known=9),
        Target("nothing known", [], 5.6),
        Target("nothing known now", [], 35, known=50),
        Target("how long requests are is not known", [load(max_num_seqs=100, kv_cache_tokens=4000)], 70),
        Target("it was", [load(max_num_seqs=100, kv_cache_tokens=4000, requests=19, tokens=1900)], 35, known=50),
        Target("nobody tells any more", [], 24, before=24),
        Target("nobody tells yet", [load(requests=3)], 24, before=24),
        Target("the spec's is another one", [], 9, before=24, spec=9),
        Target("another one is told", [load(max_num_seqs=100)], 70, before=24),
        Target("the smallest pod", [load(max_num_seqs=100), load(max_num_seqs=50)], 35),
        Target("at least one", [], 1, known=0.5),
    ],
    ids=lambda case: case.name,
)
def test_target(case: Target) -> None:
    scaling = Scaling.model_validate({"max": 4, "target": {"inFlightPerReplica": case.spec}})
    told = {str(number): each for number, each in enumerate(case.loads)}
    assert loads.target_in_flight(scaling, told, case.known, case.before) == pytest.approx(case.expect)


class Capacity(NamedTuple):
    name: str
    loads: list[dict[str, Any]]
    expect: float | None


@pytest.mark.parametrize(
    "case",
    [
        Capacity("nothing known", [], None),
        Capacity("the engine does not tell its cache", [load(max_num_seqs=100, requests=20, tokens=9)], None),
        Capacity("few requests", [load(max_num_seqs=100, kv_cache_tokens=4000, requests=19, tokens=1900)], None),
        Capacity("short requests", [load(max_num_seqs=100, kv_cache_tokens=40000, requests=20, tokens=2000)], 100),
        Capacity("long requests", [load(max_num_seqs=100, kv_cache_tokens=4000, requests=20, tokens=2000)], 40),
        Capacity("of all pods", [load(max_num_seqs=100, kv_cache_tokens=4000, requests=10, tokens=1000)] * 2, 40),
    ],
    ids=lambda case: case.name,
)
def test_capacity(case: Capacity) -> None:
    assert loads.capacity({str(number): each for number, each in enumerate(case.loads)}) == case.expect


def pod(name: str, created: str, ready: str | None) -> dict[str, Any]:
    found = builders.pod(name)
    found["metadata"]["creationTimestamp"] = created
    state = {"status": "True", "lastTransitionTime": ready} if ready else {"status": "False"}
    found["status"]["conditions"] = [{"type": "Ready", **state}]
    return found


def test_the_start_is_that_of_the_quickest_ready_pod() -> None:
    first = pod("a", "2026-01-01T00:00:00Z", "2026-01-01T00:01:40Z")
    later = pod("b", "2026-01-01T00:00:00Z", "2026-01-01T10:00:00Z")
    starts = pod("c", "2026-01-01T10:00:00Z", None)
    assert loads.start_seconds([starts, later, first]) == 100
    assert loads.start_seconds([later]) is None, "ten hours after it was made it was not ready for the first time"
    assert loads.start_seconds([starts]) is None


def test_the_least_busy_go_first_and_of_equals_the_youngest() -> None:
    pods = [pod(name, f"2026-01-01T00:00:0{age}Z", None) for name, age in (("a", 1), ("b", 2), ("c", 3), ("d", 4))]
    told = {"a": load(running=0, waiting=0), "b": load(running=0, waiting=0), "c": load(running=1, waiting=0)}
    assert loads.least_busy(pods, told, 1) == ("b",)
    assert loads.least_busy(pods, told, 2) == ("b", "a")
    assert loads.least_busy(pods, told | {"d": load()}, 9) == ("b", "a", "c"), "nobody knows whether d is idle"
    assert loads.least_busy(pods, told, 0) == loads.least_busy(pods, told, -3) == ()
