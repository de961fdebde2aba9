"""What a request asks for, and that nobody behind the gateway can read another model in it than the gateway did.

Input: targets, queries and bodies, among them such as parsers disagree on. Output: the model, or a refusal.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import berth_apis
from berth_apis.http import Refused
from berth_gateway import paths
from berth_gateway.paths import HEALTH, LIST, MODEL, NONE, Named, Route

CHAT = paths.route("POST", "/v1/chat/completions")
SYNC = paths.route("POST", "/llm-engine/v1/llm/completions-sync")
AUDIO = paths.route("POST", "/v1/audio/transcriptions")


# Calls.


@pytest.mark.parametrize(
    ("method", "path", "api", "kind"),
    [
        ("POST", "/v1/completions", "OpenAI", MODEL),
        ("POST", "/v1/chat/completions", "OpenAI", MODEL),
        ("POST", "/v1/responses", "OpenAI", MODEL),
        ("POST", "/v1/messages", "OpenAI", MODEL),
        ("POST", "/v1/embeddings", "OpenAI", MODEL),
        ("POST", "/v1/audio/transcriptions", "OpenAI", MODEL),
        ("POST", "/tokenize", "OpenAI", MODEL),
        ("GET", "/v1/models", "OpenAI", LIST),
        ("GET", "/v1/models/llama", "OpenAI", LIST),
        ("GET", "/v1/models/a/llama", "OpenAI", LIST),
        ("GET", "/health", "OpenAI", HEALTH),
        ("POST", "/llm-engine/v1/llm/completions-sync", "LLMEngine", MODEL),
        ("POST", "/llm-engine/v1/llm/completions-stream", "LLMEngine", MODEL),
        ("POST", "/v1/llm/completions-sync", "LLMEngine", MODEL),
        ("GET", "/v1/llm/model-endpoints", "LLMEngine", LIST),
        ("GET", "/v1/llm/model-endpoints/a/llama", "LLMEngine", LIST),
        ("DELETE", "/v1/llm/model-endpoints/llama", "LLMEngine", LIST),
        ("POST", "/v2/batch-completions", "LLMEngine", LIST),
        ("POST", "/egp/v2/completions", "ScaleEGP", MODEL),
        ("POST", "/egp/v4/completions", "ScaleEGP", MODEL),
        ("POST", "/egp/v5/completions", "ScaleEGP", MODEL),
        ("POST", "/egp/v5/chat/completions", "ScaleEGP", MODEL),
        ("GET", "/egp/user-info", "ScaleEGP", LIST),
        ("GET", "/egp/v3/models", "ScaleEGP", LIST),
        ("GET", "/egp/v3/models/llama", "ScaleEGP", LIST),
        ("GET", "/egp/v4/models", "ScaleEGP", LIST),
        ("GET", "/egp/v5/models", "ScaleEGP", LIST),
        ("POST", "/egp/v4/models/llama/completions", "ScaleEGP", NONE),
        ("POST", "/aleph-alpha/complete", "AlephAlpha", MODEL),
        ("POST", "/aleph-alpha/v1/complete", "AlephAlpha", MODEL),
        ("POST", "/aleph-alpha/evaluate", "AlephAlpha", MODEL),
        ("POST", "/aleph-alpha/tokenize", "AlephAlpha", MODEL),
        ("POST", "/aleph-alpha/detokenize", "AlephAlpha", MODEL),
        ("POST", "/aleph-alpha/chat/completions", "AlephAlpha", MODEL),
        ("GET", "/aleph-alpha/models/llama/tokenizer", "AlephAlpha", MODEL),
        ("GET", "/aleph-alpha/models_available", "AlephAlpha", LIST),
        ("GET", "/aleph-alpha/version", "AlephAlpha", LIST),
        ("POST", "/aleph-alpha/embed", "AlephAlpha", LIST),
        ("POST", "/aleph-alpha/steering_concepts", "AlephAlpha", LIST),
    ],
)
def test_the_call_of_a_path(method: str, path: str, api: str, kind: str) -> None:
    found = paths.route(method, path)
    assert (found.dialect.NAME, found.kind) == (api, kind)
    assert bool(found.where) is (kind == MODEL)
    assert path.endswith(found.rest)


def test_each_handler_says_whether_it_asks_the_engine() -> None:
    told = {
        handler.__annotations__["return"]
        for dialect in berth_apis.DIALECTS
        for _, _, handler in getattr(dialect, "ROUTES", ())
    }
    assert told == {"Answer", "Operation", "Streaming"}


def test_where_a_call_names_its_model() -> None:
    def where(method: str, path: str) -> str:
        return paths.route(method, path).where

    assert where("POST", "/egp/v2/completions") == where("POST", "/aleph-alpha/complete") == paths.BODY
    assert where("POST", "/v1/audio/translations") == paths.FORM
    assert where("POST", "/v1/llm/completions-sync") == where("POST", "/v1/llm/completions-stream") == paths.QUERY
    assert where("GET", "/aleph-alpha/models/x/tokenizer") == paths.PATH


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "*",
        "/metrics",
        "/load",
        "/version",
        "/ping",
        "/invocations",
        "/sleep",
        "/wake_up",
        "/is_sleeping",
        "/server_info",
        "/reset_prefix_cache",
        "/collective_rpc",
        "/start_profile",
        "/shutdown_weight_transfer_engine",
        "/update_weights",
        "/scale_elastic_ep",
        "/fault_tolerance/apply",
        "/berth/info",
        "/berth/tokenizer",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/cancel",
        "/v1/realtime",
        "/v1/chat/completions/batch",
        "/inference/v1/generate",
        "/docs",
        "/openapi.json",
        # Which are not what they look like.
        "/v1/completions/",
        "//v1/completions",
        "/v1//completions",
        "/v1/./completions",
        "/x/../v1/completions",
        "/v1/completions;x=y",
        "/v1/completions%20",
        "/v1/%63ompletions",
        "/%76%31/completions",
        "/v1%2fcompletions",
        "/V1/completions",
        "/v1/completions\n",
        "/v1/completions\0",
        "/egp%2fv2/completions",
        "/egp/v2/%63ompletions",
        "/egp/v2/completions/",
        "/egp/../metrics",
        "/egp/",
        "/aleph-alpha",
        "/aleph-alpha/../metrics",
        "/aleph-alpha/v1/v1/complete",
        "/aleph-alpha/complete\n",
        "/llm-engine/v1/completions",
        "/llm-engine/../metrics",
        "/v1/llm/completions-sync/x",
        "/v1/llm/../completions",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_whatever_else_engines_answer_is_not_reached(method: str, path: str) -> None:
    assert paths.route(method, path).kind == NONE


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "post", "OPTIONS", "DELETE", "QUERY"])
def test_a_completion_is_a_post(method: str) -> None:
    for path in ("/v1/completions", "/egp/v2/completions", "/aleph-alpha/complete", "/v1/llm/completions-sync"):
        assert paths.route(method, path).kind == NONE


@given(st.text(st.sampled_from("/v1egpcomletins.%2f-_;?#\\ "), max_size=30), st.sampled_from(["GET", "POST"]))
def test_no_path_leads_to_an_engine_but_those_that_are_listed(path: str, method: str) -> None:
    found = paths.route(method, path)
    if found.kind == MODEL and found.dialect.NAME == "OpenAI":
        assert path in paths._OPEN_AI
    assert found.kind in (MODEL, LIST, HEALTH, NONE)


# Models in JSON.


def read(body: bytes, route: Route = CHAT, query: str = "", content_type: bytes = b"application/json") -> Named | None:
    """What a request names."""
    return paths.model_of(route, query, content_type, body)


def test_the_model_and_the_wish_for_a_stream_are_read_and_the_body_stays_as_it_came() -> None:
    body = b'{ "model" : "a/llama", "stream":true, "prompt":"\\u00e4 \\"model\\": x", "n": 1.0 }'
    found = read(body)
    assert found is not None
    assert (found.model, found.stream) == ("a/llama", True)
    assert found.body is body
    assert found.content == json.loads(body)


@pytest.mark.parametrize("stream", ["false", "null", "1", '"true"', "[]"])
def test_only_true_is_a_wish_for_a_stream(stream: str) -> None:
    found = read(b'{"model":"m","stream":%s}' % stream.encode())
    assert found is not None
    assert found.stream is False


@pytest.mark.parametrize(
    "body", [b"{}", b'{"model":null}', b'{"Model":"m"}', b'{"x":{"model":"m"}}', b'{"model ":"m"}']
)
def test_a_request_without_a_model_names_none(body: bytes) -> None:
    assert read(body) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"model=m", "not JSON"),
        (b'{"model":"m"}{"model":"x"}', "not JSON"),
        (b'{"model":"m"}\0', "not JSON"),
        (b"\xef\xbb\xbf" + b'{"model":"m"}', "not JSON"),
        ('{"model":"m"}'.encode("utf-16"), "not JSON"),
        ('{"model":"m"}'.encode("utf-16-le"), "not JSON"),
        ('{"model":"m"}'.encode("utf-32"), "not JSON"),
        (b'{"model":"m","x":NaN}', "not JSON"),
        (b'{"model":"m","x":"\xff"}', "not JSON"),
        (b'{"model":"m","x":"\\ud800"}', "not JSON"),
        (b"{'model':'m'}", "not JSON"),
        (b'{"model":"m",}', "not JSON"),
        (b'/**/{"model":"m"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        (b'["model","m"]', "must be a JSON object, not list"),
        (b'"m"', "must be a JSON object, not str"),
        (b'{"model":["m"]}', "model must be a string"),
        (b'{"model":{"m":1}}', "model must be a string"),
        (b'{"model":1}', "model must be a string"),
        (b'{"model":true}', "model must be a string"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(Refused, match=words) as raised:
        read(body)
    assert raised.value.failure.status == 400


def test_a_refusal_has_nothing_of_the_body() -> None:
    with pytest.raises(Refused) as raised:
        read(b'{"prompt":"my secret", secret}')
    assert "secret" not in raised.value.failure.message


KEYS = [
    b'"model"',
    b'"m\\u006fdel"',
    b'"\\u006D\\u006f\\u0064\\u0065\\u006C"',
    b'"\\u006dodel"',
    b'"mode\\u006c"',
    b'"x"',
]
SPACE = st.sampled_from([b"", b" ", b"\n\t"])
STRINGS = st.sampled_from(
    [
        b'"mine"',
        b'"theirs"',
        b'"model"',
        b'"\\u006dodel"',
        b'"\\"model\\":"',
        b'"\\\\u006d"',
        b'"x\\\\"',
        b'"\\u0022model"',
    ]
)
VALUES = st.recursive(
    STRINGS,
    lambda inner: st.lists(st.tuples(st.sampled_from(KEYS), inner), max_size=3).map(
        lambda pairs: b"{" + b",".join(key + b":" + value for key, value in pairs) + b"}"
    ),
    max_leaves=6,
)


@st.composite
def ambiguous(draw: st.DrawFn) -> bytes:
    """An object in which model may be spelled in many ways and be there more than once."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=4))
    return b"{" + b",".join(key + draw(SPACE) + b":" + draw(SPACE) + value for key, value in pairs) + b"}"


