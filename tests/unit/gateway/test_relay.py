"""The relay between real sockets: what pods get of a request, and what clients get of an answer."""

from __future__ import annotations

import asyncio
import errno
import json
from typing import Any

import pytest

from berth_apis import engine
from berth_gateway.table import Pod
from berth_gateway.upstream import Upstream
from tests.unit.gateway.rig import GOOD, KEY, Asked, PlayedPod, running, secret, until

BODY = {"model": "m", "prompt": "Hello"}


async def test_a_request_reaches_the_pod_and_its_answer_the_client() -> None:
    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod)
        trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
        await client.post(BODY, head=f"traceparent: {trace}\r\nX-Own: 1\r\n")
        assert (await client.answer())[::2] == (200, GOOD)
        (asked,) = pod.asked
        assert (asked.method, asked.target, json.loads(asked.body)) == ("POST", "/v1/completions", BODY)
        assert asked.headers["x-own"] == "1"
        assert asked.headers["traceparent"] == trace
        assert "authorization" not in asked.headers, "the gateway's key is nobody else's"
        await client.post(BODY)
        await client.answer()
        assert pod.connections == 1
        line = rig.logged()[0]
        assert (line["endpoint"], line["owner"], line["status"], line["trace_id"][:4]) == ("m", "team-a", 200, "0123")
        assert KEY not in str(rig.lines)
        assert "Hello" not in str(rig.lines)
        assert rig.counts.tokens == {("team-a", "m", "team-a"): [6, 4]}


async def test_events_pass_one_by_one() -> None:
    go_on = asyncio.Event()

    async def handler(asked: Asked) -> None:
        await asked.begin_stream()
        await asked.event("1")
        await go_on.wait()
        await asked.event("2")
        await asked.send(b"0\r\n\r\n")

    async with PlayedPod(handler) as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod)
        await client.post({**BODY, "stream": True})
        status, headers = await client.head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        assert await client.chunk() == b"data: 1\n\n"
        go_on.set()
        assert await client.chunk() == b"data: 2\n\n"
        assert await client.chunk() == b""
        await client.post(BODY)
        go_on.clear()
        assert (await client.head())[0] == 200


async def test_the_pod_is_told_when_the_client_leaves() -> None:
    async def handler(asked: Asked) -> None:
        await asked.begin_stream()
        await asked.event("1")
        await asyncio.sleep(60)

    async with PlayedPod(handler) as pod, running() as rig:
        rig.serve("m", pod)
        async with rig.connect() as client:
            await client.post(BODY)
            await client.head()
            assert rig.relay.in_flight == 1
        await until(lambda: rig.relay.in_flight == 0, "the request is forgotten")
        (found,) = rig.table.find("m").pods.values()  # type: ignore[union-attr]
        assert found.in_flight == 0
        assert rig.logged()[0]["status"] == 200


async def test_a_pod_that_cannot_be_reached_is_left_for_another() -> None:
    async with PlayedPod(host="127.0.0.2") as pod, running() as rig, rig.connect() as client:
        nobody = PlayedPod(host="127.0.0.3", port=pod.port)
        rig.serve("m", nobody, pod)
        for _ in range(6):
            await client.post({"model": "m", "prompt": "p", "user": ""})
            assert (await client.answer())[0] == 200
        assert len(pod.asked) == 6
        assert rig.counts.retries["connect"] >= 1


@pytest.mark.parametrize("text", [engine.DRAINING_MARK, engine.DRAINING.message])
@pytest.mark.parametrize("status", [500, 503])
async def test_a_refusal_of_a_pod_that_drains_is_taken_to_another(text: str, status: int) -> None:
    async def refuse(asked: Asked) -> None:
        await asked.answer(json.dumps({"error": {"message": text}}).encode(), status, "connection: close\r\n")

    async with (
        PlayedPod(host="127.0.0.2") as pod,
        PlayedPod(refuse, "127.0.0.3", pod.port) as leaving,
        running() as rig,
        rig.connect() as client,
    ):
        rig.serve("m", leaving, pod)
        for _ in range(4):
            await client.post({"model": "m", "prompt": "p", "user": ""})
            assert (await client.answer())[::2] == (200, GOOD)
        assert leaving.asked
        assert rig.counts.retries["drain"] == len(leaving.asked)


