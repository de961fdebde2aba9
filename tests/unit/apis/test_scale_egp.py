"""Scale EGP, three generations: what is asked of the engine, and what its answers become."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from berth_apis import scale_egp
from berth_apis.http import Answer, Streaming
from tests.unit.apis import engine, recorded
from tests.unit.apis.engine import SERVING, body, events, objects, reply, request, stream, text

LEAST = {"model": "m", "prompt": "p"}
NEUTRAL = {"top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
# 512 is the model's context, 12 are the tokens of any prompt here.
PLAIN = {"model": "m", "prompt": "p", "temperature": 0.2, "max_tokens": 500} | NEUTRAL
run = partial(engine.run, tokens=[7] * 12)


def asked(path: str = "/v2/completions", **values: Any) -> Any:
    """What the engine is asked for a completion with these values: path and body."""
    _, (call,) = run(scale_egp, request("POST", path, LEAST | values), [reply(text("t"))])
    return call.path, call.json


def refusal(**values: Any) -> str:
    answer, calls = run(scale_egp, request("POST", "/v4/completions", LEAST | values))
    assert calls == []
    assert answer.status == 400  # type: ignore[union-attr]
    return str(body(answer)["detail"])


def test_the_defaults_are_those_of_the_page_not_the_engines() -> None:
    assert asked() == ("/v1/completions", PLAIN)
    unset = {"model_parameters": None, "images": None, "stream": False, "account_id": None}
    assert asked(**unset) == ("/v1/completions", PLAIN)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"stop_sequences": list("abcde")}, {"stop": list("abcde")}),
        ({"topK": 5, "topP": 0.9}, {"top_k": 5, "top_p": 0.9}),
        ({"frequency_penalty": 1, "presence_penalty": -1}, {"frequency_penalty": 1, "presence_penalty": -1}),
        ({"reasoning_effort": "low"}, {}),
        ({"temperature": None, "max_tokens": None, "stop_sequences": None}, {}),
    ],
)
def test_each_parameter(parameters: Any, expected: Any) -> None:
    assert asked(model_parameters=parameters)[1] == PLAIN | expected


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"model": None}, "model is missing. It must be a string."),
        ({"prompt": 3}, "prompt must be a string, not this number."),
        ({"model_parameters": {"top_k": 3}}, "model_parameters.top_k: Berth does not know this parameter."),
        ({"model_parameters": {"temperature": 5}}, "model_parameters.temperature must be between 0 and 2, not 5."),
        ({"images": ["x"]}, "images[0] must be an object with an image_url."),
        ({"images": [{"detail": "low"}]}, "images[0].image_url is missing. It must be a string."),
        ({"temperature": 0.5}, "temperature: Berth does not know this parameter."),
    ],
)
def test_what_is_refused_is_named(sent: Any, words: str) -> None:
    assert words in refusal(**sent)


def test_images_make_a_chat_message() -> None:
    images = [{"image_url": "data:image/png;base64,AA"}, {"image_url": "https://h/x.png", "detail": "low"}]
    path, sent = asked(images=images)
    assert path == "/v1/chat/completions"
    assert sent["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "p"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "auto"}},
                {"type": "image_url", "image_url": {"url": "https://h/x.png", "detail": "low"}},
            ],
        }
    ]
    assert "max_tokens" not in sent


@pytest.mark.parametrize(("name", "served"), [("m", "m"), ("vendor/m", "m"), ("vendor/x", None), ("a/b/m", None)])
def test_a_vendor_in_front_of_a_name(name: str, served: str | None) -> None:
    answer, calls = run(scale_egp, request("POST", "/v4/completions", LEAST | {"model": name}), [reply(text("t"))])
    if served is None:
        assert (answer.status, calls) == (404, [])  # type: ignore[union-attr]
    else:
        assert calls[0].json["model"] == served  # type: ignore[index]


def test_an_answer() -> None:
    answer, _ = run(scale_egp, request("POST", "/v2/completions", LEAST), [reply(recorded.answer("completion-basic"))])
    assert body(answer) == {
        "completion": {"text": "Kportupp", "finish_reason": "length"},
        "token_usage": {"prompt": 5, "completion": 3, "total": 8},
    }


@pytest.mark.parametrize(
    ("name", "texts", "usage"),
    [
        ("stream-usage", ["K", "port", "upp"], {"prompt": 5, "completion": 3, "total": 8}),
        ("chat-stream", ["yn", " ign"], {"prompt": 10, "completion": 2, "total": 12}),
    ],
)
def test_a_stream_ends_with_the_reason_and_the_counts_in_one_event(name: str, texts: list[str], usage: Any) -> None:
    found, _ = run(scale_egp, request("POST", "/v2/completions", LEAST | {"stream": True}))
    assert isinstance(found, Streaming)
    assert found.call.json["stream_options"] == {"include_usage": True}  # type: ignore[index]
    out, _ = stream(found, recorded.stream(name))
    assert b"[DONE]" not in out
    got = objects(out)
    assert [event["completion"]["text"] for event in got] == texts
    assert [event["completion"]["finish_reason"] for event in got] == [None] * (len(texts) - 1) + ["length"]
    assert [event["token_usage"] for event in got] == [None] * (len(texts) - 1) + [usage]


def test_every_line_end_of_unicode_is_escaped() -> None:
    found, _ = run(scale_egp, request("POST", "/v2/completions", LEAST | {"stream": True}))
    chunks = [text("a\u2028b\u2029c\u0085d", finish_reason=None), text("", usage=(1, 1)) | {"choices": []}]  # type: ignore[arg-type]
    out, _ = stream(found, events(chunks))
    assert out.isascii()
    assert len(out.decode().splitlines()) == out.count(b"\n")
    assert objects(out)[0]["completion"]["text"] == "a\u2028b\u2029c\u0085d"


def test_an_error_of_a_stream_is_seen_by_both_clients() -> None:
    sent = request("POST", "/v2/completions", LEAST | {"stream": True, "temperature": 1})
    answer, _ = run(scale_egp, sent)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.content_type) == (400, "text/event-stream")
    assert answer.body == b"data: error 400: temperature: Berth does not know this parameter. Remove it.\n\n"

    found, _ = run(scale_egp, request("POST", "/v2/completions", LEAST | {"stream": True}))
    first = recorded.stream("stream-usage").split(b"\n\n")[0] + b"\n\n"
    out, _ = stream(found, first + recorded.stream("stream-error-after-200"))
    *_, last = out.strip().split(b"\n\n")
    assert last.startswith(b"event: error\ndata: error 400: Grammar error")
    assert last.count(b"\n") == 1


def test_usage_is_counted_by_account() -> None:
    counted: list[tuple[str, int, int]] = []
    serving = replace(SERVING, count=lambda *values: counted.append(values))
    header = {"x-selected-account-id": "head"}
    whole = [reply(text("t", usage=(3, 2)))]
    run(scale_egp, request("POST", "/v2/completions", LEAST | {"account_id": "b"}, header), whole, serving)
    run(scale_egp, request("POST", "/v2/completions", LEAST | {"account_id": None}, header), whole, serving)
    run(scale_egp, request("POST", "/v2/completions", LEAST), whole, serving)
    streamed = LEAST | {"account_id": "s", "stream": True}
    found, _ = run(scale_egp, request("POST", "/v2/completions", streamed), serving=serving)
    stream(found, recorded.stream("stream-usage"))
    assert counted == [("b", 3, 2), ("head", 3, 2), ("", 3, 2), ("s", 5, 3)]


def test_an_account_can_be_required() -> None:
    serving = replace(SERVING, require_account=True)
    answer, calls = run(scale_egp, request("POST", "/v4/completions", LEAST), serving=serving)
    assert calls == []
    assert "account_id is missing." in body(answer)["detail"]
    header = {"x-selected-account-id": "a"}
    answer, _ = run(scale_egp, request("POST", "/v4/completions", LEAST, header), [reply(text("t"))], serving)
    assert answer.status == 200  # type: ignore[union-attr]


def test_v5_is_the_engines_own_without_the_done() -> None:
    sent = {"model": "vendor/m", "prompt": "p", "anything": 1}
    answer, (call,) = run(scale_egp, request("POST", "/v5/completions", sent), [reply(text("t"))])
    assert (call.path, call.json) == ("/v1/completions", {"model": "m", "prompt": "p", "anything": 1})
    assert body(answer) == text("t")
    found, _ = run(scale_egp, request("POST", "/v5/chat/completions", {"model": "m", "stream": True}))
    assert isinstance(found, Streaming)
    assert (found.call.path, found.call.json) == ("/v1/chat/completions", {"model": "m", "stream": True})
    out, _ = stream(found, recorded.stream("chat-stream"))
    assert b"[DONE]" not in out
    assert len(objects(out)) == 4


def test_an_error_in_a_stream_of_v5_has_no_name() -> None:
    """The client passes over events that have one, and would take the text for a whole answer."""
    found, _ = run(scale_egp, request("POST", "/v5/completions", {**LEAST, "stream": True}))
    first, _, _ = recorded.stream("stream-usage").partition(b"\n\n")
    out, failure = stream(found, first + b"\n\n" + recorded.stream("stream-error-after-200"))
    assert failure is None
    assert b"event:" not in out
    assert out.splitlines()[-2].startswith(b"data: error 400: ")


def test_lists_of_models_and_the_user() -> None:
    for path in ("/v3/models", "/v4/models", "/v5/models"):
        found = body(run(scale_egp, request("GET", path))[0])
        items = found if isinstance(found, list) else found["items"]
        assert [item["name"] for item in items] == ["m"]
    assert body(run(scale_egp, request("GET", "/v4/models?page=2"))[0])["items"] == []
    assert body(run(scale_egp, request("GET", "/v3/models/m"))[0])["id"] == "m"
    assert run(scale_egp, request("GET", "/v3/models/x"))[0].status == 404  # type: ignore[union-attr]
    (profile,) = body(run(scale_egp, request("GET", "/user-info"))[0])["access_profiles"]
    assert profile == {"role": "admin", "account": {"id": "default", "name": "default"}}


@pytest.mark.parametrize(("name", "sent"), recorded.requests("scale-egp"))
def test_what_clients_really_sent(name: str, sent: Any) -> None:
    path = scale_egp.below("/egp" + sent["target"])
    assert path is not None
    headers = {key.lower(): value for key, value in sent["headers"].items()}
    served = {"tiny", "no-such-model"}
    serving = replace(SERVING, models=tuple({"id": each, "max_model_len": 512} for each in served))
    replies = [] if (sent.get("json") or {}).get("stream") else [reply(text("t"))]
    answer, calls = run(scale_egp, request(sent["method"], path, sent.get("json"), headers), replies, serving)
    if "deployments" in path or path.startswith("/v3/models/"):
        assert answer.status == 404  # type: ignore[union-attr]
    elif isinstance(answer, Streaming):
        assert sent["json"]["stream"] is True
    else:
        assert answer.status == 200
        if sent["method"] == "POST":
            assert calls[0].json["model"] == "tiny"  # type: ignore[index]
