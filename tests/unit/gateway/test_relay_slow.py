"""The relay and clients that do not read, pause, leave or stay: what is kept for them, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from berth_apis import engine
from berth_gateway import looks
from berth_gateway import relay as relay_module
from berth_gateway.client import COUNTED_BYTES, MOST_WAITING_BYTES, Client
from berth_gateway.upstream import HIGH_WATER_BYTES
from tests.unit.gateway.rig import GOOD, KEY, Asked, PlayedPod, Rig, endpoint, own_slice, running, slice_of, until

BODY = {"model": "m", "prompt": "Hello"}
LIST = f"GET /v1/models HTTP/1.1\r\nHost: g\r\nx-api-key: {KEY}\r\n\r\n".encode()
MOST_READ_BYTES = 256 * 1024
"""What one read from a connection brings."""
LONG = {"model": "m", "prompt": "x" * (2 * COUNTED_BYTES)}


def asleep(rig: Rig) -> None:
    rig.table.put_endpoint(endpoint("m", scaling={"min": 0, "max": 2}))
    rig.table.put_slice(own_slice("m", rig.endpoint_port))


def post(body: Any = BODY, head: str = "", version: str = "1.1") -> bytes:
    data = json.dumps(body).encode()
    lines = f"POST /v1/completions HTTP/{version}\r\nHost: g\r\nx-api-key: {KEY}\r\n{head}Content-Length: {len(data)}"
    return f"{lines}\r\n\r\n".encode() + data


def look(rig: Rig, seconds: int) -> None:
    """As if so many seconds had passed, in which pods had not been silent."""
    for _ in range(seconds):
        for exchange in rig.relay.under_way:
            if exchange.upstream is not None:
                exchange.upstream.quiet_seconds = 0
        rig.relay.look(rig.now())


class Slow:
    """A client that reads when it is told to. client: the relay's side of it. Little fits between the two."""

    def __init__(self, connection: socket.socket, client: Client) -> None:
        self.connection, self.client = connection, client

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.connection, data)

    async def read(self, until_bytes: bytes | None = None, most: int = 1 << 30) -> bytes:
        """To the end, or until what was read ends so, or is so much."""
        found = bytearray()
        while len(found) < most and (until_bytes is None or not found.endswith(until_bytes)):
            part = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.connection, 1 << 20), 20)
            if not part:
                break
            found += part
        return bytes(found)

    @property
    def unsent(self) -> int:
        return self.client.transport.get_write_buffer_size()


@contextlib.asynccontextmanager
async def slow(rig: Rig) -> AsyncIterator[Slow]:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        connection.setblocking(False)
        before = set(rig.relay.clients)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", rig.port))
        await until(lambda: rig.relay.clients - before, "the connection")
        (client,) = rig.relay.clients - before
        client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        yield Slow(connection, client)


def many_models(rig: Rig) -> None:
    """A list of them has some 20 KB."""
    for number in range(200):
        rig.table.put_endpoint(endpoint(f"model-{number:04}"))


def more_than_read(box: list[Slow]) -> Any:
    """A pod's stream, which ends as soon as its reader does not follow."""

    async def handler(asked: Asked) -> None:
        await asked.begin_stream()
        while not box[0].unsent:
            await asked.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await asyncio.sleep(0.001)
        await asked.send(b"0\r\n\r\n")

    return handler


# Who does not read.


