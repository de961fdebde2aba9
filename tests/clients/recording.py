"""A server that gives recorded answers, one a request, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Recording:
    """On a free port of the loopback; a context manager. The shapes are those of tests/fixtures/apis."""

    def __enter__(self) -> Self:
        self.answers: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,)).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def will_answer(self, answers: list[dict[str, Any]]) -> None:
        """From now on; forgets earlier requests."""
        self.answers, self.requests = list(answers), []


def _handler(recording: Recording) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = {"json": json.loads(text)} if text else {}
            recording.requests.append({"method": self.command, "target": self.path, "headers": headers, **body})
            if not recording.answers:
                self.send_error(418, "a request more than was recorded")
                return
            self.respond(recording.answers.pop(0))

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the names that http.server calls

        def respond(self, recorded: dict[str, Any]) -> None:
            self.send_response(recorded["status"])
            for name, value in recorded["headers"].items():
                self.send_header(name, value)
            if "chunks" not in recorded:
                text = recorded["body"] if "body" in recorded else json.dumps(recorded["json"])
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in recorded["chunks"]:
                if chunk == {"abort": True}:
                    self.close_connection = True
                    return
                data = chunk.encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
