"""The access log: what a line says, how lines are written, and what becomes of them when nobody reads."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth_gateway.log import MOST_LINES, PIECE_LINES, AccessLog

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ENDED: dict[str, Any] = {
    "time": 1_800_000_000.25,
    "namespace": "team",
    "endpoint": "llama",
    "owner": "alice",
    "api": "OpenAI",
    "method": "POST",
    "path": "/v1/chat/completions",
    "status": 200,
    "seconds": 1.2345678,
    "first_byte_seconds": 0.25,
    "held_seconds": 0.0,
    "answer_bytes": 612,
    "retries": 1,
    "pod": "llama-7f9-x",
    "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
}


class Pipe:
    """Takes `room` bytes in all, then none. partly: at most so many at once."""

    def __init__(self, room: int = 10**9, partly: int = 10**9, full: Any = BlockingIOError) -> None:
        self.room, self.partly, self.full = room, partly, full
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> int | None:
        taken = min(len(data), self.room, self.partly)
        if taken == 0:
            if self.full is None:
                return None
            raise self.full
        self.room -= taken
        self.writes.append(data[:taken])
        return taken

    @property
    def lines(self) -> list[Any]:
        data = b"".join(self.writes)
        assert data == b"" or data.endswith(b"\n")
        return [json.loads(line) for line in data.splitlines()]


def log_line(log: AccessLog, **fields: Any) -> None:
    log.line(**(ENDED | fields))


def line(**fields: Any) -> Any:
    pipe = Pipe()
    log = AccessLog(pipe.write)
    log_line(log, **fields)
    log.flush()
    (found,) = pipe.lines
    return found


def test_a_line_says_what_became_of_a_request() -> None:
    assert line() == {
        "timestamp": "2027-01-15T08:00:00.250000Z",
        "event": "request ended",
        "namespace": "team",
        "endpoint": "llama",
        "owner": "alice",
        "api": "OpenAI",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "seconds": 1.234568,
        "first_byte_seconds": 0.25,
        "held_seconds": 0.0,
        "bytes": 612,
        "retries": 1,
        "pod": "llama-7f9-x",
        "trace_id": TRACE,
    }
    assert line(first_byte_seconds=None)["first_byte_seconds"] is None
    assert line(first_byte_seconds=0.1234567, held_seconds=9.8765432)["held_seconds"] == 9.876543


def test_a_path_has_no_query_and_an_end() -> None:
    assert line(path="/v1/x?key=secret&prompt=p")["path"] == "/v1/x"
    assert line(path="/" + "a" * 9000)["path"] == "/" + "a" * 255


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        ("", ""),
        (f"00-{TRACE}-00f067aa0ba902b7-00", TRACE),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-what-comes-later", TRACE),
        (f"00-{TRACE}-00f067aa0ba902b7-01x", ""),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE[1:]}-00f067aa0ba902b7-01", ""),
        ("a secret that somebody put there", ""),
    ],
)
def test_a_trace_is_told_by_its_id_and_nothing_else_is(traceparent: str, expected: str) -> None:
    assert line(traceparent=traceparent)["trace_id"] == expected


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_line_is_one_line_whatever_it_says(path: str, pod: str) -> None:
    pipe = Pipe()
    log = AccessLog(pipe.write)
    log_line(log, path=path, pod=pod)
    log.flush()
    assert b"".join(pipe.writes).count(b"\n") == 1
    assert pipe.lines[0]["pod"] == pod


def test_lines_are_written_in_pieces() -> None:
    pipe = Pipe()
    log = AccessLog(pipe.write)
    for number in range(PIECE_LINES - 1):
        log_line(log, status=number)
    assert pipe.writes == []
    log_line(log, status=PIECE_LINES - 1)
    assert [each["status"] for each in pipe.lines] == list(range(PIECE_LINES))
    assert len(pipe.writes) == 1
    log.flush()
    assert len(pipe.writes) == 1
    log_line(log, status=7)
    log.flush()
    assert [len(each.splitlines()) for each in pipe.writes] == [PIECE_LINES, 1]


@pytest.mark.parametrize("full", [BlockingIOError, BrokenPipeError, None])
def test_while_nobody_reads_lines_wait_up_to_a_bound_and_are_lost_beyond_it(full: Any) -> None:
    pipe = Pipe(room=0, full=full)
    log = AccessLog(pipe.write)
    for number in range(3 * MOST_LINES):
        log_line(log, status=number)
    # One piece is on its way, behind which the others wait.
    kept = MOST_LINES + PIECE_LINES
    assert log.lost == 3 * MOST_LINES - kept
    pipe.room = 10**9
    log.flush()
    assert [each["status"] for each in pipe.lines] == list(range(kept))
    log_line(log, status=1)
    log.flush()
    assert pipe.lines[-1]["status"] == 1
    assert log.lost == 3 * MOST_LINES - kept


@given(st.lists(st.one_of(st.none(), st.integers(0, 3000)), max_size=60), st.integers(1, 500))
def test_no_line_is_cut_or_told_twice_however_little_is_taken_at_once(steps: list[int | None], partly: int) -> None:
    pipe = Pipe(room=0, partly=partly)
    log, told = AccessLog(pipe.write), 0
    for room in steps:
        if room is None:
            log_line(log, status=told)
            told += 1
        else:
            pipe.room = room
            log.flush()
            assert len(b"".join(pipe.writes)) <= sum(step or 0 for step in steps)
    pipe.room = 10**9
    for _ in range(10**5):
        before = len(pipe.writes)
        log.flush()
        if len(pipe.writes) == before:
            break
    assert [each["status"] for each in pipe.lines] == list(range(told))
    assert log.lost == 0


def test_a_real_pipe_that_is_full_does_not_block() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    log = AccessLog(lambda data: os.write(writer, data))
    for number in range(4000):
        log_line(log, status=number)
    log.flush()
    assert log.lost > 0
    data = b""
    os.set_blocking(reader, False)
    for _ in range(1000):
        try:
            data += os.read(reader, 1 << 20)
        except BlockingIOError:
            break
        log.flush()
    os.close(reader)
    os.close(writer)
    found = [json.loads(each)["status"] for each in data.splitlines()]
    assert found == list(range(4000 - log.lost))
