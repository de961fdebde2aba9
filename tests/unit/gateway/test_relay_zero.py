"""Requests for an endpoint without pods: held, told about it, let go, refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from berth_apis import engine
from berth_gateway import looks
from berth_gateway.holding import COMMENT_SECONDS, Limits
from tests.unit.gateway.rig import (
    GOOD,
    Asked,
    Handler,
    PlayedPod,
    Rig,
    Talk,
    endpoint,
    own_slice,
    running,
    until,
)

BODY = {"model": "m", "prompt": "Hello"}
SLEEPS: dict[str, Any] = {"scaling": {"min": 0, "max": 2}}


def asleep(rig: Rig, **status: Any) -> None:
    """An endpoint at zero, whose own Service leads to the gateway's port."""
    told = {"scaling": {"targetPerReplica": 4, "startSeconds": 40.0}, **status}
    rig.table.put_endpoint(endpoint("m", status=told, **SLEEPS))
    rig.table.put_slice(own_slice("m", rig.endpoint_port))


def later(rig: Rig, seconds: float) -> None:
    """As if so much time had passed."""
    rig.ahead_seconds += seconds
    rig.relay.look(rig.now())


async def held(rig: Rig, number: int = 1) -> None:
    await until(lambda: rig.holds.count == number, f"{number} requests are held")


@pytest.mark.parametrize("through", ["the gateway's URL", "the endpoint's Service"])
async def test_a_request_waits_for_a_pod_and_is_answered(through: str) -> None:
    async with PlayedPod() as pod, running() as rig:
        asleep(rig)
        port = rig.endpoint_port if through == "the endpoint's Service" else None
        async with rig.connect(port) as client:
            await client.post(BODY)
            await held(rig)
            rig.wake("m", pod)
            status, headers, body = await client.answer()
            assert (status, body) == (200, GOOD)
            assert (headers.get("connection") == "close") == bool(port), "the Service leads to the pods from now on"
        line = rig.logged()[-1]
        assert line["held_seconds"] > 0
        assert rig.holds.count == 0


async def test_the_key_of_a_request_through_the_service_is_the_pods_to_judge() -> None:
    async with PlayedPod() as pod, running() as rig:
        asleep(rig)
        async with rig.connect(rig.endpoint_port) as client:
            await client.post({"model": "whatever"}, key="the-endpoints-own")
            await held(rig)
            rig.wake("m", pod)
            assert (await client.answer())[0] == 200
            assert pod.asked[0].headers["authorization"] == "Bearer the-endpoints-own"
            assert json.loads(pod.asked[0].body) == {"model": "whatever"}


async def test_a_port_without_an_endpoint_serves_nobody() -> None:
    async with running() as rig, rig.connect(rig.endpoint_port) as client:
        await client.post(BODY)
        assert (await client.answer())[0] == 421
        assert await client.ended()


async def test_a_connection_to_a_port_is_never_another_endpoints() -> None:
    async with PlayedPod() as pod, running() as rig:
        asleep(rig)
        async with rig.connect(rig.endpoint_port) as client:
            await client.send(b"POST /v1/completions HTTP/1.1\r\n")
            await until(lambda: rig.relay.clients, "the connection")
            rig.table.drop_slice("team-a", "m-gateway")
            rig.table.drop_endpoint("team-a", "m")
            rig.serve("other", pod, namespace="team-b", **SLEEPS)
            rig.table.put_slice(own_slice("other", rig.endpoint_port, "team-b"))
            await client.send(b"Host: m\r\nContent-Length: 0\r\n\r\n")
            assert (await client.answer())[0] == 421
            assert not pod.asked


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/metrics"])
async def test_a_look_does_not_wake(path: str) -> None:
    async with running() as rig:
        asleep(rig)
        async with rig.connect(rig.endpoint_port) as client:
            await client.get(path)
            status, _, body = await client.answer()
            assert (status, rig.holds.count) == (503 if path == "/metrics" else 200, 0)
            if path == "/v1/models":
                assert [model["id"] for model in json.loads(body)["data"]] == ["m"]


async def stream(asked: Asked) -> None:
    await asked.begin_stream()
    await asked.event("1")
    await asked.send(b"0\r\n\r\n")


