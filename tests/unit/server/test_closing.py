"""How connections end while draining: the middleware, and idle connections over real sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from berth_server import closing

ANSWERED, ANSWERED_AGAIN, BUSY = (SimpleNamespace(response_complete=done) for done in (True, True, False))


@pytest.fixture
def drain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Begins the drain: puts up the flag."""
    monkeypatch.setattr("berth_server.protocol.runtime_directory", lambda: str(tmp_path))
    return (tmp_path / "draining").touch


async def respond(scope: Any, receive: Any, send: Any) -> None:
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"Connection", b"keep-alive"), (b"x", b"y")]}
    )
    await send({"type": "http.response.body", "body": b"z"})


async def sent(app: closing.Application, kind: str = "http") -> list[Any]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing to receive")

    await app({"type": kind}, receive, send)
    return messages


async def test_says_close_only_while_the_flag_is_up(drain: Callable[[], None]) -> None:
    app = closing.CloseWhileDraining(respond)
    before = await sent(app)
    assert before[0]["headers"] == [(b"Connection", b"keep-alive"), (b"x", b"y")]
    drain()
    during = await sent(app)
    assert during[0]["headers"] == [(b"x", b"y"), (b"connection", b"close")]
    assert during[1] == before[1]
    assert (await sent(app, kind="websocket"))[0]["headers"] == [(b"Connection", b"keep-alive"), (b"x", b"y")]


class Connection(asyncio.Protocol):
    """What is used of uvicorn's protocol objects, on a real socket that nobody reads."""

    def __init__(self, cycle: Any = None) -> None:
        self.cycle = cycle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()

    def shutdown(self) -> None:
        self.transport.close()


def test_idle_is_counted_from_the_first_look_and_anew_from_each_answer() -> None:
    fresh, quiet, busy, websocket = Connection(), Connection(ANSWERED), Connection(BUSY), Connection()
    del websocket.cycle
    everything = [fresh, quiet, busy, websocket]
    first = closing.idle(everything, {}, 10.0)
    assert first == {fresh: (None, 10.0), quiet: (ANSWERED, 10.0)}
    second = closing.idle(everything, first, 11.0)
    assert second == first
    quiet.cycle, busy.cycle = ANSWERED_AGAIN, ANSWERED
    third = closing.idle(everything, second, 12.0)
    assert third == {fresh: (None, 10.0), quiet: (ANSWERED_AGAIN, 12.0), busy: (ANSWERED, 12.0)}
    assert closing.idle([], third, 13.0) == {}


@contextlib.asynccontextmanager
async def connected(connection: Connection) -> AsyncIterator[socket.socket]:
    """The client's end of the connection."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: connection, sock=ours)
    with theirs:
        yield theirs
        connection.transport.close()


async def test_closes_what_stays_idle_but_nothing_with_a_request_on_its_way(
    drain: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(closing, "LOOK_SECONDS", 0.02)
    quiet, busy, asked = Connection(ANSWERED), Connection(BUSY), Connection(ANSWERED)
    state = SimpleNamespace()
    task = asyncio.create_task(closing.close_idle(state))
    loop = asyncio.get_running_loop()
    async with connected(quiet) as other_end, connected(busy), connected(asked) as asking:
        asking.send(b"POST ")
        state.server = SimpleNamespace(server_state=SimpleNamespace(connections={quiet, busy, asked}))
        await asyncio.sleep(0.3)
        assert not quiet.transport.is_closing(), "without a drain"
        drain()
        assert await asyncio.wait_for(loop.sock_recv(other_end, 1), 10) == b""
        await asyncio.sleep(0.3)
        assert not busy.transport.is_closing()
        assert not asked.transport.is_closing()
        assert not task.done()
    task.cancel()
