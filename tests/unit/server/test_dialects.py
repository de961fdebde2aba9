"""The ASGI around vLLM's app: what reaches the app, what reaches the client, and what a leaving client frees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from berth_apis.http import Serving
from berth_server import dialects
from berth_server.dialects import Dialects
from tests.unit.apis.engine import ask, events, text

ALL = ("OpenAI", "LLMEngine", "ScaleEGP", "AlephAlpha")
ASKED = {"model": "m", "prompt": "p", "model_parameters": {"max_tokens": 9}}
EGP = json.dumps(ASKED).encode()
EGP_STREAM = json.dumps(ASKED | {"stream": True}).encode()
NEUTRAL = {"top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
SERVING = Serving((), clock=lambda: 0.0)
MODELS = {"data": [{"id": "m", "max_model_len": 512}]}


class Engine:
    """An app in the place of vLLM's: `answer` says what a completion gets."""

    def __init__(self, answer: Callable[[Any, Any, Any], Any]) -> None:
        self._answer = answer
        self.asked: list[tuple[str, Any]] = []
        self.gone = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        data = (await receive())["body"]
        self.asked.append((scope["path"], json.loads(data) if data else None))
        if scope["path"] == "/v1/models":
            await respond(send, 200, json.dumps(MODELS).encode())
        else:
            await self._answer(self, receive, send)


