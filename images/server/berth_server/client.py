"""What the launcher asks vLLM over HTTP: health, the plugin's info, one token, how much is in flight."""

from __future__ import annotations

import http.client
import json
import socket
from collections import deque
from typing import Any

from berth_server.engine import Engine


class Client:
    """Requests to vLLM from one thread at a time; blocking. Raises OSError or HTTPException when nothing answers."""

    def __init__(self, engine: Engine, local_ports: deque[int] | None = None) -> None:
        self._engine = engine
        self._connection: http.client.HTTPConnection | None = None
        self.local_ports: deque[int] = deque(maxlen=1000) if local_ports is None else local_ports
        """Ports of our own connections: the drain must not take them for somebody's requests."""

    def health(self) -> int:
        """Status of /health: 200, or 503 when the engine is dead."""
        return self._ask("GET", "/health", 5.0)[0]

    def info(self) -> dict[str, Any] | None:
        """What the plugin says of itself; None when vLLM does not know the route."""
        status, body = self._ask("GET", "/berth/info", 30.0)
        found = json.loads(body) if status == 200 else None
        return found if isinstance(found, dict) else None

    def one_token(self, seconds: float) -> tuple[int, str]:
        """A real completion of one token for the first served name: status, and the body of a refusal."""
        request = {"model": self._engine.served_name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
        status, body = self._ask("POST", "/v1/completions", seconds, json.dumps(request).encode())
        if status == 200 and not json.loads(body).get("choices"):
            return 502, "the answer holds no choice"
        return status, body.decode(errors="replace")

    def metrics(self) -> str:
        """The Prometheus text; empty when vLLM refuses it."""
        status, body = self._ask("GET", "/metrics", 2.0)
        return body.decode(errors="replace") if status == 200 else ""

    def _ask(self, method: str, path: str, seconds: float, body: bytes | None = None) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._engine.host, self._engine.port)
        connection, reused = self._connection, self._connection.sock is not None
        headers = {"Content-Type": "application/json"}
        if self._engine.api_key:
            headers["Authorization"] = f"Bearer {self._engine.api_key}"
        if self._engine.launcher_key:
            headers["x-api-key"] = self._engine.launcher_key
        try:
            connection.timeout = seconds
            if connection.sock is None:
                connection.connect()
            sock: socket.socket = connection.sock
            if not reused:
                self.local_ports.append(sock.getsockname()[1])
            sock.settimeout(seconds)
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._connection = None
            # vLLM closes a kept connection when it likes: not an answer, ask once more on a new one.
            if reused and isinstance(error, (http.client.RemoteDisconnected, ConnectionError)):
                return self._ask(method, path, seconds, body)
            raise