async def test_a_failure_of_the_engine_is_passed_on_and_not_asked_again() -> None:
    async def fail(asked: Asked) -> None:
        await asked.answer(b'{"error":{"message":"boom"}}', 500)

    async with PlayedPod(fail) as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod)
        await client.post(BODY)
        assert (await client.answer())[::2] == (500, b'{"error":{"message":"boom"}}')
        assert len(pod.asked) == 1


async def test_an_answer_that_is_cut_off_is_cut_off_for_the_client_too() -> None:
    async def cut(asked: Asked) -> None:
        await asked.begin_stream()
        await asked.event("1")
        asked.writer.transport.abort()

    async with PlayedPod(cut) as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod)
        await client.post(BODY)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.answer()
            await client.answer()
        assert rig.logged()[0]["status"] == 502


async def test_a_pod_that_gives_no_answer_is_said_in_the_shape_of_the_api() -> None:
    async def leave(asked: Asked) -> None:
        asked.writer.close()

    async with PlayedPod(leave) as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod)
        await client.post(
            {"prompt": "p", "max_new_tokens": 1}, "/llm-engine/v1/llm/completions-sync?model_endpoint_name=m"
        )
        status, _, body = await client.answer()
        assert (status, list(json.loads(body))) == (502, ["detail"])
        assert len(pod.asked) == 1, "it may have been carried out"


async def test_without_a_key_nothing_is_served_and_a_long_body_is_not_read() -> None:
    async with PlayedPod() as pod, running() as rig:
        rig.serve("m", pod)
        async with rig.connect() as client:
            await client.post(BODY, key="wrong")
            status, headers, body = await client.answer()
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
            assert "key" in json.loads(body)["error"]["message"]
            await client.post(BODY)
            assert (await client.answer())[0] == 200, "the connection is still good"
        async with rig.connect() as client:
            await client.send(b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 10000000\r\n\r\n")
            for _ in range(3):
                await client.send(b"x" * 65536)
            assert (await client.answer())[0] == 401
            assert await client.ended()
        assert len(pod.asked) == 1


async def test_another_teams_model_is_not_found_whatever_it_is_called() -> None:
    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        rig.serve("secret", pod, namespace="team-b")
        for name in ("secret", "team-b/secret", "vendor/secret"):
            await client.post({"model": name, "prompt": "p"})
            status, _, body = await client.answer()
            assert status == 404
            assert "There is no model" in json.loads(body)["error"]["message"]
        await client.get("/v1/models")
        assert json.loads((await client.answer())[2])["data"] == []
        assert not pod.asked


async def test_a_name_with_its_namespace_becomes_one_that_the_pod_knows() -> None:
    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod, model={"source": "file:///m", "servedNames": ["nice"]})
        await client.post({"model": "team-a/m", "prompt": "p"})
        assert (await client.answer())[0] == 200
        assert json.loads(pod.asked[0].body)["model"] == "nice"


async def test_the_list_of_models_is_of_those_the_caller_may_use() -> None:
    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        rig.serve("mine", pod)
        rig.serve("theirs", pod, namespace="team-b")
        await client.get("/v1/models")
        assert [model["id"] for model in json.loads((await client.answer())[2])["data"]] == ["mine"]
        rig.access.put_secret(secret("all", "k-of-all"))
        await client.get("/v1/models", "k-of-all")
        assert len(json.loads((await client.answer())[2])["data"]) == 2


async def test_an_endpoints_own_key_goes_to_its_pods() -> None:
    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod, server={"apiKeySecretRef": {"name": "keys"}})
        await client.post(BODY, head="X-Berth-Endpoint-Key: own\r\n")
        await client.answer()
        assert pod.asked[0].headers["authorization"] == "Bearer own"
        assert "x-berth-endpoint-key" not in pod.asked[0].headers


