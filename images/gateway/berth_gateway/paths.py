"""What a request asks for: the call of an API that its path is, and the model that it names.

What passes is listed here; whatever else an engine answers is not reached through the URL that all endpoints share.
Paths are taken as they were sent: what is percent-encoded in one is no call of any API.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

import orjson

import berth_apis
from berth_apis import llm_engine, open_ai
from berth_apis.http import Refused, refused
from berth_gateway.refusing import ALL

MODEL = "MODEL"
"""A call that a model's engine answers."""
LIST = "LIST"
"""A call that the gateway answers itself."""
HEALTH = "HEALTH"
"""Whether somebody is there."""
NONE = "NONE"
"""No call."""

BODY, FORM, QUERY, PATH = "BODY", "FORM", "QUERY", "PATH"
"""Where a call names its model."""

MOST_READ_BYTES = 64 * 1024
"""Of a refused request's body so much is read for the shape of its error."""

_STREAM = re.compile(rb'"stream"\s*:\s*true')


def for_refusal(body: bytes) -> bytes:
    """What the shape of an error needs of a body: of a long one no more than whether it asks for a stream."""
    if len(body) <= MOST_READ_BYTES:
        return body
    return b'{"stream":true}' if _STREAM.search(body) else b""


_QUERY_NAME = "model_endpoint_name"

_OPEN_AI = {
    **dict.fromkeys(
        (
            "/v1/completions",
            "/v1/chat/completions",
            "/v1/responses",
            "/v1/messages",
            "/v1/messages/count_tokens",
            "/v1/embeddings",
            "/v1/rerank",
            "/v1/score",
            "/v2/embed",
            "/v2/rerank",
            "/tokenize",
            "/detokenize",
            "/classify",
            "/pooling",
            "/rerank",
            "/score",
        ),
        BODY,
    ),
    "/v1/audio/transcriptions": FORM,
    "/v1/audio/translations": FORM,
}
"""Of vLLM's own calls, all POST, those that say which model they are for."""

_OPEN_AI_MODELS = re.compile(r"/v1/models(/.+)?")


class Route(NamedTuple):
    """A call. dialect: the API.  rest: the path below its prefix.  kind: as above.  where: of MODEL, its name."""

    dialect: ModuleType
    rest: str
    kind: str
    where: str = ""


class Named(NamedTuple):
    """A request that names a model. body: what may be sent on, in which nobody can see another model than this one.

    stream: the client wants events.  content: the body's object, where it had to be read.  at: of a form, where in the
    body the name begins and ends.
    """

    model: str
    stream: bool
    content: dict[str, Any] | None
    body: bytes
    at: tuple[int, int] = (0, 0)


@lru_cache(maxsize=1024)
def route(method: str, path: str) -> Route:
    """The call. path: without the query, as it was sent."""
    dialect, rest = berth_apis.claimant(path, ALL)
    if dialect is open_ai:
        return _open_ai(method, rest)
    for wanted, pattern, handler in dialect.ROUTES:
        if wanted in (method, "*") and pattern.fullmatch(rest):
            # By its type a handler that gives an answer asks no engine.
            if handler.__annotations__["return"] == "Answer":
                return Route(dialect, rest, LIST)
            where = QUERY if dialect is llm_engine else PATH if method == "GET" else BODY
            return Route(dialect, rest, MODEL, where)
    return Route(dialect, rest, NONE)


def _open_ai(method: str, path: str) -> Route:
    if method == "POST" and path in _OPEN_AI:
        return Route(open_ai, path, MODEL, _OPEN_AI[path])
    if method == "GET" and _OPEN_AI_MODELS.fullmatch(path):
        return Route(open_ai, path, LIST)
    if method in ("GET", "HEAD") and path == "/health":
        return Route(open_ai, path, HEALTH)
    return Route(open_ai, path, NONE)


def query_of(query: str) -> dict[str, str]:
    """Its values by name."""
    return dict(parse_qsl(query, keep_blank_values=True))


def model_of(route: Route, query: str, content_type: bytes, body: bytes) -> Named | None:
    """The model that a MODEL call names; None when it names none. Raises Refused.

    content_type: the first of the request, which is the one that the engine reads.
    """
    if route.where == BODY:
        return _in_body(body)
    if route.where == QUERY:
        return _in_query(route, query, body)
    if route.where == FORM:
        return _in_form(content_type, body)
    name = unquote(route.rest.removeprefix("/models/").removesuffix("/tokenizer"))
    return Named(name, False, None, body)


def _in_body(body: bytes) -> Named | None:
    try:
        content = orjson.loads(body)
    except ValueError as error:
        raise refused(f"The body is not JSON: {error}.") from error
    if type(content) is not dict:
        raise refused(f"The body must be a JSON object, not {type(content).__name__}.")
    model = content.get("model")
    if type(model) is not str:
        if model is None:
            return None
        raise refused("model must be a string.")
    # Of two keys of the same name parsers take the one or the other. Unless this one is the only one, whoever reads the
    # body after us gets what was read here.
    if body.count(b'"model"') != 1 or (b"\\" in body and b"\\u006" in body):
        body = _dumped(content)
    return Named(model, content.get("stream") is True, content, body)


