"""Aleph Alpha: the calls of `aleph-alpha-client` for completions, tokens, evaluations and chats.

The client reads streams strictly and sends a call again after a 5xx or 429, eight times; what will not change by
itself is therefore a 4xx.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from berth_apis import aleph_alpha_complete as completions
from berth_apis import aleph_alpha_evaluate as evaluation
from berth_apis import aleph_alpha_prompt as prompts
from berth_apis import engine
from berth_apis.aleph_alpha_answer import ANSWER as COMPLETION_ANSWER
from berth_apis.aleph_alpha_answer import failure_line
from berth_apis.fields import EMULATES, IGNORES, PASSES, REFUSES, TRANSLATES, Field, Parameter, read
from berth_apis.http import (
    Answer,
    Call,
    Failure,
    Object,
    Operation,
    Request,
    Routes,
    Serving,
    Streaming,
    answer,
    event,
    refused,
    retry_after,
)

NAME = "AlephAlpha"

VERSION = "1.19.0"
"""Of the vendor's API; the client wants this or a later 1.x."""

_TOKENIZE = (
    Parameter("model", "a string", PASSES, "a served name", required=True),
    Parameter("prompt", "a string", PASSES, "", required=True),
    Parameter("tokens", "true or false", TRANSLATES, "`tokens` in the answer, spelled as in the vocabulary"),
    Parameter("token_ids", "true or false", TRANSLATES, "`token_ids` in the answer, none for the beginning of a text"),
    Parameter("hosting", "a string", IGNORES, "there is one place"),
    Parameter("tags", "a list", IGNORES, "the vendor's own"),
)

_DETOKENIZE = (
    Parameter("model", "a string", PASSES, "a served name", required=True),
    Parameter("token_ids", "a list of token ids", TRANSLATES, "`tokens`", required=True),
    Parameter("hosting", "a string", IGNORES, "there is one place"),
    Parameter("tags", "a list", IGNORES, "the vendor's own"),
)

_CHAT = (
    Parameter("maximum_tokens", "an integer", TRANSLATES, "`max_tokens`"),
    Parameter("top_p", "a number", TRANSLATES, "0 is off: 1"),
    Parameter("steering_concepts", "a list of strings", REFUSES, "400 unless empty"),
    Parameter("everything else", "anything", PASSES, "as in OpenAI's API"),
)

PARAMETERS = {
    "": completions.PARAMETERS,
    **prompts.PARAMETERS,
    "evaluate: ": evaluation.PARAMETERS,
    "tokenize: ": _TOKENIZE,
    "detokenize: ": _DETOKENIZE,
    "chat/completions: ": _CHAT,
}

ANSWER = (
    *COMPLETION_ANSWER,
    *(Field(f"evaluate: {each.name}", each.how) for each in evaluation.ANSWER),
    Field("tokenize: tokens", "when asked for"),
    Field("tokenize: token_ids", "when asked for"),
    Field("detokenize: result", "the text, special tokens included"),
    Field("models_available: []", "`name`, `max_context_size`, `maximum_completion_tokens`, `image_support`, …"),
    Field("error", "the text of every error"),
    Field("code", "of every error: `TASK_VALIDATION`, `UNKNOWN_MODEL`, `MISSING_CAPABILITY`, `QUEUE_FULL`, …"),
)

OPERATIONS = (
    ("POST complete", TRANSLATES, "`complete`, `complete_with_streaming`"),
    ("POST evaluate", EMULATES, "`evaluate`, from the log probabilities of an echo"),
    ("POST tokenize, detokenize", TRANSLATES, "`tokenize`, `detokenize`"),
    ("GET models/{model}/tokenizer", EMULATES, "`tokenizer`: the model's `tokenizer.json`"),
    ("GET models_available", EMULATES, "`models`: the served names"),
    ("GET version", EMULATES, f"`get_version`, `validate_version`: {VERSION}"),
    ("POST chat/completions", TRANSLATES, "`chat`, `chat_with_streaming`: the engine's own, with `maximum_tokens`"),
    ("POST steering_concepts", REFUSES, "400"),
    ("POST embed, explain and the like", REFUSES, "400"),
    ("everything else", REFUSES, "404"),
)

_CODES = {
    401: "UNAUTHORIZED",
    404: "UNKNOWN_MODEL",
    408: "TIMEOUT",
    429: "TOO_MANY_TASKS",
    503: "QUEUE_FULL",
}


def below(path: str) -> str | None:
    """The path below the prefix, with or without the `v1` of the vendor's own address."""
    found = re.fullmatch(r"/aleph-alpha(?:/v1)?(/.*)?", path, re.DOTALL)
    return (found[1] or "/") if found else None


