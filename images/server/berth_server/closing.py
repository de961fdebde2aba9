"""How connections end while the server drains: none under a client that is about to use it.

A client with pooled connections goes on using those it has, whatever the Service says, so each has to end before vLLM
does: with an answer that says `Connection: close`, or, where no request comes, by being closed once it is idle.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from berth_server import protocol

IDLE_SECONDS = 5.0
"""Who sends something at least this often is told by an answer, and loses nothing."""
LOOK_SECONDS = 0.25

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
Idle = dict[Any, tuple[Any, float]]


def draining() -> bool:
    """Whether the launcher drains. One stat; a flag in memory would miss vLLM's other API server processes."""
    return os.path.exists(protocol.draining_flag(protocol.runtime_directory()))


class CloseWhileDraining:
    """ASGI middleware: says `Connection: close` on every response while draining."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and draining():
                headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"]
                message["headers"] = [*headers, (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_closing)


def idle(connections: Iterable[Any], before: Idle, now: float) -> Idle:
    """The connections without a request: what each answered last, and since when it is seen idle.

    connections: uvicorn's protocol objects.  before: what the last look returned.  Websockets are never idle.
    """
    found = {}
    for connection in connections:
        cycle = getattr(connection, "cycle", connection)
        if cycle is connection or (cycle is not None and not cycle.response_complete):
            continue
        last, since = before.get(connection, (cycle, now))
        found[connection] = (cycle, since if last is cycle else now)
    return found


def unread_bytes(connection: Any) -> int:
    """Bytes that have arrived and that the server has not looked at: the start of a request."""
    descriptor = connection.transport.get_extra_info("socket").fileno()
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


async def close_idle(state: Any) -> None:
    """Runs beside the server; closes what stays idle for IDLE_SECONDS of a drain. state: of vLLM's application."""
    seen: Idle = {}
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if not draining() or not hasattr(state, "server"):
            continue
        now = time.monotonic()
        seen = idle(tuple(state.server.server_state.connections), seen, now)
        for connection, (_, since) in seen.items():
            if now - since < IDLE_SECONDS or connection.transport.is_closing():
                continue
            if not unread_bytes(connection):
                connection.shutdown()
