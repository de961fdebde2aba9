"""How far the start is, and whether the server is alive and ready: pure functions over a snapshot and a clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from berth_server import motion, protocol
from berth_server.motion import Motion

# Loading without a byte, a line of output or CPU time for this long is a hang. Long enough for a slow network
# file system that delivers a single large shard; short enough to free a GPU within the hour.
STALL_SECONDS = 900.0
# CPU time that counts as progress: idle helper threads of a hung vLLM stay below it for STALL_SECONDS.
PROGRESS_CPU_SECONDS = 5.0
# A long prefill can keep vLLM's API loop from answering for some seconds: not a reason to leave the Service.
UNANSWERED_READY_SECONDS = 20.0
UNANSWERED_ALIVE_SECONDS = 60.0

# A download comes in steps: the hub's library writes 10 MB at a time.
RATE_SECONDS = 30.0
LEAST_RATE_SECONDS = 3.0

# vLLM's own lines (0.26 to 0.32), in the order in which they come. The engine's processes write side by side,
# so a phase never goes back.
PHASE_LINES = (
    (protocol.LOADING_WEIGHTS, re.compile(r"Starting to load model|Loading \w+ checkpoint shards|Loading weights")),
    (
        protocol.WARMING_UP,
        re.compile(r"Loading weights took|Model loading took|KV cache size|Dynamo bytecode|Capturing CUDA graph"),
    ),
)


@dataclass(frozen=True)
class Effort:
    """Counters that only grow while work is done: output bytes, downloaded bytes, CPU seconds."""

    output_bytes: int = 0
    download_bytes: int = 0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """What the launcher knows at one moment. Times are monotonic clock values in seconds."""

    started_at: float
    progressed_at: float
    effort: Effort = Effort()
    phase: str = protocol.PREPARING
    message: str = ""
    bytes_done: int | None = None
    bytes_total: int | None = None
    bytes_per_second: float | None = None
    revision: str | None = None
    """Commit of the weights."""
    engine_version: str | None = None
    proven: bool = False
    draining: bool = False
    answered_at: float | None = None
    """When vLLM's /health last answered, whatever it said."""
    engine_dead: bool = False
    motion: Motion = field(default_factory=Motion)


def begin(now: float) -> Snapshot:
    return Snapshot(started_at=now, progressed_at=now)


def phase_of_line(line: str, phase: str) -> str:
    """The phase after this line of vLLM's output; never an earlier one than `phase`."""
    for name, pattern in PHASE_LINES:
        if protocol.PHASES.index(name) > protocol.PHASES.index(phase) and pattern.search(line):
            phase = name
    return phase


def with_effort(snapshot: Snapshot, effort: Effort, now: float) -> Snapshot:
    """Notes progress when any counter moved enough since progress was last noted."""
    last = snapshot.effort
    if (
        effort.output_bytes > last.output_bytes
        or effort.download_bytes > last.download_bytes
        or effort.cpu_seconds >= last.cpu_seconds + PROGRESS_CPU_SECONDS
        # Processes came and went: start counting from the new sum.
        or effort.cpu_seconds < last.cpu_seconds
    ):
        return replace(snapshot, effort=effort, progressed_at=now)
    return snapshot


def rate(samples: Sequence[tuple[float, int]]) -> float | None:
    """Bytes per second over samples of (monotonic seconds, bytes), oldest first; None while they say too little."""
    (since, before), (now, after) = samples[0], samples[-1]
    # Fewer bytes than before: a file that was damaged or cannot be resumed has been removed.
    return max(0, after - before) / (now - since) if now - since >= LEAST_RATE_SECONDS else None


def _seconds_left(snapshot: Snapshot) -> float | None:
    if not snapshot.bytes_per_second or snapshot.bytes_total is None or snapshot.bytes_done is None:
        return None
    return round((snapshot.bytes_total - snapshot.bytes_done) / snapshot.bytes_per_second, 1)


def alive(snapshot: Snapshot, now: float) -> tuple[bool, str]:
    """Whether the server makes progress or serves, and in words."""
    if snapshot.proven:
        unanswered = now - (snapshot.answered_at if snapshot.answered_at is not None else snapshot.progressed_at)
        if unanswered > UNANSWERED_ALIVE_SECONDS:
            return False, f"vLLM has not answered /health for {unanswered:.0f} s"
        if motion.stuck(snapshot.motion, now):
            still = motion.still_seconds(snapshot.motion, now)
            return False, f"vLLM answers /health, but requests have waited for {still:.0f} s and nothing has moved"
        return True, "ok"
    idle = now - snapshot.progressed_at
    if idle > STALL_SECONDS:
        return False, f"no progress in phase {snapshot.phase} for {idle:.0f} s: no bytes, no output, no CPU time"
    return True, "ok"


def ready(snapshot: Snapshot, now: float) -> tuple[bool, str]:
    """Whether requests may come, and in words."""
    if snapshot.draining:
        return False, "draining"
    if snapshot.phase == protocol.FAILED:
        return False, f"failed: {snapshot.message}"
    if not snapshot.proven:
        return False, f"not yet ready: {snapshot.phase} {snapshot.message}".rstrip()
    if snapshot.engine_dead:
        return False, "the engine is dead"
    if snapshot.answered_at is None or now - snapshot.answered_at > UNANSWERED_READY_SECONDS:
        return False, "vLLM does not answer /health"
    if motion.stuck(snapshot.motion, now):
        return False, "vLLM answers /health and nothing else"
    return True, "ok"


def report(snapshot: Snapshot, now: float) -> dict[str, Any]:
    """The body of /progress."""
    return {
        "v": protocol.VERSION,
        "phase": snapshot.phase,
        "bytes": snapshot.bytes_done,
        "total": snapshot.bytes_total,
        "bytes_per_second": None if snapshot.bytes_per_second is None else round(snapshot.bytes_per_second),
        "seconds_left": _seconds_left(snapshot),
        "revision": snapshot.revision,
        "seconds": round(now - snapshot.started_at, 1),
        "engine": {"version": snapshot.engine_version},
        "message": snapshot.message,
    }
