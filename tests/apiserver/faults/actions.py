"""What can be done to a request on its way: an action gets it, and a way to forward it, and gives the answer."""

import asyncio
import itertools
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Forward = Callable[[], Awaitable[web.StreamResponse]]
Action = Callable[[web.Request, Forward], Awaitable[web.StreamResponse]]


def answer(*statuses: int, message: str = "injected", retry_after_seconds: int | None = None) -> Action:
    """Refusals in turn, in place of what the API server would have said; it never hears of the request."""
    turns = itertools.cycle(statuses)

    async def act(request: web.Request, forward: Forward) -> web.StreamResponse:
        headers = {"Retry-After": str(retry_after_seconds)} if retry_after_seconds is not None else {}
        status = next(turns)
        return web.json_response(refusal(status, message), status=status, headers=headers)

    return act


def delay(seconds: float) -> Action:
    """The answer comes late."""

    async def act(request: web.Request, forward: Forward) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await forward()

    return act


def lose_answer() -> Action:
    """The API server commits, and the connection breaks before the operator hears of it."""

    async def act(request: web.Request, forward: Forward) -> web.StreamResponse:
        await forward()
        reset(request)
        return web.Response()

    return act


class Hold:
    """An action that keeps the first matching request back until it is released, before the API server hears of it."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self._released = threading.Event()

    async def __call__(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        self.arrived.set()
        while not self._released.is_set():  # noqa: ASYNC110 - set from the thread of the test
            await asyncio.sleep(0.02)
        return await forward()

    def wait(self, seconds: float = 30.0) -> None:
        """Until the request has come."""
        assert self.arrived.wait(seconds), "the request that is to be held never came"

    def release(self) -> None:
        """Let it go on."""
        self._released.set()


def refusal(status: int, message: str) -> dict[str, Any]:
    """A `Status` object of an error."""
    reasons = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 410: "Expired", 429: "TooManyRequests"}
    reason = reasons.get(status, "InternalError")
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status,
            "reason": reason, "message": message}  # fmt: skip


def reset(request: web.Request) -> None:
    """End the connection with RST, as a machine does that has lost it."""
    transport = request.transport
    if transport is not None and not transport.is_closing():
        end: socket.socket = transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
