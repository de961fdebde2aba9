"""A stand-in for vLLM's app in tests of the APIs: answers each call with what a test hands it, and keeps the calls."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl

import berth_apis
from berth_apis.engine import Relay
from berth_apis.http import Answer, Call, Failure, Reply, Request, Serving, Streaming

MODELS = ({"id": "m", "object": "model", "max_model_len": 512},)
SERVING = Serving(MODELS, clock=lambda: 0.0)


def request(method: str, target: str, body: Any = None, headers: dict[str, str] | None = None) -> Request:
    """A request for a path below an API's prefix. body: JSON, or bytes as they are."""
    path, _, query = target.partition("?")
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Request(method, path, dict(parse_qsl(query, keep_blank_values=True)), headers or {}, data)


def reply(body: Any, status: int = 200) -> Reply:
    """An answer of the engine."""
    return Reply(status, json.dumps(body).encode())


def text(
    *texts: str, finish_reason: str = "length", logprobs: Any = None, usage: tuple[int, int] = (3, 2)
) -> dict[str, Any]:
    """A completion as vLLM answers it."""
    choices = [
        {"index": index, "text": each, "finish_reason": finish_reason, "stop_reason": None, "logprobs": logprobs}
        for index, each in enumerate(texts)
    ]
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return {"id": "cmpl-1", "model": "m", "choices": choices, "usage": counts}


def run(
    dialect: ModuleType,
    asked: Request,
    replies: Iterable[Reply] = (),
    serving: Serving = SERVING,
    tokens: list[int] | None = None,
) -> tuple[Answer | Streaming, list[Call]]:
    """What an API makes of a request when the engine gives these answers, and what it asked the engine.

    tokens: what any text tokenizes to; those questions are then not among the calls.
    """
    operation, calls, answers = berth_apis.operate(dialect, asked, serving), [], iter(replies)
    answer: Reply | None = None
    try:
        while True:
            call = operation.send(answer)  # type: ignore[arg-type]
            if tokens is not None and call.path == "/tokenize":
                answer = reply({"count": len(tokens), "tokens": tokens})
                continue
            calls.append(call)
            answer = next(answers)
    except StopIteration as end:
        assert isinstance(end.value, Answer | Streaming), "the test has too few replies"
        return end.value, calls


def body(answer: Answer | Streaming) -> Any:
    """The JSON of an answer."""
    assert isinstance(answer, Answer)
    return json.loads(answer.body)


def events(chunks: Iterable[Any]) -> bytes:
    """What vLLM streams: these events and its [DONE]."""
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def stream(found: Answer | Streaming, data: bytes, cuts: Iterable[int] = ()) -> tuple[bytes, Failure | None]:
    """What comes out for these bytes of the engine, cut at these places."""
    assert isinstance(found, Streaming)
    relay, edges = Relay(found.translator), [0, *sorted(cuts), len(data)]
    out = b"".join(relay.feed(data[a:b]) for a, b in itertools.pairwise(edges)) + relay.end()
    return out, relay.failure


def objects(out: bytes) -> list[Any]:
    """The events of a stream as JSON."""
    return [json.loads(line[5:]) for line in out.splitlines() if line.startswith(b"data:")]


App = Callable[[dict[str, Any], Any, Any], Any]


async def ask(
    app: App, method: str, path: str, data: bytes = b"", query: str = "", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One request to an ASGI app; the client waits for the end."""
    sent_headers = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    sent = [{"type": "http.request", "body": data, "more_body": False}]
    got: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if sent:
            return sent.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        got.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": sent_headers}
    await app(scope, receive, send)
    answered = {name.decode(): value.decode() for name, value in got[0]["headers"]}
    return got[0]["status"], answered, b"".join(message.get("body", b"") for message in got[1:])
