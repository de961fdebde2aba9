"""Scale EGP and SGP: "Create Completion" of the clients `scale-egp` (v2), `scale-gp` (v4) and `scale-gp-beta` (v5).

v2 and v4 share their shapes; v5 is OpenAI's. None of the three takes a `[DONE]` in a stream.
"""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import unquote

from berth_apis import engine
from berth_apis.fields import EMULATES, IGNORES, PASSES, REFUSES, TRANSLATES, Field, Parameter, read
from berth_apis.http import (
    EVENT_STREAM,
    Answer,
    Call,
    Failure,
    Object,
    Operation,
    Refused,
    Request,
    Routes,
    Serving,
    Streaming,
    answer,
    event,
    refused,
    retry_after,
)

NAME = "ScaleEGP"

ACCOUNT_HEADER = "x-selected-account-id"
DEFAULT_TEMPERATURE = 0.2

_BODY = (
    Parameter("model", "a string", PASSES, "a served name; `vendor/name` too", required=True),
    Parameter("prompt", "a string", PASSES, "", required=True),
    Parameter("images", "a list", TRANSLATES, "one chat message with the prompt and these; a multimodal model only"),
    Parameter("model_parameters", "an object", TRANSLATES, "missing keys have the page's defaults"),
    Parameter("stream", "true or false", PASSES, "false when missing"),
    Parameter(
        "account_id",
        "a string",
        EMULATES,
        "before the header `x-selected-account-id`; counted at `/metrics` of the pod, as `berth_account_requests_total`"
        " and `berth_account_tokens_total`",
    ),
)

_MODEL_PARAMETERS = (
    Parameter("temperature", "a number", PASSES, "0.2 when missing; 0 is greedy", low=0, high=2),
    Parameter("max_tokens", "an integer", PASSES, "to the end of the context when missing", low=1),
    Parameter("stop_sequences", "a list of strings", TRANSLATES, "`stop`, more than four too"),
    Parameter("topK", "an integer", TRANSLATES, "`top_k`"),
    Parameter("topP", "a number", TRANSLATES, "`top_p`"),
    Parameter("frequency_penalty", "a number", PASSES, "", low=-2, high=2),
    Parameter("presence_penalty", "a number", PASSES, "", low=-2, high=2),
    Parameter("reasoning_effort", "a string", IGNORES, "a completion has no reasoning"),
)

_IMAGE = (
    Parameter(
        "image_url", "a string", PASSES, "a `data:` URL; others when the endpoint allows their host", required=True
    ),
    Parameter("detail", "a string", PASSES, "`auto` when missing"),
)

PARAMETERS = {"": _BODY, "model_parameters.": _MODEL_PARAMETERS, "images[].": _IMAGE}

ANSWER = (
    Field("completion.text", "the text; in a stream what is new"),
    Field("completion.finish_reason", "`stop` or `length`; in a stream on the last event"),
    Field("token_usage.prompt", "from the engine's usage; in a stream on the last event"),
    Field("token_usage.completion", "the same"),
    Field("token_usage.total", "the same"),
    Field("detail", "the text of every error"),
)

OPERATIONS = (
    ("POST v2/completions, v4/completions", TRANSLATES, "`completions.create`, also with images and as a stream"),
    ("POST v5/completions, v5/chat/completions", PASSES, "the engine's own, but for `vendor/` and the `[DONE]`"),
    ("GET user-info", EMULATES, "one account, for a v2 client that was given none"),
    ("GET v3/models, v3/models/{id}, v4/models, v5/models", EMULATES, "the served names"),
    ("everything else", REFUSES, "404"),
)

_RENAMED = {"stop_sequences": "stop", "topK": "top_k", "topP": "top_p"}
_PASSED = ("frequency_penalty", "presence_penalty", "max_tokens", *_RENAMED)


def below(path: str) -> str | None:
    """The path below the prefix."""
    return path[len("/egp") :] if path.startswith("/egp/") else None


def failure(failure: Failure, request: Request) -> Answer:
    """{"detail": text}; for a stream an event that fails to parse, as the v2 client looks at no status of a stream."""
    if _COMPLETIONS.fullmatch(request.path) and _wants_stream(request):
        return Answer(failure.status, _error_line(failure), EVENT_STREAM, retry_after(failure))
    return answer({"detail": failure.message}, failure.status, retry_after(failure))


def _wants_stream(request: Request) -> bool:
    try:
        return request.object().get("stream") is True
    except Refused:
        return False


def _error_line(failure: Failure) -> bytes:
    return f"data: error {failure.status}: {' '.join(failure.message.split())}\n\n".encode()


def _completions(request: Request, serving: Serving) -> Operation:
    values = read(_BODY, request.object())
    parameters = read(_MODEL_PARAMETERS, values.get("model_parameters", {}), "model_parameters.")
    account = values.get("account_id") or request.headers.get(ACCOUNT_HEADER, "")
    if serving.require_account and not account:
        raise refused(f"account_id is missing. This endpoint wants one, in the body or as header {ACCOUNT_HEADER}.")
    model = _served(values["model"], serving)
    temperature = parameters.get("temperature", DEFAULT_TEMPERATURE)
    body: Object = {"model": model, **engine.NEUTRAL, "temperature": temperature}
    body |= {_RENAMED.get(name, name): parameters[name] for name in _PASSED if name in parameters}
    if values.get("images"):
        path = engine.CHAT
        body["messages"] = [{"role": "user", "content": _content(values["prompt"], values["images"])}]
    else:
        path = engine.COMPLETIONS
        body["prompt"] = values["prompt"]
        if "max_tokens" not in body:  # of which the engine makes 16
            body["max_tokens"] = yield from engine.room(values["prompt"], model, serving.context_tokens(model))
    if values.get("stream"):
        return engine.streamed(path, body, _Events(serving, account))
    found = yield from engine.ask(path, body)
    usage = found["usage"]
    serving.count(account, usage["prompt_tokens"], usage["completion_tokens"])
    choice = found["choices"][0]
    return answer(_completion(engine.text_of(choice), choice["finish_reason"], usage))