async def test_a_client_that_waits_for_a_stream_is_told_and_then_gets_it() -> None:
    async with PlayedPod(stream) as pod, running() as rig, rig.connect() as client:
        asleep(rig, progress={"message": "LoadingWeights"})
        await client.post({**BODY, "stream": True})
        await held(rig)
        later(rig, COMMENT_SECONDS + 0.1)
        status, headers = await client.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        comment = await client.chunk()
        assert comment.startswith(b": waking team-a/m: LoadingWeights, about 3")
        assert comment.endswith(b" s\n\n")
        later(rig, 1)
        later(rig, COMMENT_SECONDS)
        assert (await client.chunk()).startswith(b": waking")
        rig.wake("m", pod)
        assert await client.chunk() == b"data: 1\n\n"
        assert await client.chunk() == b""
        await client.post({**BODY, "stream": True})
        assert (await client.answer())[2] == b"data: 1\n\n", "the connection is good for another one"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", BODY),
        ("/egp/v4/completions", {"model": "m", "prompt": "p", "stream": True}),
        ("/aleph-alpha/complete", {"model": "m", "prompt": "p", "maximum_tokens": 1, "stream": True}),
    ],
)
async def test_who_would_not_understand_a_comment_gets_none(path: str, body: dict[str, Any]) -> None:
    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        asleep(rig)
        await client.post(body, path)
        await held(rig)
        later(rig, COMMENT_SECONDS + 1)
        (exchange,) = rig.relay.under_way
        assert exchange.told_at == 0
        rig.wake("m", pod)
        assert (await client.answer())[::2] == (200, GOOD)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/completions", {**BODY, "stream": True}, b'data: {"error":{"message":"no such prompt"'),
        (
            "/llm-engine/v1/llm/completions-stream?model_endpoint_name=m",
            {"prompt": "p", "max_new_tokens": 1},
            b'data: {"request_id":"","output":null,"error":{"status_code":400,"content":{"error":"no such prompt"',
        ),
    ],
)
async def test_a_failure_after_comments_is_an_event_of_that_api(path: str, body: dict[str, Any], said: bytes) -> None:
    async def refuse(asked: Asked) -> None:
        await asked.answer(b'{"error":{"message":"no such prompt","code":400}}', 400)

    async with PlayedPod(refuse) as pod, running() as rig, rig.connect() as client:
        asleep(rig)
        await client.post(body, path)
        await held(rig)
        later(rig, COMMENT_SECONDS + 1)
        assert (await client.head())[0] == 200
        await client.chunk()
        rig.wake("m", pod)
        assert (await client.chunk()).startswith(said)
        assert await client.chunk() == b""
        assert rig.logged()[-1]["status"] == 400


async def told(rig: Rig, client: Talk) -> None:
    """A request for a stream of an endpoint at zero, whose client has got its first comment."""
    asleep(rig)
    await client.post({**BODY, "stream": True})
    await held(rig)
    later(rig, COMMENT_SECONDS + 0.1)
    assert (await client.head())[0] == 200
    await client.chunk()


async def in_pieces(asked: Asked) -> None:
    body = b'{"error":{"message":"no such prompt","code":400}}'
    head = f"HTTP/1.1 400 X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    await asked.send(head.encode())
    await asyncio.sleep(0.02)
    await asked.send(body)


async def die(asked: Asked) -> None:
    asked.writer.transport.abort()


async def say_nothing(asked: Asked) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("handler", "status", "words"),
    [(in_pieces, 400, "no such prompt"), (die, 502, "gave no answer"), (say_nothing, 504, "sent nothing for")],
)
async def test_whatever_fails_after_comments_is_told_in_full(handler: Handler, status: int, words: str) -> None:
    async with PlayedPod(handler) as pod, running(first_byte_seconds=1.0) as rig, rig.connect() as client:
        await told(rig, client)
        rig.wake("m", pod)
        if handler is say_nothing:
            await until(lambda: pod.asked, "the pod is asked")
            for _ in range(3):
                rig.relay.look(rig.now())
        assert words in (await client.chunk()).decode()
        assert await client.chunk() == b""
        (line,) = rig.logged()
        assert line["status"] == status
        (found,) = rig.table.find("m").pods.values()  # type: ignore[union-attr]
        assert found.in_flight == 0


async def test_an_answer_that_is_cut_after_comments_ends_the_connection() -> None:
    async def cut(asked: Asked) -> None:
        await asked.begin_stream()
        await asked.event("1")
        asked.writer.transport.abort()

    async with PlayedPod(cut) as pod, running() as rig, rig.connect() as client:
        await told(rig, client)
        rig.wake("m", pod)
        assert await client.chunk() == b"data: 1\n\n"
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.chunk()
        assert [line["status"] for line in rig.logged()] == [502]


async def test_a_refusal_after_comments_that_nobody_else_takes_ends_once() -> None:
    async def refuse(asked: Asked) -> None:
        await asked.answer(json.dumps({"error": {"message": engine.DRAINING_MARK}}).encode(), 503)

    async with PlayedPod(refuse) as pod, running() as rig, rig.connect() as client:
        await told(rig, client)
        rig.table.drop_slice("team-a", "m-gateway")
        rig.table.put_endpoint(endpoint("m", scaling={"min": 1, "max": 2}))
        rig.wake("m", pod)
        assert engine.DRAINING.message in (await client.chunk()).decode()
        assert await client.chunk() == b""
        (line,) = rig.logged()
        assert line["status"] == 503
        assert rig.table.find("m").requests == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("through", ["the gateway's URL", "the endpoint's Service"])
async def test_what_may_not_sleep_any_more_is_waited_for_as_long_as_its_service_leads_here(through: str) -> None:
    async with PlayedPod() as pod, running() as rig:
        asleep(rig)
        rig.table.put_endpoint(endpoint("m", scaling={"min": 1, "max": 2}))
        async with rig.connect(rig.endpoint_port if through == "the endpoint's Service" else None) as client:
            await client.post(BODY)
            await held(rig)
            rig.wake("m", pod)
            assert (await client.answer())[::2] == (200, GOOD)