async def test_requests_that_are_sent_ahead_are_answered_in_their_order() -> None:
    async def handler(asked: Asked) -> None:
        await asked.answer(asked.body)

    async with PlayedPod(handler) as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod)
        for number in range(200):
            await client.post({"model": "m", "prompt": str(number)})
        for number in range(200):
            assert json.loads((await client.answer())[2])["prompt"] == str(number)


async def test_what_is_not_understood_ends_the_connection() -> None:
    async with running() as rig, rig.connect() as client:
        await client.send(
            b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert await client.ended()


async def test_a_slow_reader_slows_the_pod_down() -> None:
    sent = 0

    async def handler(asked: Asked) -> None:
        nonlocal sent
        await asked.begin_stream()
        for _ in range(2000):
            await asked.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536
        await asked.send(b"0\r\n\r\n")

    async with PlayedPod(handler) as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod)
        await client.post(BODY)
        await client.head()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 32 * 2**20, "what nobody reads is not piled up"
        (exchange,) = rig.relay.under_way
        assert exchange.client.transport.get_write_buffer_size() < 2**20
        total = 0
        while part := await client.chunk():
            total += len(part)
        assert total == 2000 * 65536


@pytest.mark.parametrize("pieces", [1, 3])
async def test_an_old_client_gets_an_answer_without_chunks(pieces: int) -> None:
    async def handler(asked: Asked) -> None:
        whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndata\r\n5\r\n: 1\n\n\r\n0\r\n\r\n"
        for number in range(pieces):
            await asked.send(whole[number * len(whole) // pieces : (number + 1) * len(whole) // pieces])
            await asyncio.sleep(0.01)

    async with PlayedPod(handler) as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod)
        data = json.dumps(BODY).encode()
        await client.send(
            f"POST /v1/completions HTTP/1.0\r\nx-api-key: {KEY}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
        )
        status, headers, body = await client.answer()
        assert (status, headers["connection"], body) == (200, "close", b"data: 1\n\n")
        assert "transfer-encoding" not in headers


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_old_client_costs_no_connection_to_the_pod(chunked: bool) -> None:
    async def handler(asked: Asked) -> None:
        if chunked:
            await asked.begin_stream()
            await asked.event("1")
            await asked.send(b"0\r\n\r\n")
        else:
            await asked.answer()
        if asked.version == "HTTP/1.0":  # as uvicorn does, without a word of it
            asked.writer.close()

    async with PlayedPod(handler) as pod, running() as rig:
        rig.serve("m", pod)
        data = json.dumps(BODY).encode()
        lines = f"x-api-key: {KEY}\r\nConnection: keep-alive\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        for _ in range(2):
            async with rig.connect() as client:
                await client.send(b"POST /v1/completions HTTP/1.0\r\n" + lines + data)
                status, headers, body = await client.answer()
                assert (status, body) == (200, b"data: 1\n\n" if chunked else GOOD)
                assert headers["connection"] == ("close" if chunked else "keep-alive")
        async with rig.connect() as client:
            await client.post(BODY)
            assert (await client.answer())[0] == 200
        assert pod.connections == 1
        assert {asked.version for asked in pod.asked} == {"HTTP/1.1"}
        assert not any("connection" in asked.headers for asked in pod.asked)


async def test_a_connection_with_a_request_that_is_not_all_sent_is_not_kept() -> None:
    async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 X\r\ncontent-length: 0\r\n\r\n")
        writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(answer_early, "127.0.0.1", 0) as server, running() as rig:
        rig.serve("m", PlayedPod(port=server.sockets[0].getsockname()[1]))
        async with rig.connect() as client:
            await client.post({"model": "m", "prompt": "x" * 16_000_000})
            assert (await client.answer())[0] == 413
        (pod,) = rig.table.find("m").pods.values()  # type: ignore[union-attr]
        assert not pod.idle
        for writer in writers:
            writer.transport.abort()


async def test_a_connection_that_ends_before_anything_was_sent_is_left_for_another_pod(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        PlayedPod(host="127.0.0.2") as pod,
        PlayedPod(host="127.0.0.3", port=pod.port) as other,
        running() as rig,
        rig.connect() as client,
    ):
        rig.serve("m", other, pod)
        connect = rig.relay.connect

        async def reset(to: Pod) -> Upstream:
            upstream = await connect(to)
            if to.host == other.host:
                upstream.transport.abort()
            return upstream

        monkeypatch.setattr(rig.relay, "connect", reset)
        for number in range(8):
            await client.post({**BODY, "user": str(number)})
            assert (await client.answer())[0] == 200
        assert rig.counts.retries["connect"] >= 1
        assert not other.asked


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL])
async def test_what_this_side_lacks_is_no_failure_of_the_pod(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lack(to: Pod) -> Upstream:
        raise OSError(number, "x")

    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod)
        with monkeypatch.context() as patched:
            patched.setattr(rig.relay, "connect", lack)
            for _ in range(5):
                await client.post(BODY)
                assert (await client.answer())[0] == 503
        (found,) = rig.table.find("m").pods.values()  # type: ignore[union-attr]
        assert (found.failures, found.in_flight) == (0, 0)
        await client.post(BODY)
        assert (await client.answer())[0] == 200