async def respond(send: Any, status: int, *bodies: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    for data in bodies:
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def engine(status: int, *bodies: bytes) -> Engine:
    return Engine(lambda _, __, send: respond(send, status, *bodies))


async def test_a_call_is_translated_there_and_back() -> None:
    app = engine(200, json.dumps(text("t")).encode())
    status, headers, data = await ask(Dialects(app, ALL, SERVING), "POST", "/egp/v2/completions", EGP)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert int(headers["content-length"]) == len(data)
    assert json.loads(data)["completion"]["text"] == "t"
    assert app.asked == [
        ("/v1/models", None),
        ("/v1/completions", {"model": "m", "prompt": "p", "temperature": 0.2, "max_tokens": 9} | NEUTRAL),
    ]


async def test_the_list_of_models_is_asked_for_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    app = engine(200, json.dumps(text("t")).encode())
    served = Dialects(app, ALL, SERVING)
    for _ in range(3):
        await ask(served, "POST", "/egp/v2/completions", EGP)
    assert [path for path, _ in app.asked].count("/v1/models") == 1
    monkeypatch.setattr(dialects, "MODELS_SECONDS", 0.0)
    await ask(served, "POST", "/egp/v2/completions", EGP)
    assert [path for path, _ in app.asked].count("/v1/models") == 2


async def test_the_engines_own_api_passes_untouched() -> None:
    app = engine(200, b"as it is")
    status, _, data = await ask(Dialects(app, ALL, SERVING), "POST", "/v1/completions", b'{"x":1}')
    assert (status, data, app.asked) == (200, b"as it is", [("/v1/completions", {"x": 1})])


async def test_an_api_that_is_not_enabled_is_not_there() -> None:
    app = engine(404, b'{"detail":"Not Found"}')
    status, _, _ = await ask(Dialects(app, ("OpenAI", "LLMEngine"), SERVING), "POST", "/egp/v2/completions", EGP)
    assert (status, app.asked[0][0]) == (404, "/egp/v2/completions")


async def test_without_open_ai_only_what_is_not_a_completion_and_the_launcher_pass() -> None:
    app = engine(200, b"{}")
    served = Dialects(app, ("LLMEngine",), SERVING, launcher_key="own")
    status, _, data = await ask(served, "POST", "/v1/completions", b"{}")
    assert (status, app.asked) == (404, [])
    message = "/v1/completions is not served: this endpoint's APIs are LLMEngine."
    assert json.loads(data)["error"] == {"message": message, "type": "NotFoundError", "param": None, "code": 404}
    assert (await ask(served, "POST", "/invocations", b"{}"))[0] == 404
    assert (await ask(served, "GET", "/metrics"))[0] == 200
    headers = {"x-api-key": "own"}
    assert (await ask(served, "POST", "/v1/completions", b"{}", headers=headers))[0] == 200
    headers = {"x-api-key": "other"}
    assert (await ask(served, "POST", "/v1/completions", b"{}", headers=headers))[0] == 404


async def test_an_unknown_path_below_a_prefix() -> None:
    status, _, data = await ask(Dialects(engine(200), ALL, SERVING), "GET", "/egp/v9/nothing")
    assert (status, json.loads(data)) == (404, {"detail": "ScaleEGP has no GET /v9/nothing here."})


async def test_a_stream_is_passed_on_event_by_event() -> None:
    """Each event reaches the client before the engine makes the next one."""
    steps: list[str] = []

    async def answer(_: Any, __: Any, send: Any) -> None:
        chunk = text("x", finish_reason=None) | {"usage": None}  # type: ignore[arg-type]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _number in range(3):
            steps.append("made")
            await send({"type": "http.response.body", "body": events([chunk])[:-14], "more_body": True})
        await send({"type": "http.response.body", "body": events([text() | {"choices": []}])})

    async def send(message: Any) -> None:
        if message.get("body"):
            steps.append("sent")

    sent = [{"type": "http.request", "body": EGP_STREAM}]

    async def receive() -> Any:
        return sent.pop() if sent else await asyncio.Event().wait()

    scope = {"type": "http", "method": "POST", "path": "/egp/v2/completions", "query_string": b"", "headers": []}
    await Dialects(Engine(answer), ALL, SERVING)(scope, receive, send)
    assert steps == ["made", "sent"] * 3 + ["sent"]


async def test_the_status_waits_for_the_first_event() -> None:
    error = b'data: {"error":{"message":"a bad regex","code":400}}\n\ndata: [DONE]\n\n'
    status, headers, data = await ask(
        Dialects(engine(200, error), ALL, SERVING), "POST", "/egp/v4/completions", EGP_STREAM
    )
    assert (status, headers["content-type"], data) == (400, "text/event-stream", b"data: error 400: a bad regex\n\n")


@pytest.mark.parametrize("body", [EGP, EGP_STREAM])
async def test_a_refusal_of_the_engine_keeps_its_status(body: bytes) -> None:
    app = engine(503, b'{"error":{"message":"the queue is full","code":503}}')
    status, headers, data = await ask(Dialects(app, ALL, SERVING), "POST", "/egp/v4/completions", body)
    assert (status, headers["retry-after"]) == (503, "1")
    assert b"the queue is full" in data


@pytest.mark.parametrize("body", [EGP, EGP_STREAM])
async def test_an_engine_that_breaks_is_an_error(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def answer(*_: Any) -> None:
        raise ValueError("inside")

    status, _, data = await ask(Dialects(Engine(answer), ALL, SERVING), "POST", "/egp/v4/completions", body)
    assert status == 500
    assert b"inside" not in data
    assert "_failed: ValueError" in caplog.text
    assert "in answer" in caplog.text
    assert "inside" not in caplog.text.replace('raise ValueError("inside")', "")


async def test_a_first_event_that_nobody_expected_is_an_error_of_the_stream() -> None:
    app = engine(200, b'data: {"choices": [{}]}\n\ndata: [DONE]\n\n')
    path = "/llm-engine/v1/llm/completions-stream"
    data = b'{"prompt": "p", "max_new_tokens": 1, "temperature": 0}'
    status, headers, body = await ask(Dialects(app, ALL, SERVING), "POST", path, data, query="model_endpoint_name=m")
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert b'"status":"FAILURE"' in body


async def test_a_body_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialects, "MAX_BODY_BYTES", 1 << 20)
    app = engine(200)
    status, _, data = await ask(Dialects(app, ALL, SERVING), "POST", "/egp/v4/completions", b" " * ((1 << 20) + 1))
    assert (status, json.loads(data)["detail"]) == (413, "The body is larger than 1 MiB.")
    assert app.asked == []


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_client_that_leaves_frees_its_slot(streaming: bool) -> None:
    """vLLM learns of it as of any client that leaves: its `receive` says so."""
    waiting, left = asyncio.Event(), asyncio.Event()

    async def answer(app: Engine, receive: Any, send: Any) -> None:
        if streaming:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        waiting.set()
        assert (await receive())["type"] == "http.disconnect"
        app.gone.set()

    app = Engine(answer)
    sent = [{"type": "http.request", "body": EGP_STREAM if streaming else EGP}]
    got: list[Any] = []

    async def receive() -> Any:
        if sent:
            return sent.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        got.append(message)

    scope = {"type": "http", "method": "POST", "path": "/egp/v2/completions", "query_string": b"", "headers": []}
    served = asyncio.create_task(Dialects(app, ALL, SERVING)(scope, receive, send))
    await waiting.wait()
    left.set()
    await served
    assert app.gone.is_set()
    assert got == []


async def test_nothing_is_sent_to_a_client_that_left_during_a_stream() -> None:
    """And the app's `send` does not raise: Starlette would leave the engine's generator to the garbage collector."""
    left = asyncio.Event()
    steps: list[str] = []

    async def answer(_: Any, receive: Any, send: Any) -> None:
        chunk = events([text("x", finish_reason=None)])[:-14]  # type: ignore[arg-type]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        left.set()
        steps.append((await receive())["type"])
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        steps.append("sent on")

    sent = [{"type": "http.request", "body": EGP_STREAM}]
    got: list[Any] = []

    async def receive() -> Any:
        if sent:
            return sent.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        got.append(message)

    scope = {"type": "http", "method": "POST", "path": "/egp/v2/completions", "query_string": b"", "headers": []}
    await Dialects(Engine(answer), ALL, SERVING)(scope, receive, send)
    assert steps == ["http.disconnect", "sent on"]
    assert [message["type"] for message in got] == ["http.response.start", "http.response.body"]


async def test_the_app_is_told_to_listen_for_a_client_that_leaves() -> None:
    """What Starlette does with a server of ASGI 2.3, as uvicorn is."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["asgi"])
        await respond(send, 200, json.dumps(MODELS).encode())

    sent = [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        return sent.pop() if sent else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/egp/v3/models", "query_string": b"", "headers": []}
    await Dialects(app, ALL, SERVING)(scope | {"asgi": {"version": "3.0", "spec_version": "2.5"}}, receive, send)
    assert seen == [{"version": "3.0", "spec_version": "2.3"}]


async def test_other_kinds_of_connections_are_the_engines() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await Dialects(app, ALL, SERVING)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    await Dialects(app, ALL, SERVING)({"type": "websocket", "path": "/egp/v2/completions"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan", "websocket"]