async def test_a_client_that_does_not_read_gets_no_further_answers() -> None:
    async with running() as rig, slow(rig) as one:
        many_models(rig)
        await one.send(LIST * 100)
        await until(lambda: one.client.full, "it is noticed")
        await asyncio.sleep(0.1)
        assert one.unsent < 2 * HIGH_WATER_BYTES
        answers = await one.read(most=100 * one.unsent // 5)
        while answers.count(b"HTTP/1.1 200") < 100:
            answers += await one.read(most=1)
        assert not one.client.full


async def test_requests_that_wait_are_not_piled_up() -> None:
    request = b"GET /health HTTP/1.1\r\nHost: g\r\nx-long: %b\r\n\r\n" % (b"x" * 2000)
    async with running() as rig, rig.connect() as client:
        await until(lambda: rig.relay.clients, "the connection")
        (found,) = rig.relay.clients
        sending = asyncio.create_task(client.send(request * 600))
        most, answered = 0, 0
        while answered < 600:
            most = max(most, found._reader.waiting())
            answered += (await client.reader.readuntil(b"ok\n")).count(b"ok\n")
        await sending
        assert most <= MOST_WAITING_BYTES + MOST_READ_BYTES


async def test_no_pod_is_asked_for_a_client_that_does_not_read() -> None:
    async with PlayedPod() as pod, running() as rig, slow(rig) as one:
        many_models(rig)
        rig.serve("m", pod)
        await one.send(LIST * 20 + post())
        await until(lambda: one.client.full, "it is noticed")
        await asyncio.sleep(0.1)
        assert not pod.asked
        assert (await one.read(GOOD)).count(b"HTTP/1.1 200") == 21


async def test_a_body_that_comes_while_the_client_does_not_read_waits_outside() -> None:
    async with PlayedPod() as pod, running() as rig, slow(rig) as one:
        many_models(rig)
        rig.serve("m", pod)
        sending = asyncio.create_task(one.send(LIST * 20 + post({**BODY, "prompt": "x" * 8_000_000})))
        await until(lambda: one.client.full, "it is noticed")
        await asyncio.sleep(0.1)
        assert not pod.asked
        assert one.client._reader.received_bytes + one.client._reader.waiting() <= 2 * MOST_READ_BYTES
        assert (await one.read(GOOD)).count(b"HTTP/1.1 200") == 21
        await sending
        assert len(pod.asked[0].body) > 8_000_000


async def test_what_a_pod_answers_to_a_client_that_does_not_read_yet_is_not_fetched() -> None:
    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        asleep(rig)
        await client.post(BODY)
        await until(lambda: rig.holds.count, "it is held")
        (found,) = rig.relay.clients
        found.pause_writing()
        rig.wake("m", pod)
        await until(lambda: pod.asked, "the pod is asked")
        await asyncio.sleep(0.05)
        (exchange,) = rig.relay.under_way
        assert exchange.first_byte_at == 0
        found.resume_writing()
        assert (await client.answer())[::2] == (200, GOOD)


# Who stays.


@pytest.mark.parametrize(("version", "head"), [("1.0", ""), ("1.1", "Connection: close\r\n")])
async def test_who_takes_nothing_of_the_rest_of_an_answer_is_let_go(version: str, head: str) -> None:
    box: list[Slow] = []
    async with PlayedPod(more_than_read(box)) as pod, running() as rig, slow(rig) as one:
        box.append(one)
        rig.serve("m", pod)
        await one.send(post(head=head, version=version))
        await until(lambda: pod.asked and not rig.relay.in_flight, "the answer has ended")
        unsent = one.unsent
        look(rig, looks.UNSENT_SECONDS)
        assert (one.unsent, dict(rig.counts.refusals)) == (unsent, {}), "nothing stands behind an answer"
        assert rig.relay.clients
        look(rig, 1)
        await until(lambda: not rig.relay.clients, "it is let go")


async def test_who_takes_the_rest_of_an_answer_slowly_gets_it_whole() -> None:
    box: list[Slow] = []
    async with PlayedPod(more_than_read(box)) as pod, running() as rig, slow(rig) as one:
        box.append(one)
        rig.serve("m", pod)
        await one.send(post(head="Connection: close\r\n"))
        await until(lambda: pod.asked and not rig.relay.in_flight, "the answer has ended")
        look(rig, looks.UNSENT_SECONDS)
        unsent, answer = one.unsent, b""
        while one.unsent == unsent:
            answer += await one.read(most=1)
            await asyncio.sleep(0.001)
        look(rig, looks.UNSENT_SECONDS)
        assert (answer + await one.read()).endswith(b"0\r\n\r\n")


async def test_who_takes_no_answers_of_the_gateway_is_let_go() -> None:
    async with running() as rig, slow(rig) as one:
        many_models(rig)
        await one.send(LIST * 100)
        await until(lambda: one.client.full, "it is noticed")
        await asyncio.sleep(0.05)
        look(rig, looks.UNSENT_SECONDS + 1)
        await until(lambda: not rig.relay.clients, "it is let go")
        assert not rig.counts.refusals


@pytest.mark.parametrize("stray", [b"\r\n", post()[:20]])
async def test_the_end_of_an_answer_is_not_cut_for_who_sent_more(stray: bytes) -> None:
    box: list[Slow] = []
    async with PlayedPod(more_than_read(box)) as pod, running() as rig, slow(rig) as one:
        box.append(one)
        rig.serve("m", pod)
        await one.send(post(head="Connection: close\r\n") + stray)
        await until(lambda: pod.asked and not rig.relay.in_flight, "the answer has ended")
        look(rig, looks.LINGER_SECONDS + 2)
        assert (await one.read()).endswith(b"0\r\n\r\n")
        await until(lambda: not one.unsent, "all is sent")
        look(rig, looks.LINGER_SECONDS + 1)
        await until(lambda: not rig.relay.clients, "it is let go")


async def test_a_last_answer_is_delivered_while_more_comes_than_is_read_ahead() -> None:
    async def handler(asked: Asked) -> None:
        await until(lambda: client_of(rig)._paused, "its reading is paused")
        await asked.answer()

    async with PlayedPod(handler) as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod)
        await client.send(post(head="Connection: close\r\n") + b"x" * 400_000)
        assert (await client.answer())[::2] == (200, GOOD)
        rig.relay.close_idle()
        await client.send(b"x" * 1_000_000)
        assert await client.ended()
        assert not client_of(rig)._paused


