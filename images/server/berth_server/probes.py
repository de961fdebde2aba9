"""The launcher's own port: /livez, /readyz, /progress, /load. Answers from a thread, whatever the launcher is doing."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from berth_server import progress
from berth_server.progress import Snapshot


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def start(
    port: int, snapshot: Callable[[], Snapshot], load: Callable[[], dict[str, Any]], now: Callable[[], float]
) -> ThreadingHTTPServer:
    """Serves the probes on all addresses of both families; returns once the port listens.

    load: may wait for vLLM for a moment.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/progress":
                self._answer(200, json.dumps(progress.report(snapshot(), now())), "application/json")
                return
            if path == "/load":
                self._answer(200, json.dumps(load()), "application/json")
                return
            check = {"/livez": progress.alive, "/readyz": progress.ready}.get(path)
            if check is None:
                self._answer(404, "not found: /livez, /readyz, /progress and /load are what is here")
                return
            good, why = check(snapshot(), now())
            self._answer(200 if good else 503, why)

        def _answer(self, status: int, body: str, content_type: str = "text/plain; charset=utf-8") -> None:
            payload = (body + "\n").encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            """Probes come every few seconds; they are not worth a line each."""

    if socket.has_dualstack_ipv6():
        _Server.address_family = socket.AF_INET6
    server = _Server(("", port), Handler)
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server
