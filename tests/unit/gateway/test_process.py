"""The order in which a gateway starts, serves and ends.

In: an API server of a few lines.  Out: probes over real HTTP, and what the relay is told, which here only notes it. The
whole process, with the real relay, its signals and exit codes: test_whole.py.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from berth_gateway import process
from berth_gateway.access import Access
from berth_gateway.cluster import Api
from berth_gateway.connection import Connection
from berth_gateway.holding import Holds, Limits
from berth_gateway.log import AccessLog
from berth_gateway.process import Gateway, PortTaken, writer
from berth_gateway.settings import Settings
from berth_gateway.table import Table
from tests.unit.gateway.api_server import ApiServer, Failure

SECRETS = "/api/v1/namespaces/berth-system/secrets"


class Relay:
    """Notes what it is told, in order. busy: cleared by the test when its last request is over."""

    made: "Relay"
    refuse: OSError | None = None

    def __init__(self, table: Table, access: Access, holds: Holds, *_: Any) -> None:
        Relay.made = self
        self.access, self.limits = access, holds.limits
        self.told: list[str] = []
        self.closing = False
        self.in_flight = 1
        self.ports = [12345]
        self.idle = asyncio.Event()

    async def listen(self) -> None:
        if Relay.refuse:
            raise Relay.refuse
        self.told.append("listen")

    def stop_accepting(self) -> None:
        self.told.append(f"stop_accepting closing={self.closing}")

    def close_idle(self) -> None:
        self.told.append("close_idle")

    async def finished(self) -> None:
        self.told.append("finished?")
        await self.idle.wait()
        self.told.append("finished")

    async def close(self) -> None:
        self.told.append("close")


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    monkeypatch.setattr(process, "Relay", Relay)
    monkeypatch.setattr(process.gc, "freeze", lambda: None)
    monkeypatch.setattr(process.gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(Relay, "refuse", None)
    async with ApiServer() as running:
        yield running


class Running:
    """A gateway under way."""

    def __init__(self, server: ApiServer, logs: list[Any], **settings: Any) -> None:
        given = {"admin_port": 0, "further_seconds": 0.0, "drain_seconds": 60.0, **settings}
        self.stop = asyncio.Event()
        self.logs = logs
        api = Api(Connection(server.url, None, str))
        gateway = Gateway(Settings(**given), api, AccessLog(len))
        self.ended = asyncio.create_task(gateway.run(self.stop))

    async def until(self, check: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not check():
                if self.ended.done():
                    self.ended.result()
                await asyncio.sleep(0.005)

    async def readyz(self) -> tuple[int, str]:
        said: list[Any] = []
        await self.until(lambda: said.extend(e for e in self.logs if e["event"] == "admin_listening") or said)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{said[0]['port']}/readyz") as answer,
        ):
            return answer.status, await answer.text()

    async def until_ready(self) -> None:
        async with asyncio.timeout(20):
            while (await self.readyz())[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(server: ApiServer, **settings: Any) -> AsyncIterator[Running]:
    with capture_logs() as logs:
        found = Running(server, logs, **settings)
        try:
            yield found
        finally:
            found.ended.cancel()
            await asyncio.gather(found.ended, return_exceptions=True)


async def test_it_listens_and_is_ready_once_everything_was_listed(server: ApiServer) -> None:
    server.always[SECRETS] = Failure(503)
    async with running(server) as gateway:
        await gateway.until(lambda: sum(request.path == SECRETS for request in server.asked) >= 2)
        status, text = await gateway.readyz()
        assert (status, text) == (503, "not listed yet: secrets\n")
        assert Relay.made.told == []
        del server.always[SECRETS]
        await gateway.until_ready()
        assert Relay.made.told == ["listen"]


async def test_told_to_end_it_serves_on_then_closes_and_finishes_what_is_under_way(server: ApiServer) -> None:
    async with running(server) as gateway:
        await gateway.until_ready()
        relay = Relay.made
        gateway.stop.set()
        await gateway.until(lambda: "finished?" in relay.told)
        assert await gateway.readyz() == (503, "told to end: send no more requests\n")
        assert not gateway.ended.done()
        relay.idle.set()
        async with asyncio.timeout(20):
            await gateway.ended
        assert relay.told == [
            "listen", "stop_accepting closing=True", "close_idle", "finished?", "finished", "close"
        ]  # fmt: skip


async def test_it_takes_requests_for_a_while_after_it_was_told_to_end(server: ApiServer) -> None:
    async with running(server, further_seconds=0.2) as gateway:
        await gateway.until_ready()
        relay = Relay.made
        gateway.stop.set()
        await gateway.until(lambda: relay.closing)
        began = asyncio.get_running_loop().time()
        assert relay.told == ["listen"]
        assert (await gateway.readyz())[0] == 503
        await gateway.until(lambda: len(relay.told) > 1)
        assert asyncio.get_running_loop().time() - began >= 0.15


async def test_what_does_not_end_in_time_is_cut_and_said(server: ApiServer) -> None:
    async with running(server, drain_seconds=0.01) as gateway:
        await gateway.until_ready()
        gateway.stop.set()
        async with asyncio.timeout(20):
            await gateway.ended
    assert Relay.made.told[-2:] == ["finished?", "close"]
    assert [entry["in_flight"] for entry in gateway.logs if entry["event"] == "requests_cut"] == [1]


async def test_told_to_end_before_it_knew_anything_it_ends(server: ApiServer) -> None:
    server.always[SECRETS] = Failure(503)
    async with running(server) as gateway:
        await gateway.until(lambda: server.asked)
        gateway.stop.set()
        async with asyncio.timeout(20):
            await gateway.ended
    assert Relay.made.told == ["close"]


async def test_the_settings_reach_what_they_are_for(server: ApiServer) -> None:
    given = {
        "hold_per_endpoint": 1, "hold_in_all": 2, "hold_bytes_per_endpoint": 3, "hold_bytes_in_all": 4,
        "hold_seconds": 5.0,
    }  # fmt: skip
    async with running(server, auth="Open", **given) as gateway:
        await gateway.until_ready()
    assert Relay.made.limits == Limits(1, 2, 3, 4, 5.0)
    assert Relay.made.access.open
    async with running(server) as gateway:
        await gateway.until_ready()
    assert not Relay.made.access.open


async def test_a_taken_admin_port_is_named(server: ApiServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with running(server, admin_port=port) as gateway:
            with pytest.raises(PortTaken, match=f"port {port} cannot be used: .*; set BERTH_GATEWAY_ADMIN_PORT"):
                await gateway.ended


async def test_a_taken_port_of_the_relay_ends_the_gateway(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Relay, "refuse", OSError(98, "Address already in use"))
    async with running(server) as gateway:
        with pytest.raises(PortTaken, match="one of the ports 8080, 20000 to 20499 cannot be used: Address already"):
            await gateway.ended


async def test_a_part_that_must_never_end_ends_the_gateway(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: object) -> None:
        raise RuntimeError("a watch is over")

    monkeypatch.setattr(process.Watched, "run", broken)
    async with running(server) as gateway:
        with pytest.raises(RuntimeError, match="a watch is over"):
            await gateway.ended
    assert Relay.made.told == ["close"]


def test_lines_are_written_as_far_as_that_goes_without_waiting_and_the_pipe_stays_as_it_is() -> None:
    read, write = os.pipe()
    send = writer(write)
    line = json.dumps({"n": "x" * 1000}).encode() + b"\n"
    sent = b""
    with pytest.raises(BlockingIOError):
        while True:
            data = line * 64
            sent += data[: send(data)]
    assert os.get_blocking(write)
    assert len(sent) > 4096
    got = os.read(read, len(sent))
    assert got == sent[: len(got)]
    assert send(line) == len(line)
    os.close(read)
    with pytest.raises(BrokenPipeError):
        send(line)
    os.close(write)
