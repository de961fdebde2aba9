"""Progress of a start in words, and which pod's it is. Input: launchers' answers as `read_progress` leaves them."""

from typing import Any, NamedTuple

import pytest

from berth.decide.observed import Observed
from berth.decide.progress import progress, progress_text, revision

Object = dict[str, Any]
GIB, MIB = 2**30, 2**20


class Text(NamedTuple):
    name: str
    given: Object
    expect: str


TEXTS = [
    Text("a phase", {"phase": "WarmingUp", "bytes": None, "total": None}, "Warming up"),
    Text("a download", {"phase": "Downloading", "bytes": 1.2 * GIB, "total": 4 * GIB, "bytes_per_second": 120.4 * MIB,
                        "seconds_left": 23.9}, "Downloading 1.2 of 4.0 GiB, 120 MiB/s, 24 s left"),
    Text("a small one", {"phase": "Downloading", "bytes": 12 * MIB, "total": 40 * MIB, "bytes_per_second": 1.26 * MIB,
                         "seconds_left": 22.0}, "Downloading 12 of 40 MiB, 1.3 MiB/s, 22 s left"),
    Text("one that takes minutes", {"phase": "Downloading", "bytes": GIB, "total": 4 * GIB, "bytes_per_second": 9 * MIB,
                                    "seconds_left": 341.3}, "Downloading 1.0 of 4.0 GiB, 9 MiB/s, 5.7 min left"),
    Text("one that takes hours", {"phase": "Downloading", "bytes": GIB, "total": 400 * GIB, "bytes_per_second": 9 * MIB,
                                  "seconds_left": 45397.0}, "Downloading 1.0 of 400.0 GiB, 9 MiB/s, 13 h left"),
    Text("one that stands still", {"phase": "Downloading", "bytes": GIB, "total": 4 * GIB, "bytes_per_second": 0,
                                   "seconds_left": None}, "Downloading 1.0 of 4.0 GiB, 0 MiB/s"),
    Text("of unknown size", {"phase": "Downloading", "bytes": GIB // 2, "total": None}, "Downloading 512 MiB"),
    Text("not begun", {"phase": "Downloading", "bytes": None, "total": None}, "Downloading"),
    Text("that waits", {"phase": "Downloading", "bytes": 0, "total": None, "message": "waiting for another pod"},
         "Downloading 0 MiB; waiting for another pod"),
    Text("sizes of another phase are not told", {"phase": "LoadingWeights", "bytes": 1, "total": 1}, "Loading weights"),
    Text("no phase", {}, "Unknown"),
]  # fmt: skip


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case.name)
def test_text(case: Text) -> None:
    assert progress_text(case.given) == case.expect


def test_the_clock_is_not_told_as_status_would_change_on_every_pass() -> None:
    assert progress_text({"phase": "WarmingUp", "seconds": 1.0}) == progress_text({"phase": "WarmingUp", "seconds": 2})


def seen(*pods: tuple[str, Object, bool]) -> Observed:
    """Pods of (phase, more of the answer, ready), the oldest first."""
    objects = tuple(
        {
            "metadata": {"name": f"p{number}", "creationTimestamp": f"2026-01-01T00:00:0{number}Z"},
            "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
        }
        for number, (_, _, ready) in enumerate(pods)
    )
    answers = {f"p{number}": {"phase": phase, **more} for number, (phase, more, _) in enumerate(pods) if phase}
    return Observed(endpoint={}, pods=objects, progress=answers)


def test_of_several_starting_pods_the_furthest_is_told() -> None:
    found = progress(seen(("Downloading", {}, False), ("WarmingUp", {}, False), ("LoadingWeights", {}, False)))
    assert found == {"phase": "WarmingUp", "message": "Warming up"}
    some, more = {"bytes": 10 * MIB}, {"bytes": 20 * MIB}
    found = progress(seen(("Downloading", some, False), ("Downloading", more, False), ("Downloading", some, False)))
    assert found == {"phase": "Downloading", "message": "Downloading 20 MiB"}
    waits = more | {"message": "waiting for another pod's download: p1"}
    found = progress(seen(("Downloading", waits, False), ("Downloading", some, False), ("Downloading", waits, False)))
    assert found == {"phase": "Downloading", "message": "Downloading 10 MiB"}


@pytest.mark.parametrize("phase", ["", "Draining", "Failed", "unknown"])
def test_no_progress_of_pods_that_do_not_start(phase: str) -> None:
    assert progress(seen((phase, {}, False))) is None


def test_no_progress_of_a_pod_that_serves() -> None:
    assert progress(seen(("Serving", {}, True))) is None


def test_the_revision_is_that_of_the_youngest_pod_which_tells_one() -> None:
    assert (
        revision(seen(("Downloading", {"revision": "old"}, True), ("Downloading", {"revision": "new"}, False))) == "new"
    )
    assert revision(seen(("Downloading", {"revision": "old"}, True), ("Preparing", {}, False))) == "old"
    assert revision(seen(("Preparing", {"revision": None}, False))) is None