async def test_timeouts_are_told_and_the_pod_is_let_go() -> None:
    async def silent(asked: Asked) -> None:
        await asyncio.sleep(60)

    async with PlayedPod(silent) as pod, running(first_byte_seconds=1.5) as rig, rig.connect() as client:
        rig.serve("m", pod)
        await client.post(BODY)
        status, _, body = await client.answer()
        assert (status, "sent nothing" in json.loads(body)["error"]["message"]) == (504, True)
        assert rig.relay.in_flight == 0


async def test_a_gateway_that_leaves_says_so_and_finishes_what_it_has() -> None:
    go_on = asyncio.Event()

    async def handler(asked: Asked) -> None:
        await asked.begin_stream()
        await go_on.wait()
        await asked.event("1")
        await asked.send(b"0\r\n\r\n")

    async with PlayedPod(handler) as pod, running() as rig, rig.connect() as client, rig.connect() as other:
        rig.serve("m", pod)
        await client.post(BODY)
        await client.head()
        rig.relay.closing = True
        go_on.set()
        await other.post(BODY)
        status, headers, body = await other.answer()
        assert (status, headers["connection"], body) == (200, "close", b"data: 1\n\n")
        assert await other.ended()
        rig.relay.stop_accepting()
        assert await client.chunk() == b"data: 1\n\n"
        async with asyncio.timeout(10):
            await rig.relay.finished()


async def test_nothing_is_left_counted_after_a_storm() -> None:
    async def handler(asked: Asked) -> None:
        await asked.begin_stream()
        for number in range(20):
            await asked.event(str(number))
            await asyncio.sleep(0.002)
        await asked.send(b"0\r\n\r\n")

    async def one(rig: Any, number: int) -> None:
        async with rig.connect() as client:
            await client.post({**BODY, "user": str(number)})
            if number % 3:
                await client.head()
                if number % 2:
                    return
                while await client.chunk():
                    pass

    async with PlayedPod(handler) as pod, running() as rig:
        rig.serve("m", pod)
        await asyncio.gather(*(one(rig, number) for number in range(120)))
        await until(lambda: not rig.relay.clients, "all clients are gone")
        found = rig.table.find("m")
        assert found is not None
        assert rig.relay.under_way == set()
        assert [pod.in_flight for pod in found.pods.values()] == [0]
        assert rig.relay.body_bytes == rig.holds.count == 0


async def test_long_bodies_of_all_clients_together_are_bounded() -> None:
    async with running(most_bodies_bytes=1024 * 1024) as rig, rig.connect() as one, rig.connect() as other:
        for client in (one, other):
            key = f"x-api-key: {KEY}\r\n"
            await client.send(
                f"POST /v1/completions HTTP/1.1\r\nHost: g\r\n{key}Content-Length: 9000000\r\n\r\n".encode()
            )
        await one.send(b"x" * 1_900_000)
        await until(lambda: rig.relay.body_bytes > 0, "a long body")
        await other.send(b"x" * 1_900_000)
        assert (await other.answer())[0] == 503
        await until(lambda: rig.relay.body_bytes < 1024 * 1024, "it is not counted any more")