def client_of(rig: Rig) -> Client:
    (client,) = rig.relay.clients
    return client


# Who pauses.


async def test_the_time_of_an_answer_is_not_the_silence_of_its_client() -> None:
    go_on = asyncio.Event()

    async def handler(asked: Asked) -> None:
        await go_on.wait()
        await asked.answer()

    async with PlayedPod(handler) as pod, running() as rig, rig.connect() as client, rig.connect() as ahead:
        rig.serve("m", pod)
        next_one = post()
        await client.send(post())
        await ahead.send(post() + next_one[:-5])
        await until(lambda: len(pod.asked) == 2, "both are asked")
        look(rig, looks.CLIENT_IDLE_SECONDS + 5)
        go_on.set()
        for each in (client, ahead):
            assert (await each.answer())[0] == 200
        look(rig, 1)
        await client.send(next_one)
        await ahead.send(next_one[-5:])
        for each in (client, ahead):
            assert (await each.answer())[0] == 200


# Who leaves.


async def test_who_leaves_after_much_was_sent_ahead_is_not_held() -> None:
    async with running() as rig:
        asleep(rig)
        async with rig.connect() as client:
            await client.send(post())
            await until(lambda: rig.holds.count, "it is held")
            await client.send(b"x" * 100_000)
            await until(lambda: client_of(rig)._paused, "its reading is paused")
            look(rig, 5)
            await asyncio.sleep(0.02)
            assert rig.holds.count == 1, "it is there still"
        await asyncio.sleep(0.02)
        look(rig, 1)
        await until(lambda: not rig.relay.clients, "it is noticed")
        assert (rig.holds.count, rig.relay.in_flight) == (0, 0)


async def test_who_leaves_with_an_answer_unread_frees_the_pod() -> None:
    async def handler(asked: Asked) -> None:
        await asked.begin_stream()
        while True:
            await asked.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    async with PlayedPod(handler) as pod, running() as rig, slow(rig) as one:
        rig.serve("m", pod)
        await one.send(post())
        await until(lambda: one.client.full, "it does not read")
        one.connection.shutdown(socket.SHUT_WR)
        await until(one.client.transport.is_closing, "it is noticed")
        look(rig, 1)
        await until(lambda: not rig.relay.clients, "it is let go")
        assert rig.relay.in_flight == 0


async def test_a_connection_that_has_its_last_answer_gets_no_other() -> None:
    failed: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    request = b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n"
    async with running() as rig, rig.connect() as client:
        await until(lambda: rig.relay.clients, "the connection")
        found = client_of(rig)
        # Both before the loop gets to what the first one has left over.
        found.data_received(request * 2)
        found.data_received(b"GET /health HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n" + request)
        for _ in range(3):
            assert (await client.answer())[0] == 200
        assert await client.ended()
        assert (failed, len(rig.logged())) == ([], 3)


# What is kept.