def first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, as parsers read it that take the first of equal keys."""
    return dict(reversed(pairs))


@settings(max_examples=500)
@given(ambiguous())
@example(b'{"model":"mine","model":"theirs"}')
@example(b'{"m\\u006fdel":"theirs","model":"mine"}')
@example(b'{"model":"mine","m\\u006fdel":"theirs"}')
@example(b'{"model":"x\\\\","mode\\u006C":"theirs"}')
def test_whoever_reads_what_is_sent_on_finds_the_model_that_was_judged(body: bytes) -> None:
    try:
        found = read(body)
    except Refused:
        return
    last = json.loads(body).get("model")
    if found is None:
        assert last is None
        return
    assert found.model == last
    assert json.loads(found.body)["model"] == found.model
    assert json.loads(found.body, object_pairs_hook=first_wins)["model"] == found.model
    assert json.loads(found.body) == json.loads(body) == found.content


def test_a_body_that_is_nested_too_deep_to_be_written_anew_is_refused() -> None:
    body = b'{"model":"m","model":"m","x":' + b"[" * 500 + b"]" * 500 + b"}"
    with pytest.raises(Refused, match="cannot be read"):
        read(body)


# Models in the query.


@pytest.mark.parametrize(
    ("query", "model"),
    [
        ("model_endpoint_name=llama", "llama"),
        ("model_endpoint_name=a/llama", "a/llama"),
        ("model_endpoint_name=a%2Fllama", "a/llama"),
        ("model_endpoint_name=my%20model+x", "my model x"),
        ("x=y&model_endpoint_name=llama&z", "llama"),
        ("model%5Fendpoint%5Fname=llama", "llama"),
        ("model_endpoint_name=llama;model_endpoint_name=x", "llama;model_endpoint_name=x"),
        ("model_endpoint_name=a=b", "a=b"),
        ("model_endpoint_name=%ff", "\ufffd"),
        ("model_endpoint_name=a%252Fllama", "a%2Fllama"),
        ("model_endpoint_name=", None),
        ("model_endpoint_name", None),
        ("", None),
        ("model=llama", None),
    ],
)
def test_the_model_in_the_query(query: str, model: str | None) -> None:
    found = read(b'{"model":"theirs","stream":true}', SYNC, query)
    assert (found and found.model) == model
    assert found is None or not found.stream


@pytest.mark.parametrize(
    "query",
    [
        "model_endpoint_name=mine&model_endpoint_name=theirs",
        "model_endpoint_name=mine&model%5fendpoint_name=theirs",
        "model_endpoint_name=mine&x=1&model_endpoint_name=",
        "model_endpoint_name=mine&model_endpoint_name=mine",
    ],
)
def test_a_query_that_names_two_models_is_refused(query: str) -> None:
    with pytest.raises(Refused, match="in the query 2 times"):
        read(b"{}", SYNC, query)


@given(
    st.text(st.sampled_from("model_endpoint_name=&;%2Ff5+/\\\u00e4"), max_size=40).map("model_endpoint_name=".__add__)
)
def test_the_pod_reads_the_same_model_in_the_query(query: str) -> None:
    try:
        found = read(b"{}", SYNC, query)
    except Refused:
        return
    # As the server in the pod reads it.
    theirs = dict(parse_qsl(query, keep_blank_values=True)).get("model_endpoint_name")
    assert (found.model if found else "") == (theirs or "")


def test_the_path_decides_on_a_stream() -> None:
    found = read(b"{}", paths.route("POST", "/v1/llm/completions-stream"), "model_endpoint_name=m")
    assert found is not None
    assert found.stream


@pytest.mark.parametrize(
    ("name", "model"),
    [("llama", "llama"), ("a/llama", "a/llama"), ("a%2Fllama", "a/llama"), ("a%252Fllama", "a%2Fllama")],
)
def test_the_model_in_the_path(name: str, model: str) -> None:
    found = read(b"", paths.route("GET", f"/aleph-alpha/v1/models/{name}/tokenizer"))
    assert found is not None
    assert found.model == model


# Models in forms.

FORM = b"multipart/form-data; boundary=B"


def part(name: str, value: bytes, more: str = "") -> bytes:
    """A field of a form."""
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


SOUND = part("file", b"RIFF\r\n--Bx\r\n\r\n\0", '; filename="a.wav"\r\nContent-Type: audio/wav').replace(
    b"--Bx", b"-- B"
)


@pytest.mark.parametrize(
    "content_type", [FORM, b'Multipart/Form-Data;boundary="B"', b"multipart/form-data ; boundary=B "]
)
@pytest.mark.parametrize("end", [b"--B--\r\n", b"--B--"])
def test_the_model_in_a_form(content_type: bytes, end: bytes) -> None:
    body = SOUND + part("model", b"llama") + part("stream", b"true") + end
    found = read(body, AUDIO, content_type=content_type)
    assert found is not None
    assert (found.model, found.stream, found.body) == ("llama", True, body)


def test_a_form_without_a_model_names_none() -> None:
    assert read(SOUND + b"--B--\r\n", AUDIO, content_type=FORM) is None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"model":"m"}', b"application/json"),
        (b"model=m", b"application/x-www-form-urlencoded"),
        (part("model", b"m") + b"--B--", b""),
        (part("model", b"m") + b"--B--", b"multipart/form-data"),
        (part("model", b"m") + b"--B--", b"multipart/form-data; boundary=B; boundary=C"),
        (part("model", b"m") + b"--B--", b"multipart/mixed; boundary=B"),
        (part("model", b"m") + b"--B--", b'multipart/form-data; boundary="B\\"'),
        (b"", FORM),
        (b"--B--", b"multipart/form-data; boundary=C"),
        (b"preamble\r\n" + part("model", b"m") + b"--B--", FORM),
        (part("model", b"m"), FORM),
        (part("model", b"m") + b"--B", FORM),
        (part("model", b"m") + b"--B--\r\nepilogue", FORM),
        (part("model", b"m") + b"--B--" + part("model", b"x") + b"--B--", FORM),
        (part("model", b"m") + b"--Bx\r\n--B--", FORM),
        (part("model", b"m") + b"--B \r\n--B--", FORM),
        (part("model", b"m").replace(b"\r\n", b"\n") + b"--B--", FORM),
        (part("model", b"m") + part("model", b"x") + b"--B--", FORM),
        (part("model", b"m") + part("mod%65l", b"x") + b"--B--", FORM),
        (part('mod\\"el', b"m") + b"--B--", FORM),
        (part("model", b"m", '; name="x"') + b"--B--", FORM),
        (part("model", b"m", "; name*=utf-8''x") + b"--B--", FORM),
        (part("x", b"m", '\r\nContent-Disposition: form-data; name="model"') + b"--B--", FORM),
        (part("x", b"m", '\r\n Content-Disposition: form-data; name="model"') + b"--B--", FORM),
        (b"--B\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--B--", FORM),
        (b'--B\r\nContent-Disposition: form-data;\r\n name="model"\r\n\r\nm\r\n--B--', FORM),
        (b'--B\r\nContent-Disposition : form-data; name="model"\r\n\r\nm\r\n--B--', FORM),
        (b'--B\r\nContent-Disposition: attachment; name="model"\r\n\r\nm\r\n--B--', FORM),
        (b"--B\r\nContent-Type: text/plain\r\n\r\nm\r\n--B--", FORM),
        (b"--B\r\n\r\nm\r\n--B--", FORM),
        (b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n--B--', FORM),
        (part("x", b"") * 2000 + part("model", b"m") + b"--B--", FORM),
    ],
)
def test_a_form_that_might_be_read_in_another_way_is_refused(body: bytes, content_type: bytes) -> None:
    with pytest.raises(Refused) as raised:
        read(body, AUDIO, content_type=content_type)
    assert raised.value.failure.status == 400


def test_a_form_is_read_in_one_pass() -> None:
    empty = part("x", b"") * 900
    found = read(empty + part("model", b"m" * 10) + b"--B--", AUDIO, content_type=FORM)
    assert found is not None
    assert found.model == "m" * 10


@given(st.binary(max_size=60), st.sampled_from([b"--B", b"\r\n--B", b"\r\n\r\n", b"--B--", b'name="model"']))
def test_a_form_of_any_bytes_is_read_or_refused(data: bytes, token: bytes) -> None:
    for body in (data, SOUND + data + token, part("model", data) + b"--B--", part("model", token + data) + b"--B--"):
        try:
            found = read(body, AUDIO, content_type=FORM)
        except Refused:
            continue
        if found is not None:
            start, end = found.at
            assert body[start - 4 : start] == b"\r\n\r\n"
            assert body[end : end + 5] == b"\r\n--B"


# What is sent on under another name.


def sent(route: Route, target: str, body: bytes, content_type: bytes = b"application/json") -> tuple[str, bytes]:
    """Target and body for the pod, which knows the model as llama."""
    found = read(body, route, target.partition("?")[2], content_type)
    assert found is not None
    assert found.model == "a/llama"
    return paths.forwarded(route, found, target, "llama")


def test_the_name_in_a_body_is_replaced_and_nothing_else() -> None:
    target, body = sent(CHAT, "/v1/chat/completions?x=y", b'{"x":[1.5,"\\u00e4"],"model":"a/llama","n":2}')
    assert target == "/v1/chat/completions?x=y"
    assert json.loads(body) == {"x": [1.5, "ä"], "model": "llama", "n": 2}


def test_the_name_in_a_query_is_replaced_and_nothing_else() -> None:
    target, body = sent(SYNC, "/llm-engine/v1/llm/completions-sync?x=%26&model_endpoint_name=a%2Fllama", b'{"model":1}')
    path, _, query = target.partition("?")
    assert path == "/llm-engine/v1/llm/completions-sync"
    assert parse_qsl(query) == [("x", "&"), ("model_endpoint_name", "llama")]
    assert body == b'{"model":1}'


@pytest.mark.parametrize("prefix", ["/aleph-alpha", "/aleph-alpha/v1"])
def test_the_name_in_a_path_is_replaced_and_nothing_else(prefix: str) -> None:
    for name in ("a/llama", "a%2Fllama"):
        path = f"{prefix}/models/{name}/tokenizer"
        target, _ = sent(paths.route("GET", path), path + "?nice=true", b"")
        assert target == f"{prefix}/models/llama/tokenizer?nice=true"


def test_the_name_in_a_form_is_replaced_and_nothing_else() -> None:
    body = SOUND + part("model", b"a/llama") + b"--B--\r\n"
    _, out = sent(AUDIO, "/v1/audio/transcriptions", body, FORM)
    assert out == SOUND + part("model", b"llama") + b"--B--\r\n"


@given(st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable() and "%" not in name))
def test_a_name_is_found_again_wherever_it_was_put(name: str) -> None:
    """As the pod finds it: its server decodes a path, its API again."""
    named = Named("x", False, {"model": "x"}, b"x", (0, 1))
    _, body = paths.forwarded(CHAT, named, "/v1/chat/completions", name)
    assert orjson.loads(body)["model"] == name
    target, _ = paths.forwarded(SYNC, named, "/v1/llm/completions-sync?model_endpoint_name=x", name)
    assert dict(parse_qsl(target.partition("?")[2]))["model_endpoint_name"] == name
    path = f"/aleph-alpha/models/{quote('x')}/tokenizer"
    target, _ = paths.forwarded(paths.route("GET", path), named, path, name)
    assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", target)
    assert unquote(unquote(target)) == f"/aleph-alpha/models/{name}/tokenizer"


# Refusals.


def test_an_unknown_model_is_refused_in_words_that_say_where_the_names_are() -> None:
    for method, path, where in (
        ("POST", "/v1/completions", "/v1/models"),
        ("POST", "/v1/llm/completions-sync", "/llm-engine/v1/llm/model-endpoints"),
        ("POST", "/egp/v2/completions", "/egp/v4/models"),
        ("POST", "/aleph-alpha/complete", "/aleph-alpha/models_available"),
    ):
        failure = paths.unknown_model(paths.route(method, path), "llama").failure
        assert failure.status == 404
        assert "'llama'" in failure.message
        assert f"GET {where} " in failure.message
        assert paths.route("GET", where).kind == LIST


def test_a_refusal_reads_of_a_long_body_only_whether_it_wants_a_stream() -> None:
    short = b'{"stream":true}'
    assert paths.for_refusal(short) is short
    long = b'{"prompt":"%s","stream" : true}' % (b"x" * paths.MOST_READ_BYTES)
    assert paths.for_refusal(long) == b'{"stream":true}'
    assert paths.for_refusal(long.replace(b"true", b"false")) == b""
    assert paths.for_refusal(long.replace(b'"stream"', b'\\"stream\\"')) == b""


def test_the_values_of_a_query() -> None:
    assert paths.query_of("page=2&x=&y=a%20b&page=3") == {"page": "3", "x": "", "y": "a b"}