async def test_a_fight_over_a_child_does_not_keep_it_from_waking() -> None:
    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        why = "PodDisruptionBudget: kubectl-edit sets spec.maxUnavailable"
        asleep(rig, conditions=[{"type": "Stalled", "status": "True", "reason": "Conflicted", "message": why}])
        await client.post(BODY)
        await held(rig)
        rig.wake("m", pod)
        assert (await client.answer())[0] == 200


async def test_a_wake_that_fails_tells_every_client_why() -> None:
    async with running() as rig, rig.connect() as one, rig.connect() as other, rig.connect() as third:
        asleep(rig)
        await one.post(BODY)
        await other.post(
            {"prompt": "p", "max_new_tokens": 1}, "/llm-engine/v1/llm/completions-sync?model_endpoint_name=m"
        )
        await held(rig, 2)
        why = "pod m-1: OutOfMemory: the GPU is too small"
        asleep(rig, conditions=[{"type": "Stalled", "status": "True", "reason": "OutOfMemory", "message": why}])
        for client, field in ((one, "error"), (other, "detail")):
            status, headers, body = await client.answer()
            assert status == 503
            assert why in str(json.loads(body)[field])
            assert int(headers["retry-after"]) > 0
        await third.post(BODY)
        assert (await third.answer())[0] == 503
        assert rig.holds.count == 0


async def test_no_more_are_held_than_allowed() -> None:
    async with running(Limits(per_endpoint=2)) as rig:
        asleep(rig)
        async with rig.connect() as one, rig.connect() as two, rig.connect() as three:
            await one.post(BODY)
            await two.post(BODY)
            await held(rig, 2)
            await three.post(BODY)
            status, headers, body = await three.answer()
            assert (status, headers["retry-after"]) == (503, "40")
            assert "2 requests wait" in json.loads(body)["error"]["message"]


async def test_nobody_waits_for_ever() -> None:
    async with running(Limits(seconds=60)) as rig, rig.connect() as client:
        asleep(rig)
        await client.post(BODY)
        await held(rig)
        later(rig, 61)
        status, _, body = await client.answer()
        assert (status, "team-a/m has no ready pod" in json.loads(body)["error"]["message"]) == (503, True)


async def test_who_leaves_is_not_held() -> None:
    async with running() as rig:
        asleep(rig)
        async with rig.connect() as client:
            await client.post(BODY)
            await held(rig)
        await held(rig, 0)
        assert rig.relay.in_flight == 0


async def test_those_that_wait_go_on_in_order_and_not_all_at_once() -> None:
    most = 0
    order: list[str] = []

    async def handler(asked: Asked) -> None:
        nonlocal most
        order.append(json.loads(asked.body)["prompt"])
        found = rig.table.find("m")
        assert found is not None
        most = max(most, *(each.in_flight for each in found.pods.values()))
        await asyncio.sleep(0.01)
        await asked.answer()

    async def one(number: int) -> int:
        async with rig.connect() as client:
            await client.post({**BODY, "prompt": str(number)})
            return (await client.answer())[0]

    async with PlayedPod(handler) as pod, running() as rig:
        asleep(rig)
        asking = []
        for number in range(60):
            asking.append(asyncio.create_task(one(number)))
            await held(rig, number + 1)
        rig.wake("m", pod)
        assert set(await asyncio.gather(*asking)) == {200}
        assert order[:4] == ["0", "1", "2", "3"]
        assert most < 64
        assert rig.holds.count == 0


async def test_a_pod_that_has_just_gone_is_waited_for() -> None:
    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        asleep(rig)
        gone = PlayedPod(host="127.0.0.4", port=pod.port)
        rig.wake("m", gone)
        await client.post(BODY)
        await held(rig)
        rig.wake("m", pod)
        assert (await client.answer())[0] == 200


async def test_an_endpoint_that_does_not_sleep_says_what_is_wrong() -> None:
    async with running() as rig, rig.connect() as client:
        rig.table.put_endpoint(endpoint("m"))
        await client.post(BODY)
        status, headers, body = await client.answer()
        assert (status, rig.holds.count) == (503, 0)
        assert "team-a/m has no ready pod" in json.loads(body)["error"]["message"]
        assert "retry-after" in headers
        rig.table.put_endpoint(endpoint("m", suspend=True))
        await client.post(BODY)
        assert "suspended" in json.loads((await client.answer())[2])["error"]["message"]


async def test_slow_clients_are_not_waited_for() -> None:
    async with running() as rig, rig.connect() as head, rig.connect() as idle:
        await head.send(b"POST /v1/completions HTTP/1.1\r\nHost")
        await until(lambda: len(rig.relay.clients) == 2, "both are connected")
        await until(lambda: any(client.is_reading for client in rig.relay.clients), "a part of a head")
        for _ in range(looks.HEAD_SECONDS + 1):
            rig.relay.look(rig.now())
        assert (await head.answer())[0] == 408
        assert await head.ended()
        for _ in range(looks.CLIENT_IDLE_SECONDS):
            rig.relay.look(rig.now())
        assert await idle.ended()
