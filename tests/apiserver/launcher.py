"""The launcher of a pod that a test plays, on a loopback address of its own; the node tier has the real one."""

import http.server
import threading
from typing import Any, Self

from tests.apiserver.json_handler import json_handler

GIB = 2**30
COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"


class Launcher:
    """A launcher on `address`; a context manager. told, load: its answers, for tests to change.  asked: how often."""

    def __init__(self, address: str) -> None:
        self.told: dict[str, Any] = {"v": 1, "phase": "Preparing", "engine": {"version": "0.32.0"}}
        self.load: dict[str, Any] = {}
        self.asked = 0
        self._server = http.server.ThreadingHTTPServer((address, 8001), json_handler(self._answer))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> dict[str, Any] | None:
        self.asked += 1
        return {"/progress": self.told, "/load": self.load}.get(path)

    def downloads(self, done_bytes: int) -> None:
        """Its next answers."""
        rate = 120 * 2**20
        self.told |= {"phase": "Downloading", "bytes": done_bytes, "total": 4 * GIB, "revision": COMMIT}
        self.told |= {"bytes_per_second": rate, "seconds_left": (4 * GIB - done_bytes) / rate}
