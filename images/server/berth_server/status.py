"""The launcher's current snapshot, and how it tells people: log lines and the termination message."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from berth_server import progress, protocol
from berth_server.protocol import Failure


class Status:
    """Changed in the event loop's thread only; the probes' thread reads `snapshot`, a frozen value."""

    def __init__(self) -> None:
        self.snapshot = progress.begin(time.monotonic())

    def update(self, **changes: Any) -> None:
        """Replaces fields of the snapshot."""
        self.snapshot = replace(self.snapshot, **changes)

    def phase(self, phase: str) -> None:
        """Enters a phase; that is progress."""
        if phase != self.snapshot.phase:
            self.update(phase=phase, progressed_at=time.monotonic())
            self.say(phase)

    def answered(self, healthy: bool) -> None:
        """vLLM's /health answered."""
        self.update(answered_at=time.monotonic(), engine_dead=not healthy)

    def worked(self, effort: progress.Effort) -> None:
        """Counters of work were read."""
        self.snapshot = progress.with_effort(self.snapshot, effort, time.monotonic())

    def is_alive(self) -> bool:
        return progress.alive(self.snapshot, time.monotonic())[0]

    def say(self, text: str) -> None:
        """One line into the container's log, beside vLLM's own."""
        print(f"(berth) {time.monotonic() - self.snapshot.started_at:.1f} s: {text}", file=sys.stderr, flush=True)

    def fail(self, failure: Failure, env: Mapping[str, str]) -> None:
        """The end: into the log, /progress and the termination log."""
        self.update(phase=protocol.FAILED, message=f"{failure.reason}: {failure.message}")
        self.say(f"{failure} {failure.suggestion}".rstrip())
        try:
            with open(protocol.termination_log(env), "w", encoding="utf-8") as file:
                file.write(protocol.termination_line(failure) + "\n")
        except OSError as error:
            self.say(f"cannot write the termination log: {error}")