def _served(name: str, serving: Serving) -> str:
    """A served name, for one with a vendor in front too. An unknown one is the engine's to refuse."""
    short = name.partition("/")[2]
    return short if serving.model(name) is None and serving.model(short) is not None else name


def _content(prompt: str, images: list[Any]) -> list[Object]:
    parts: list[Object] = [{"type": "text", "text": prompt}]
    for number, image in enumerate(images):
        if not isinstance(image, dict):
            raise refused(f"images[{number}] must be an object with an image_url.")
        values = read(_IMAGE, image, f"images[{number}].")
        url = {"url": values["image_url"], "detail": values.get("detail", "auto")}
        parts.append({"type": "image_url", "image_url": url})
    return parts


def _completion(text: str, finish_reason: str | None, usage: Object | None) -> Object:
    counts = usage and {
        "prompt": usage["prompt_tokens"],
        "completion": usage.get("completion_tokens", 0),
        "total": usage["total_tokens"],
    }
    return {"completion": {"text": text, "finish_reason": finish_reason}, "token_usage": counts}


class _Events:
    """The stream. Its last event has the finish reason and the counts, which the engine tells one after the other."""

    def __init__(self, serving: Serving, account: str) -> None:
        self._serving = serving
        self._account = account
        self._last: tuple[str, str] | None = None

    def chunk(self, chunk: Object) -> bytes:
        if not chunk["choices"]:
            usage, (text, reason) = chunk["usage"], self._last or ("", "stop")
            self._serving.count(self._account, usage["prompt_tokens"], usage.get("completion_tokens", 0))
            return event(_completion(text, reason, usage))
        choice = chunk["choices"][0]
        text, reason = engine.text_of(choice), choice.get("finish_reason")
        if reason is not None:
            self._last = (text, reason)
            return b""
        return event(_completion(text, None, None)) if text else b""

    def end(self) -> bytes:
        return b""

    def failure(self, failure: Failure) -> bytes:
        return b"event: error\n" + _error_line(failure)


def _open_ai(request: Request, serving: Serving) -> Operation:
    """v5: the engine's own API."""
    body = request.object()
    if isinstance(body.get("model"), str):
        body["model"] = _served(body["model"], serving)
    path = request.path.replace("/v5/", "/v1/", 1)
    if body.get("stream") is True:
        return Streaming(Call("POST", path, body), _Same())
    found = yield from engine.ask(path, body)
    return answer(found)


class _Same:
    """The engine's stream without its `[DONE]`."""

    def chunk(self, chunk: Object) -> bytes:
        return event(chunk)

    def end(self) -> bytes:
        return b""

    def failure(self, failure: Failure) -> bytes:
        # The client of v5 passes over events with a name: only what it cannot parse ends its stream with an exception.
        return _error_line(failure)


def _user_info(request: Request, serving: Serving) -> Answer:
    name = request.headers.get(ACCOUNT_HEADER) or "default"
    account = {"role": "admin", "account": {"id": name, "name": name}}
    return answer({"id": "berth", "email": "berth@example.invalid", "access_profiles": [account]})


def _models_v3(request: Request, serving: Serving) -> Answer:
    return answer([_model(model) for model in serving.models])


def _model_v3(request: Request, serving: Serving) -> Answer:
    name = unquote(request.path.removeprefix("/v3/models/"))
    model = serving.model(_served(name, serving))
    if model is None:
        raise refused(f"Model {name[:100]!r} is not served here. GET v3/models lists what is.", 404)
    return answer(_model(model))


def _models_v4(request: Request, serving: Serving) -> Answer:
    """One page with all; the client asks for the next until one is empty."""
    first = request.query.get("page", "1") in ("", "0", "1")
    items = [_model(model) for model in serving.models] if first else []
    counts = {"current_page": 1, "items_per_page": len(serving.models), "total_item_count": len(serving.models)}
    return answer({"items": items, **counts})


def _models_v5(request: Request, serving: Serving) -> Answer:
    items = [{"id": model["id"], "object": "model", "name": model["id"]} for model in serving.models]
    return answer({"items": items, "has_more": False, "total": len(items), "object": "list"})


def _model(model: Object) -> Object:
    return {
        "id": model["id"],
        "name": model["id"],
        "model_type": "COMPLETION",
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(model.get("created", 0))),
        "account_id": "default",
        "created_by_user_id": "berth",
        "request_schema": {},
        "response_schema": {},
    }


_COMPLETIONS = re.compile(r"/v[24]/completions")

ROUTES: Routes = (
    ("POST", _COMPLETIONS, _completions),
    ("POST", re.compile(r"/v5/(chat/)?completions"), _open_ai),
    ("GET", re.compile(r"/user-info"), _user_info),
    ("GET", re.compile(r"/v3/models"), _models_v3),
    ("GET", re.compile(r"/v3/models/.+"), _model_v3),
    ("GET", re.compile(r"/v4/models"), _models_v4),
    ("GET", re.compile(r"/v5/models"), _models_v5),
)