async def test_a_body_counts_until_a_pod_begins_its_answer() -> None:
    go_on, end = asyncio.Event(), asyncio.Event()

    async def handler(asked: Asked) -> None:
        await go_on.wait()
        await asked.begin_stream()
        await end.wait()
        await asked.send(b"0\r\n\r\n")

    async with (
        PlayedPod(handler) as pod,
        running(most_bodies_bytes=COUNTED_BYTES * 3 // 2) as rig,
        rig.connect() as one,
        rig.connect() as other,
    ):
        rig.serve("m", pod)
        await one.post(LONG)
        await until(lambda: pod.asked, "the pod has it")
        (exchange,) = rig.relay.under_way
        assert rig.relay.body_bytes == len(pod.asked[0].body) - COUNTED_BYTES
        with contextlib.suppress(ConnectionError):
            await other.post(LONG)
        assert (await other.answer())[0] == 503
        go_on.set()
        await one.head()
        assert (exchange.body, exchange.named, exchange.client._reader._parts) == (b"", None, [])
        await until(lambda: rig.relay.body_bytes == 0, "nothing counts any more")
        end.set()
        assert await one.chunk() == b""


async def test_a_body_that_waits_counts_there_alone() -> None:
    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        asleep(rig)
        await client.post(LONG)
        await until(lambda: rig.holds.count, "it is held")
        assert rig.relay.body_bytes == 0
        counted = []
        pod.handler = lambda asked: (counted.append(rig.relay.body_bytes), asked.answer())[1]
        rig.wake("m", pod)
        assert (await client.answer())[0] == 200
        assert counted == [len(pod.asked[0].body) - COUNTED_BYTES]
        assert rig.relay.body_bytes == 0


async def test_a_body_is_kept_for_another_pod_and_counts_no_more_when_all_refuse() -> None:
    async def refuse(asked: Asked) -> None:
        await asked.answer(json.dumps({"error": {"message": engine.DRAINING_MARK}}).encode(), 503)

    async with (
        PlayedPod(refuse, "127.0.0.2") as pod,
        PlayedPod(refuse, "127.0.0.3", pod.port) as other,
        running() as rig,
        rig.connect() as client,
    ):
        rig.serve("m", pod, other)
        await client.post(LONG)
        assert (await client.answer())[0] == 503
        assert len(pod.asked[0].body) == len(other.asked[0].body) > 2 * COUNTED_BYTES
        assert rig.relay.body_bytes == 0


async def test_connections_to_a_pod_that_is_gone_are_not_kept() -> None:
    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod)
        await client.post(BODY)
        await client.answer()
        (found,) = rig.table.find("m").pods.values()  # type: ignore[union-attr]
        (kept,) = found.idle
        rig.table.put_slice(slice_of("m", []))
        look(rig, 1)
        assert found.idle == [kept], "not before its time"
        rig.ahead_seconds = 5
        look(rig, 1)
        assert found.idle == []
        assert kept.transport.is_closing()
        assert rig.relay._connected == set()


# The looks themselves.


async def test_what_is_wrong_with_one_does_not_end_the_looks_at_others() -> None:
    async with running() as rig, rig.connect() as client:
        await client.send(b"POST /")
        await until(lambda: rig.relay.clients and client_of(rig).is_reading, "a part of a head")
        found = client_of(rig)
        broken: Any = object()
        rig.relay.clients = {broken, found}
        rig.relay.under_way.add(broken)
        with capture_logs() as logs:
            look(rig, 0)
            for _ in range(looks.HEAD_SECONDS + 1):
                rig.relay.look(rig.now())
        rig.relay.clients.discard(broken)
        rig.relay.under_way.discard(broken)
        assert (await client.answer())[0] == 408
        assert {each["event"] for each in logs} == {"look_failed"}


async def test_the_looks_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def flush() -> None:
        seen.append("flush")
        raise OSError

    def table_is_broken(now: float) -> None:
        seen.append("look")
        raise RuntimeError

    monkeypatch.setattr(relay_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(relay_module, "FLUSH_SECONDS", 0.001)
    with capture_logs():
        async with running() as rig:
            with monkeypatch.context() as patched:
                patched.setattr(rig.relay.log, "flush", flush)
                patched.setattr(rig.relay, "look", table_is_broken)
                await until(lambda: min(seen.count("flush"), seen.count("look")) > 2, "the looks go on")
