"""Figures of the benchmark's page, from results made up here."""

from collections import Counter

import pytest

from tests.bench.report import bounds, render, rivals
from tests.bench.result import Result
from tests.bench.scenario import Phase

SECONDS = {
    "create": {"children": 4.0, "status": 5.0, "ready": 6.0},
    "edit": {"deployments": 1.0, "status": 2.0, "ready": 3.0},
    "edit one": {"deployments": 0.1, "ready": 0.2},
    "repair": {"children": 1.0},
    "crash": {"leads": 8.0, "deployments": 9.0},
    "idle": {},
    "delete": {"children": 7.0},
}


def result(count: int, *, cpu: float = 0.009, raw: float = 3.0, idle_writes: int = 0, extra: int = 0) -> Result:
    """A size at which an endpoint costs 4 writes, 5 passes and `cpu` seconds in each phase. extra: writes of edit."""
    calls = {
        name: Counter({("patch", "services"): 4 * count, ("get", "services"): count, ("update", "leases"): 3})
        for name in SECONDS
    }
    calls["idle"] = Counter({("update", "leases"): 300, ("patch", "services"): idle_writes})
    calls["edit"]["patch", "deployments"] = extra * count
    phases = {
        name: Phase(
            seconds=SECONDS[name],
            cpu_seconds={"operator": cpu * count, "kube-apiserver": 4 * cpu * count} | dict.fromkeys(REST, 0.0),
            passes=5 * count,
            calls=calls[name],
            memory_bytes=100_000_000,
            peak_bytes=120_000_000,
        )
        for name in SECONDS
    }
    told = {
        "children_seconds": raw,
        "seconds": raw,
        "cpu_seconds_per_request": 0.0005,
        "cpu_seconds_per_decision": 0.0003,
    }
    return Result(count, phases, [told, told], 600.0, "v1")


REST = ("kube-controller-manager", "etcd", "player")


def broken(*results: Result) -> list[str]:
    return [item.what for item in bounds(results) if item.holds is False]


def test_what_keeps_every_bound_breaks_none() -> None:
    assert broken(result(100), result(1000)) == []


@pytest.mark.parametrize(
    ("large", "what"),
    [
        (result(1000, raw=2.4), "write rate by raw rate, until all have a status"),
        (result(1000, idle_writes=1), "idle: writes besides the Lease"),
        (result(1000, extra=2), "growth, edit: writes per endpoint, 100 → 1000"),
    ],
)
def test_a_bound_that_is_broken_is_named(large: Result, what: str) -> None:
    assert broken(result(100), large) == [what]


def test_cpu_is_judged_by_pass_and_by_its_growth() -> None:
    told = broken(result(100), result(1000, cpu=0.02))
    assert told == ["CPU per pass, ms", *(f"growth, {name}: CPU per endpoint, 100 → 1000" for name in WORK)]


WORK = ("create", "edit", "repair")


def test_what_was_not_measured_is_neither_kept_nor_broken() -> None:
    small = result(10)
    without = Result(10, {name: phase for name, phase in small.phases.items() if name != "idle"}, [], 0.0, "v1")
    assert {item.what: item.holds for item in bounds([without])} == {
        "write rate by raw rate, until all have a status": None,
        "memory, peak, MB": True,
        "CPU per pass, ms": True,
        "idle: writes besides the Lease": None,
    }


def test_the_comparison_is_with_the_better_of_both_and_says_where_it_fails() -> None:
    assert [(row[0], row[-2], row[-1]) for row in rivals([result(100)])] == [
        ("create → all ready, s", "1.7", "**no**"),
        ("edit of all → rolled out, s", "200.0", "yes"),
        ("SIGKILL → an edit made meanwhile is applied, s", "1.8", "**no**"),
        ("idle, writes per minute (ours: 100 endpoints)", "–", "yes"),
    ]
    assert rivals([result(10)]) == []


def test_the_page_has_a_column_for_each_size() -> None:
    text = render([result(10), result(100)], "Measured somewhere.")
    assert "| endpoints | 10 | 100 |" in text
    assert "| create: writes per endpoint | 4.00 | 4.00 |" in text
    assert "| kube-apiserver | 80% | 80% |" in text
    assert "| create: requests to the API server | 2.5 | 2.5 |" in text
    assert "| create: decisions of passes | 1.5 | 1.5 |" in text
    assert "| create: watches, event loop, logging | 5.0 | 5.0 |" in text