def failure(failure: Failure, request: Request) -> Answer:
    """{"error": text, "code": word}, of which the client makes an exception by the status."""
    code = failure.code or _CODES.get(failure.status) or ("INTERNAL" if failure.status >= 500 else "TASK_VALIDATION")
    return answer({"error": failure.message, "code": code}, failure.status, retry_after(failure))


def _not_served(request: Request, serving: Serving) -> Answer:
    raise refused(
        f"{request.path[1:100]}: this server's models complete texts. It serves complete, chat/completions, evaluate,"
        " tokenize and detokenize.",
        code="MISSING_CAPABILITY",
    )


def _steering_concepts(request: Request, serving: Serving) -> Answer:
    raise refused(completions.NO_STEERING, code="MISSING_CAPABILITY")


def _version(request: Request, serving: Serving) -> Answer:
    return Answer(200, VERSION.encode(), "text/plain; charset=utf-8")


def _models(request: Request, serving: Serving) -> Answer:
    return answer([_model(model["id"], serving) for model in serving.models])


def _model(name: str, serving: Serving) -> Object:
    context_tokens = serving.context_tokens(name)
    return {
        "name": name,
        "description": "",
        "max_context_size": context_tokens,
        "maximum_completion_tokens": context_tokens,
        "hostings": [],
        "image_support": serving.images,
        "qa_support": False,
        "summarization_support": False,
        "embedding_types": [],
        "aligned": False,
    }


def _tokenize(request: Request, serving: Serving) -> Operation:
    values = read(_TOKENIZE, request.object())
    body = {
        "model": values["model"],
        "prompt": values["prompt"],
        "add_special_tokens": False,
        "return_token_strs": True,
    }
    found = engine.decoded((yield Call("POST", "/tokenize", body)))
    told = {"tokens": found["token_strs"], "token_ids": found["tokens"]}
    return answer({name: value for name, value in told.items() if values.get(name)})


def _detokenize(request: Request, serving: Serving) -> Operation:
    values = read(_DETOKENIZE, request.object())
    reply = yield Call("POST", "/detokenize", {"model": values["model"], "tokens": values["token_ids"]})
    return answer({"result": engine.decoded(reply)["prompt"]})


def _tokenizer(request: Request, serving: Serving) -> Operation:
    serving.context_tokens(unquote(request.path.removeprefix("/models/").removesuffix("/tokenizer")))
    reply = yield Call("GET", "/berth/tokenizer")
    engine.decoded(reply)
    return Answer(200, reply.body)


def _chat(request: Request, serving: Serving) -> Operation:
    body = request.object()
    if body.pop("steering_concepts", None):
        raise refused(completions.NO_STEERING, code="MISSING_CAPABILITY")
    if "maximum_tokens" in body:
        body["max_tokens"] = body.pop("maximum_tokens")
    if body.get("top_p") == 0:
        body["top_p"] = 1
    if body.get("stream") is True:
        return Streaming(Call("POST", engine.CHAT, body), _Chat())
    found = yield from engine.ask(engine.CHAT, body)
    return answer(found)


class _Chat:
    """A chat's stream. Of an event with a finish reason the client reads nothing else, so that is told by itself."""

    def chunk(self, chunk: Object) -> bytes:
        out = b""
        for choice in chunk["choices"]:
            delta = choice.get("delta") or {}
            delta.setdefault("content", "")  # the client wants it
            reason: Any = choice.get("finish_reason")
            if reason is not None and (delta["content"] or delta.get("tool_calls")):
                first = {**choice, "finish_reason": None}
                out += event({**chunk, "choices": [first]})
                choice.update(delta={}, logprobs=None)
        return out + event(chunk)

    def end(self) -> bytes:
        return b"data: [DONE]\n\n"

    def failure(self, failure: Failure) -> bytes:
        return failure_line(failure)


_ELSEWHERE = "embed|embeddings|semantic_embed|batch_semantic_embed|instructable_embed|explain|rerank|translate"

ROUTES: Routes = (
    ("POST", re.compile(r"/complete"), completions.complete),
    ("POST", re.compile(r"/evaluate"), evaluation.evaluate),
    ("POST", re.compile(r"/tokenize"), _tokenize),
    ("POST", re.compile(r"/detokenize"), _detokenize),
    ("GET", re.compile(r"/models/.+/tokenizer", re.DOTALL), _tokenizer),
    ("GET", re.compile(r"/models_available"), _models),
    ("GET", re.compile(r"/version"), _version),
    ("POST", re.compile(r"/chat/completions"), _chat),
    ("POST", re.compile(r"/steering_concepts"), _steering_concepts),
    ("POST", re.compile(f"/({_ELSEWHERE})"), _not_served),
)
