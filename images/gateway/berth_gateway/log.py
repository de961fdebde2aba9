"""The access log: one line of JSON for each request, without keys, prompts, completions or queries.

Lines are written in pieces, so a request costs no system call of its own. Nobody waits for the log: while its reader is
slow, lines are kept up to a bound and dropped beyond it, and counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import orjson

PIECE_LINES = 64
FLUSH_SECONDS = 0.25
"""How often `flush` is to be called."""
MOST_LINES = 1024
"""Kept while they cannot be written."""

_MOST_PATH_CHARACTERS = 256
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?![^-])")
_MOST_COMMON = 1000


class AccessLog:
    """write: like os.write on a descriptor that does not block; OSError or None: not now.  lost: lines dropped."""

    def __init__(self, write: Callable[[bytes], int | None]) -> None:
        self._write = write
        self._lines: list[bytes] = []
        self._rest = b""
        self.lost = 0
        self._common: dict[tuple[str, ...], str] = {}
        self._second, self._stamp = -1, ""

    def line(
        self,
        *,
        time: float,
        namespace: str,
        endpoint: str,
        owner: str,
        api: str,
        method: str,
        path: str,
        status: int,
        seconds: float,
        first_byte_seconds: float | None,
        held_seconds: float,
        answer_bytes: int,
        retries: int,
        pod: str,
        traceparent: str,
    ) -> None:
        """A request is over. time: seconds since 1970."""
        if len(self._lines) >= MOST_LINES:
            self.lost += 1
            return
        trace = _TRACE.match(traceparent) if traceparent else None
        # What many lines have in common is written as JSON once.
        key = (namespace, endpoint, owner, api, method, path, pod)
        common = self._common.get(key) or self._begin(key)
        second = int(time)
        if second != self._second:
            self._second, self._stamp = second, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        first = "null" if first_byte_seconds is None else f"{first_byte_seconds:.6f}"
        self._lines.append(
            f'{{"timestamp":"{self._stamp}.{int((time - second) * 1e6):06}Z",{common},"status":{status},'
            f'"seconds":{seconds:.6f},"first_byte_seconds":{first},"held_seconds":{held_seconds:.6f},'
            f'"bytes":{answer_bytes},"retries":{retries},"trace_id":"{trace[1] if trace else ""}"}}\n'.encode()
        )
        if len(self._lines) % PIECE_LINES == 0:
            self.flush()

    def _begin(self, key: tuple[str, ...]) -> str:
        namespace, endpoint, owner, api, method, path, pod = key
        common = {
            "event": "request ended",
            "namespace": namespace,
            "endpoint": endpoint,
            "owner": owner,
            "api": api,
            "method": method,
            "path": path.partition("?")[0][:_MOST_PATH_CHARACTERS],
            "pod": pod,
        }
        if len(self._common) >= _MOST_COMMON:
            self._common.clear()
        found = self._common[key] = orjson.dumps(common).decode()[1:-1]
        return found

    def flush(self) -> None:
        """Write what waits, as far as that goes without waiting."""
        while self._rest or self._lines:
            if not self._rest:
                self._rest = b"".join(self._lines[:PIECE_LINES])
                del self._lines[:PIECE_LINES]
            try:
                written = self._write(self._rest)
            except OSError:
                return
            self._rest = self._rest[written or 0 :]
            if self._rest:
                return
