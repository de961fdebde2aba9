"""Servers that a test plays answer GET requests with JSON objects."""

import http.server
import json
from collections.abc import Callable
from typing import Any


def json_handler(answer: Callable[[str], dict[str, Any] | None]) -> type[http.server.BaseHTTPRequestHandler]:
    """The handler of a server. answer: what is at a path, query included; 404 when that is nothing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answer(self.path)
            body = json.dumps(found).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler
