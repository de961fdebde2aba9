"""Serves the APIs of `berth_apis` inside vLLM's process: ASGI around vLLM's app, which it asks as a client would."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from functools import partial
from types import ModuleType
from urllib.parse import parse_qsl

import berth_apis
from berth_apis import credentials, open_ai
from berth_apis.engine import Relay, decoded, failure_of
from berth_apis.http import EVENT_STREAM, Answer, Call, Failure, Refused, Reply, Request, Serving, Streaming
from berth_server.closing import Application, Message, Receive, Send

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Of a request, images included."""

MODELS_SECONDS = 5.0
"""How old the list of models may be."""

OPERATIONAL = ("/health", "/ping", "/metrics", "/load", "/version", "/berth/info")
"""What an engine answers besides completions, whatever APIs are enabled."""

log = logging.getLogger("berth")


class Dialects:
    """The middleware.

    enabled: the APIs to serve.  serving: what is served, but for its models, which the engine tells.
    launcher_key: who comes with it is asked nothing.
    """

    def __init__(
        self,
        app: Application,
        enabled: Collection[str],
        serving: Serving,
        launcher_key: str = "",
    ) -> None:
        self._app = app
        self._enabled = enabled
        self._serving = serving
        self._launcher_key = launcher_key
        self._asked_at = float("-inf")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        dialect, path = berth_apis.claimant(scope["path"], self._enabled)
        exchange = _Exchange(self._app, scope, receive, send, dialect)
        if dialect is not open_ai:
            return await exchange.serve(path, partial(self._known, exchange))
        if (
            open_ai.NAME in self._enabled
            or path in OPERATIONAL
            or credentials.presents(scope["headers"], self._launcher_key)
        ):
            return await self._app(scope, receive, send)
        return await exchange.refuse(
            Failure(404, f"{path[:100]} is not served: this endpoint's APIs are {self._names()}.")
        )

    def _names(self) -> str:
        return ", ".join(self._enabled)

    async def _known(self, exchange: _Exchange) -> Serving:
        """What is served; adapters come and go at run time. Raises Refused."""
        if time.monotonic() - self._asked_at > MODELS_SECONDS:
            models = decoded(await exchange.ask(Call("GET", "/v1/models")))["data"]
            self._serving = replace(self._serving, models=tuple(models))
            self._asked_at = time.monotonic()
        return self._serving


class _Gone(Exception):
    """The client has left."""


class _Exchange:
    """One request of a client and its answer."""

    def __init__(self, app: Application, scope: Message, receive: Receive, send: Send, dialect: ModuleType) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._dialect = dialect
        self._gone = asyncio.Event()

    async def serve(self, path: str, known: Callable[[], Awaitable[Serving]]) -> None:
        """Answer the request for this path of the API."""
        try:
            body = await self._body()
        except _Gone:
            return
        if body is None:
            await self.refuse(Failure(413, f"The body is larger than {MAX_BODY_BYTES >> 20} MiB."))
            return
        request = self._request(path, body)
        watch = asyncio.create_task(self._watch())
        try:
            await self._run(request, known)
        except _Gone:
            pass
        finally:
            watch.cancel()

    async def refuse(self, failure: Failure) -> None:
        """Answer with a failure, whatever the request is."""
        await self._answer(self._dialect.failure(failure, self._request(self._scope["path"], b"")))

    async def _body(self) -> bytes | None:
        parts, size, more = [], 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > MAX_BODY_BYTES:
                return None
        return b"".join(parts)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()

    def _request(self, path: str, body: bytes) -> Request:
        query = dict(parse_qsl(self._scope["query_string"].decode("latin-1"), keep_blank_values=True))
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._scope["headers"]}
        return Request(self._scope["method"], path, query, headers, body)

    async def _run(self, request: Request, known: Callable[[], Awaitable[Serving]]) -> None:
        result: Answer | Streaming
        reply: Reply | None = None
        try:
            operation = berth_apis.operate(self._dialect, request, await known())
            while True:
                reply = await self.ask(operation.send(reply))  # type: ignore[arg-type]
        except StopIteration as end:
            result = end.value
        except Refused as refusal:
            result = self._dialect.failure(refusal.failure, request)
        except _Gone:
            raise
        except Exception:
            _log_failure("request_failed")
            ours = Failure(500, "Berth failed on this request; the server's log says where.")
            result = self._dialect.failure(ours, request)
        if isinstance(result, Streaming):
            await self._stream(result, request)
        else:
            await self._answer(result)

    async def ask(self, call: Call) -> Reply:
        """The engine's whole answer."""
        start: Message = {}
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        await self._call(call, collect)
        return Reply(start.get("status", 500), b"".join(parts))

    async def _call(self, call: Call, send: Send) -> None:
        """Let vLLM's app answer a call. It is told when the client leaves, and then frees what the call holds."""
        data = json.dumps(call.json).encode() if call.json is not None else b""
        sent = False

        async def receive() -> Message:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": data, "more_body": False}
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def guarded(message: Message) -> None:
            # As the server itself does. An exception here would end the app without closing the engine's generator,
            # which then goes on until the garbage collector finds it; what `receive` says ends it at once.
            if not self._gone.is_set():
                await send(message)

        path = call.path
        kept = [item for item in self._scope["headers"] if item[0] not in _OURS]
        headers = [*kept, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        scope = {
            **self._scope,
            "method": call.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            # From 2.4 on an app may wait for an exception of `send` instead of listening to `receive`.
            "asgi": {**self._scope.get("asgi", {}), "spec_version": "2.3"},
        }
        await self._app(scope, receive, guarded)
        if self._gone.is_set():
            raise _Gone

    async def _stream(self, streaming: Streaming, request: Request) -> None:
        relay = Relay(streaming.translator)
        start: Message = {}
        refusal: list[bytes] = []
        told = False

        async def pass_on(message: Message) -> None:
            nonlocal told
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body = message.get("body", b"")
            if start["status"] != 200:
                refusal.append(body)
                return
            out = relay.feed(body)
            if relay.begun and not told:
                told = True
                await self._send(_START)
            if out:
                await self._send({"type": "http.response.body", "body": out, "more_body": True})

        try:
            await self._call(streaming.call, pass_on)
        except _Gone:
            raise
        except Exception:
            _log_failure("stream_failed")
        if start.get("status") != 200:
            reply = Reply(start.get("status", 500), b"".join(refusal))
            await self._answer(self._dialect.failure(failure_of(reply), request))
            return
        out = relay.end()
        if relay.failure:
            await self._answer(self._dialect.failure(relay.failure, request))
            return
        if not told:
            await self._send(_START)
        await self._send({"type": "http.response.body", "body": out, "more_body": False})

    async def _answer(self, answer: Answer) -> None:
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            *((name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers),
        ]
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": answer.body, "more_body": False})


_START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", EVENT_STREAM.encode()), (b"cache-control", b"no-store")],
}

# What a call to the engine says anew.
_OURS = (b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"accept-encoding", b"expect")


def _log_failure(what: str) -> None:
    """Where it failed. What an exception says may hold a part of a request, which no log shall."""
    kind, _, trace = sys.exc_info()
    log.error("%s: %s\n%s", what, kind and kind.__name__, "".join(traceback.format_tb(trace)))