def _dumped(content: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(content)
    except TypeError as error:
        raise refused(f"The body cannot be read: {error}.") from error


_PLAIN_QUERY = re.compile(_QUERY_NAME + r"=([A-Za-z0-9._:/@-]+)")


def _in_query(route: Route, query: str, body: bytes) -> Named | None:
    plain = _PLAIN_QUERY.fullmatch(query)
    names = [plain[1]] if plain else [value for key, value in _pairs(query) if key == _QUERY_NAME]
    if len(names) > 1:
        raise refused(f"{_QUERY_NAME} is in the query {len(names)} times. Give it once.")
    return Named(names[0], route.rest.endswith("-stream"), None, body) if names and names[0] else None


def _pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


_FORM = re.compile(rb'multipart/form-data *; *boundary=(?:"([^"\\\r\n]{1,70})"|([A-Za-z0-9\'()+_,./:=?-]{1,70}))', re.I)
_FIELD = re.compile(
    rb'\r\nContent-Disposition: *form-data; *name="([^"\\%\r\n]*)"(?:; *filename="[^"\r\n]*")?(?=\r\n)', re.I
)


def _in_form(content_type: bytes, body: bytes) -> Named | None:
    """Of a form in multipart/form-data. Stricter than the engine's parser, so that both see the same fields."""
    declared = _FORM.fullmatch(content_type.strip())
    if declared is None:
        raise refused("The body must be multipart/form-data with a boundary, which Content-Type tells.")
    found: list[tuple[int, int]] = []
    stream = False
    for name, start, end in _fields(b"\r\n--" + (declared[1] or declared[2]), body):
        if name == b"model":
            found.append((start, end))
        elif name == b"stream":
            stream = body[start:end].strip().lower() in (b"true", b"1")
    if len(found) > 1:
        raise refused(f"The form has model {len(found)} times. Give it once.")
    if not found:
        return None
    ((start, end),) = found
    return Named(body[start:end].decode("utf-8", "replace"), stream, None, body, (start, end))


_BROKEN_FORM = 'The form cannot be read: each part needs one Content-Disposition: form-data; name="…".'


def _fields(delimiter: bytes, body: bytes) -> list[tuple[bytes, int, int]]:
    """Name, beginning and end of each part. Raises Refused for whatever might be read in another way."""
    fields: list[tuple[bytes, int, int]] = []
    if not body.startswith(delimiter[2:]):
        raise refused(_BROKEN_FORM)
    at = len(delimiter) - 2
    while body[at : at + 2] != b"--":
        after, head_end = body.find(delimiter, at), body.find(b"\r\n\r\n", at)
        if body[at : at + 2] != b"\r\n" or not at < head_end <= after - 4 or len(fields) == _MOST_FIELDS:
            raise refused(_BROKEN_FORM)
        head = body[at : head_end + 2]
        names = _FIELD.findall(head)
        if len(names) != 1 or head.lower().count(b"content-disposition") != 1:
            raise refused(_BROKEN_FORM)
        fields.append((names[0], head_end + 4, after))
        at = after + len(delimiter)
    if body[at + 2 :] not in (b"", b"\r\n"):
        raise refused(_BROKEN_FORM)
    return fields


_MOST_FIELDS = 1000


def forwarded(route: Route, named: Named, target: str, name: str) -> tuple[str, bytes]:
    """Target and body of the request with this name of the model, under which its pods know it."""
    if route.where == BODY:
        return target, _dumped({**(named.content or {}), "model": name})
    if route.where == FORM:
        start, end = named.at
        return target, named.body[:start] + name.encode() + named.body[end:]
    path, _, query = target.partition("?")
    if route.where == QUERY:
        return f"{path}?{urlencode({**query_of(query), _QUERY_NAME: name})}", named.body
    prefix = path.removesuffix(route.rest)
    return f"{prefix}/models/{quote(name, safe='')}/tokenizer" + (f"?{query}" if query else ""), named.body


_LISTS = {
    "OpenAI": "/v1/models",
    "LLMEngine": "/llm-engine/v1/llm/model-endpoints",
    "ScaleEGP": "/egp/v4/models",
    "AlephAlpha": "/aleph-alpha/models_available",
}


def unknown_model(route: Route, name: str) -> Refused:
    """For a model that is not there, and in the same words for one that the caller may not use."""
    words = f"There is no model {name[:100]!r} for you here. GET {_LISTS[route.dialect.NAME]} lists those there are."
    return refused(words, 404, "UNKNOWN_MODEL")
