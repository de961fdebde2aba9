"""Phases, liveness and readiness from a snapshot and a clock value."""

from dataclasses import replace
from pathlib import Path

import pytest

from berth_server import progress, protocol
from berth_server.progress import Effort

RECORDED = Path(__file__).parents[2] / "contracts" / "launcher" / "recorded"
T0 = 1000.0
LOADING = replace(progress.begin(T0), phase=protocol.LOADING_WEIGHTS)
SERVING = replace(progress.begin(T0), phase=protocol.SERVING, proven=True, answered_at=T0)


def test_phases_of_a_real_start_come_in_order() -> None:
    phase, seen = protocol.STARTING_ENGINE, []
    # This start fails for want of KV cache memory, after everything else.
    for line in (RECORDED / "kv-cache-out-of-memory.txt").read_text().splitlines():
        following = progress.phase_of_line(line, phase)
        if following != phase:
            seen.append(following)
        phase = following
    assert seen == [protocol.LOADING_WEIGHTS, protocol.WARMING_UP]


def test_a_second_worker_that_loads_later_does_not_turn_the_phase_back() -> None:
    line = "(Worker_TP1 pid=7) INFO 11-21 02:46:28 [cpu_model_runner.py:68] Starting to load model /m..."
    assert progress.phase_of_line(line, protocol.WARMING_UP) == protocol.WARMING_UP


@pytest.mark.parametrize(
    ("name", "effort"),
    [
        ("output", Effort(output_bytes=1)),
        ("bytes", Effort(download_bytes=1)),
        ("cpu time", Effort(cpu_seconds=progress.PROGRESS_CPU_SECONDS)),
    ],
)
def test_each_kind_of_work_is_progress(name: str, effort: Effort) -> None:
    later = progress.with_effort(LOADING, effort, T0 + 800)
    assert later.progressed_at == T0 + 800
    assert progress.alive(later, T0 + 800 + progress.STALL_SECONDS)[0]


def test_idle_threads_of_a_hung_process_are_no_progress() -> None:
    later = progress.with_effort(LOADING, Effort(cpu_seconds=progress.PROGRESS_CPU_SECONDS - 0.1), T0 + 800)
    assert later.progressed_at == T0
    # Small sums add up only against the last progress, not against the last look.
    assert progress.with_effort(later, Effort(cpu_seconds=progress.PROGRESS_CPU_SECONDS), T0 + 850).progressed_at > T0


def test_a_finished_helper_process_takes_its_cpu_time_along() -> None:
    busy = progress.with_effort(LOADING, Effort(cpu_seconds=50), T0 + 10)
    fewer = progress.with_effort(busy, Effort(cpu_seconds=3), T0 + 20)
    assert fewer.effort.cpu_seconds == 3


def test_loading_may_take_hours_but_not_stand_still() -> None:
    slow = replace(LOADING, progressed_at=T0 + 7200)
    assert progress.alive(slow, T0 + 7200 + progress.STALL_SECONDS) == (True, "ok")
    alive, why = progress.alive(slow, T0 + 7200 + progress.STALL_SECONDS + 1)
    assert not alive
    assert "LoadingWeights" in why


def test_serving_is_alive_while_health_answers_whatever_it_says() -> None:
    assert progress.alive(replace(SERVING, engine_dead=True), T0 + 59)[0]
    assert not progress.alive(SERVING, T0 + 61)[0]
    # What counts before the proof does not count after it.
    assert progress.alive(replace(SERVING, answered_at=T0 + 5000), T0 + 5001)[0]


@pytest.mark.parametrize(
    ("snapshot", "seconds", "says"),
    [
        (LOADING, 0, "not yet ready: LoadingWeights"),
        (replace(SERVING, draining=True), 0, "draining"),
        (replace(SERVING, engine_dead=True), 0, "the engine is dead"),
        (SERVING, 21, "vLLM does not answer /health"),
        (replace(SERVING, phase=protocol.FAILED, message="EngineDied: x"), 0, "failed: EngineDied: x"),
    ],
)
def test_not_ready_says_why(snapshot: progress.Snapshot, seconds: float, says: str) -> None:
    assert progress.ready(snapshot, T0 + seconds) == (False, says)


def test_ready_outlasts_a_short_silence() -> None:
    assert progress.ready(SERVING, T0 + 19) == (True, "ok")


def test_the_report_is_the_contract() -> None:
    download = {"bytes_done": 123, "bytes_total": 456, "bytes_per_second": 33.3, "revision": "c0ffee"}
    snapshot = replace(LOADING, **download, engine_version="0.32.0", message="m")
    assert progress.report(snapshot, T0 + 12.34) == {
        "v": 1,
        "phase": "LoadingWeights",
        "bytes": 123,
        "total": 456,
        "bytes_per_second": 33,
        "seconds_left": 10.0,
        "revision": "c0ffee",
        "seconds": 12.3,
        "engine": {"version": "0.32.0"},
        "message": "m",
    }


def test_the_rate_is_that_of_the_last_samples() -> None:
    assert progress.rate([(10.0, 0)]) is None
    assert progress.rate([(10.0, 0), (12.0, 100)]) is None
    assert progress.rate([(10.0, 0), (12.0, 100), (14.0, 100)]) == 25.0
    assert progress.rate([(10.0, 500), (40.0, 500)]) == 0.0
    # A file was removed because it could not be resumed.
    assert progress.rate([(10.0, 500), (40.0, 100)]) == 0.0


@pytest.mark.parametrize("unknown", ["bytes_total", "bytes_done", "bytes_per_second"])
def test_no_estimate_without_what_it_needs(unknown: str) -> None:
    known = {"bytes_done": 1, "bytes_total": 2, "bytes_per_second": 1.0}
    assert progress.report(replace(LOADING, **(known | {unknown: None})), T0)["seconds_left"] is None
    assert progress.report(replace(LOADING, **(known | {"bytes_per_second": 0.0})), T0)["seconds_left"] is None
