"""What every dialect must know of vLLM's API: its errors, its finish reasons, its streams."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from berth_apis.http import Call, Failure, Object, Refused, Reply, Streaming, Translator

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"

NEUTRAL: Object = {"top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
"""Sampling without any of them. What a request leaves out, vLLM takes from the model's own generation_config.json."""

OVERLOADED_RETRY_SECONDS = 1
"""vLLM says 503 without a Retry-After when its queue is full; some clients wait only when they are told to."""

GREEDY_BELOW = 1e-5
"""vLLM takes a lower temperature for 0."""

MAX_EVENT_BYTES = 64 * 1024 * 1024

ABORTED = Failure(503, "The server stopped before the completion was finished. Try again.", OVERLOADED_RETRY_SECONDS)
CUT_OFF = Failure(502, "The engine ended its answer in the middle. Try again.")

DRAINING = Failure(503, "The server is stopping and takes no more requests. Try again.", OVERLOADED_RETRY_SECONDS)
DRAINING_MARK = "cannot schedule new futures after shutdown"
"""What vLLM says to new requests between SIGTERM and its end."""


def failure_of(reply: Reply) -> Failure:
    """The failure that an answer of vLLM tells."""
    return _failure(reply.status, _json(reply.body))


def _failure(status: int, body: Any) -> Failure:
    """vLLM's failures have three shapes: {"error": {…}}, {"error": "…"}, {"detail": …}."""
    error = body.get("error", body.get("detail")) if isinstance(body, dict) else None
    if isinstance(error, dict):
        message, code = str(error.get("message", "")), error.get("code")
        status = code if isinstance(code, int) else status
    else:
        message = error if isinstance(error, str) else ""
    status = status if 400 <= status <= 599 else 500
    if DRAINING_MARK in message:
        return DRAINING
    retry = OVERLOADED_RETRY_SECONDS if status in (429, 503) else None
    return Failure(status, message or f"The engine answered with status {status}.", retry)


def completion(reply: Reply) -> Object:
    """The engine's completion. Raises Refused with its failure, also for one that was aborted half way under 200."""
    body = decoded(reply)
    if not isinstance(body, dict):
        raise Refused(CUT_OFF)
    failure = aborted(body)
    if failure:
        raise Refused(failure)
    return body


def decoded(reply: Reply) -> Any:
    """The JSON of an answer. Raises Refused unless its status is 200."""
    if reply.status != 200:
        raise Refused(failure_of(reply))
    return _json(reply.body)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def text_of(choice: Object) -> str:
    """Of a completion or a chat, whole or a chunk."""
    text = choice.get("text")
    if text is None:
        text = (choice.get("message") or choice.get("delta") or {}).get("content")
    return text or ""


def aborted(body: Object) -> Failure | None:
    """The failure that vLLM calls a finish reason: on SIGTERM it cuts answers short under 200."""
    for choice in body.get("choices") or ():
        if choice.get("finish_reason") == "abort":
            return ABORTED
        if choice.get("finish_reason") == "error":
            return Failure(500, "The engine failed while it generated. Try again.")
    return None


def ask(path: str, body: Object) -> Generator[Call, Reply, Object]:
    """A whole completion; to be used with `yield from`. Raises as `completion` does."""
    reply = yield Call("POST", path, body)
    return completion(reply)


def tokenized(text: str, model: str, special: bool = True) -> Generator[Call, Reply, list[int]]:
    """The token ids of a text. special: with those that the tokenizer puts around it."""
    reply = yield Call("POST", "/tokenize", {"model": model, "prompt": text, "add_special_tokens": special})
    found: list[int] = decoded(reply)["tokens"]
    return found


def room(prompt: str | list[int], model: str, context_tokens: int) -> Generator[Call, Reply, int]:
    """How many tokens a completion may have at most. vLLM 0.26 refuses a larger `max_tokens`, later ones lower it."""
    tokens = prompt if isinstance(prompt, list) else (yield from tokenized(prompt, model))
    return max(context_tokens - len(tokens), 1)  # a prompt that is too long is the engine's to refuse


def streamed(path: str, body: Object, translator: Translator, *, counts: bool = False) -> Streaming:
    """An answer that streams. counts: every event carries the counts so far, not only the last."""
    options = {"include_usage": True, **({"continuous_usage_stats": True} if counts else {})}
    return Streaming(Call("POST", path, {**body, "stream": True, "stream_options": options}), translator)


class Relay:
    """Bytes of a streamed answer of the engine in, bytes for the client out.

    begun: an event has come, so the client may be told 200.  failure: the stream failed before that: it may be told
    a status.
    """

    def __init__(self, translator: Translator) -> None:
        self._translator = translator
        self._rest = b""
        self.begun = False
        self.failure: Failure | None = None
        self._over = False

    def feed(self, data: bytes) -> bytes:
        """Take in what the engine sent, however it is cut."""
        if self._over:
            return b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            return self._fail(CUT_OFF)
        return b"".join([self._line(line) for line in lines])

    def end(self) -> bytes:
        """The engine's answer has ended. Without its [DONE] it was cut off."""
        return b"" if self._over else self._fail(CUT_OFF)

    def _line(self, line: bytes) -> bytes:
        if self._over or not line.startswith(b"data:"):
            return b""
        data = line[5:].strip()
        if data == b"[DONE]":
            if not self.begun:
                return self._fail(CUT_OFF)
            self._over = True
            return self._translator.end()
        event = _json(data)
        if not isinstance(event, dict):
            return self._fail(CUT_OFF)
        if "error" in event:
            return self._fail(_failure(500, event))
        if not isinstance(event.get("choices"), list):
            return self._fail(CUT_OFF)
        failure = aborted(event)
        if failure:
            return self._fail(failure)
        self.begun = True
        return self._translator.chunk(event)

    def _fail(self, failure: Failure) -> bytes:
        self._over = True
        if self.begun:
            return self._translator.failure(failure)
        self.failure = failure
        return b""
