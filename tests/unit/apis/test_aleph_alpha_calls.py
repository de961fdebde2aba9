"""Aleph Alpha: the calls besides completions, and whatever else is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import berth_apis
from berth_apis import aleph_alpha
from berth_apis.http import Answer, Call, Operation, Streaming
from tests.unit.apis import recorded
from tests.unit.apis.engine import SERVING, body, objects, reply, request, run, stream, text

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = [parameter.name for parameters in aleph_alpha.PARAMETERS.values() for parameter in parameters]
ITEMS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "token_ids", "image", "x"]), "data": JSON_VALUES},
        optional={"controls": JSON_VALUES, "x": JSON_VALUES},
    ),
    max_size=3,
)
PATHS = ["/complete", "/evaluate", "/tokenize", "/detokenize", "/chat/completions", "/steering_concepts", "/embed", "/"]


@given(
    st.sampled_from(PATHS),
    st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), JSON_VALUES, max_size=5),
    ITEMS | JSON_VALUES,
    st.booleans(),
)
@example("/complete", {"temperature": 10**400, "logit_bias": {"9" * 5000: 1}}, "p", False)
@example("/complete", {"top_k": 1e300}, "\ud800", True)
def test_whatever_is_sent_is_translated_or_refused(path: str, sent: Any, prompt: Any, right: bool) -> None:
    asking = request("POST", path, sent | ({"model": "m", "prompt": prompt} if right else {}))
    operation = berth_apis.operate(aleph_alpha, asking, SERVING)
    try:
        call = next(operation)
    except StopIteration as end:
        if isinstance(end.value, Answer):
            assert 400 <= end.value.status < 500
            told = body(end.value)
            assert told.keys() == {"error", "code"}
            assert told["error"]
    else:
        assert isinstance(call, Call)
        assert call.path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize")


def test_every_recorded_request_is_understood() -> None:
    """Of all that the client was made to send, what has no equivalent is refused, all else answered."""
    engine = recorded.answer("completion-basic")
    engine["choices"][0]["prompt_logprobs"] = [None, {"1": {"logprob": -1.0, "rank": 1}}]
    replies = {
        "/v1/completions": engine,
        "/v1/chat/completions": recorded.answer("chat-basic"),
        "/tokenize": {"tokens": [1], "token_strs": ["a"]},
        "/detokenize": {"prompt": "a"},
    }
    refusals: dict[str, str] = {}
    for scenario, sent in recorded.requests("aleph-alpha"):
        serving = replace(SERVING, models=({"id": "tiny", "max_model_len": 512},))
        asking = request(sent["method"], sent["target"], sent.get("json"))
        operation = berth_apis.operate(aleph_alpha, asking, serving)
        found = driven(operation, replies)
        if isinstance(found, Answer) and found.status != 200:
            refusals[scenario] = body(found)["error"]
        else:
            assert isinstance(found, Streaming) is (sent.get("json") or {}).get("stream", False)
    assert set(refusals) == {"sync-complete-all-params", "sync-multimodal-prompt", "steering"}, refusals
    assert refusals["sync-complete-all-params"].startswith("repetition_penalties_include_prompt: ")
    assert refusals["sync-multimodal-prompt"].startswith("prompt[0].controls: ")


def driven(operation: Operation, replies: dict[str, Any]) -> Answer | Streaming:
    answer: Any = None
    try:
        while True:
            answer = reply(replies[operation.send(answer).path])
    except StopIteration as end:
        assert isinstance(end.value, Answer | Streaming)
        return end.value


def test_models() -> None:
    found, calls = run(aleph_alpha, request("GET", "/models_available"), (), replace(SERVING, images=True))
    assert calls == []
    shape = recorded.fixture("aleph-alpha/models")["exchanges"][0]["response"]["json"][0]
    (told,) = body(found)
    assert {key: type(value) for key, value in told.items()} == {key: type(value) for key, value in shape.items()}
    assert (told["name"], told["max_context_size"], told["image_support"]) == ("m", 512, True)


def test_the_version_is_text() -> None:
    found, _ = run(aleph_alpha, request("GET", "/version"))
    assert found == Answer(200, b"1.19.0", "text/plain; charset=utf-8")


@pytest.mark.parametrize("asks", [{"tokens": True, "token_ids": True}, {"token_ids": True, "tokens": False}, {}])
def test_tokenize(asks: Any) -> None:
    sent = request("POST", "/tokenize", {"prompt": "def foo(", "model": "m", **asks})
    found, (call,) = run(aleph_alpha, sent, [reply(recorded.answer("tokenize"))])
    assert call.json == {"model": "m", "prompt": "def foo(", "add_special_tokens": False, "return_token_strs": True}
    whole = {"tokens": ["def", "\u0120f", "o", "o", "("], "token_ids": [318, 284, 81, 81, 10]}
    assert body(found) == {key: value for key, value in whole.items() if asks.get(key)}


def test_detokenize() -> None:
    sent = request("POST", "/detokenize", {"token_ids": [0, 318], "model": "m"})
    found, (call,) = run(aleph_alpha, sent, [reply(recorded.answer("detokenize"))])
    assert call == Call("POST", "/detokenize", {"model": "m", "tokens": [0, 318]})
    assert body(found) == {"result": "<s>def fo</s>"}


def test_the_tokenizer_is_the_models_file_as_it_is() -> None:
    serving = replace(SERVING, models=({"id": "org/model", "max_model_len": 512},))
    file = reply({"version": "1.0", "model": {}})
    found, calls = run(aleph_alpha, request("GET", "/models/org%2Fmodel/tokenizer"), [file], serving)
    assert calls == [Call("GET", "/berth/tokenizer")]
    assert found == Answer(200, file.body)
    found, _ = run(aleph_alpha, request("GET", "/models/x/tokenizer"), [file], serving)
    assert body(found)["code"] == "UNKNOWN_MODEL"
    none = reply({"error": "The model has no tokenizer.json"}, 404)
    found, _ = run(aleph_alpha, request("GET", "/models/org/model/tokenizer"), [none], serving)
    assert body(found)["error"] == "The model has no tokenizer.json"


def evaluated(places: Any = None, after: Sequence[int] = (9, 9), **values: Any) -> tuple[Any, list[Call]]:
    place = {"8": {"logprob": -1.0, "rank": 1}, "9": {"logprob": -3.0, "rank": 2}}
    other = {"9": {"logprob": -0.5, "rank": 1}}
    engine = text("abcd", usage=(4, 1))
    engine["choices"][0]["prompt_logprobs"] = [None, other, *(places or [place, other])]
    replies = [reply({"tokens": [1, 2]}), reply({"tokens": list(after)}), reply(engine), reply({"prompt": "xy"})]
    sent = {"model": "m", "prompt": [{"type": "text", "data": "ab"}], "completion_expected": "cde"} | values
    found, calls = run(aleph_alpha, request("POST", "/evaluate", sent), replies)
    return body(found), calls


def test_an_evaluation() -> None:
    told, calls = evaluated(control_log_additive=True, contextual_control_threshold=None)
    assert [call.path for call in calls] == ["/tokenize", "/tokenize", "/v1/completions", "/detokenize"]
    assert [call.json["add_special_tokens"] for call in calls[:2]] == [True, False]  # type: ignore[index]
    assert calls[2].json == {"model": "m", "prompt": [1, 2, 9, 9], "max_tokens": 0, "echo": True, "logprobs": 1}
    assert calls[3].json == {"model": "m", "tokens": [8, 9]}
    result = {
        "log_probability": -3.5,
        "log_perplexity": 3.5,
        "log_perplexity_per_token": 1.75,
        "log_perplexity_per_character": 3.5 / 3,
        "correct_greedy": False,
        "token_count": 2,
        "character_count": 3,
        "completion": "xy",
    }
    assert told == {"model_version": "m", "result": result, "num_tokens_prompt_total": 4}
    places = [{"9": {"logprob": -1.0, "rank": 1}}] * 2
    assert evaluated(places)[0]["result"]["correct_greedy"] is True
    shape = recorded.fixture("aleph-alpha/evaluate")["exchanges"][0]["response"]["json"]
    assert told["result"].keys() == shape["result"].keys()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"completion_expected": None}, "completion_expected is missing"),
        ({"prompt": [{"type": "image", "data": "iVBORw0KGgo="}]}, "an evaluation takes no images"),
        ({"control_log_additive": False}, "control_log_additive: this server has no"),
        ({"contextual_control_threshold": 0.5}, "contextual_control_threshold: Attention control"),
    ],
)
def test_what_an_evaluation_refuses(values: Any, words: str) -> None:
    assert words in evaluated(**values)[0]["error"]


def test_an_evaluation_of_nothing() -> None:
    assert evaluated(after=(), completion_expected="")[0]["error"] == "completion_expected must not be empty."


def test_a_chat() -> None:
    sent = recorded.fixture("aleph-alpha/chat")["exchanges"][0]["request"]["json"]
    found, (call,) = run(
        aleph_alpha,
        request("POST", "/chat/completions", sent | {"top_p": 0.0, "top_k": 0}),
        [reply(recorded.answer("chat-basic"))],
    )
    message = [{"role": "user", "content": "Hi"}]
    expected = {"model": "tiny", "messages": message, "max_tokens": 3, "temperature": 0.0, "top_p": 1, "top_k": 0}
    assert call == Call("POST", "/v1/chat/completions", expected)
    assert body(found) == recorded.answer("chat-basic")


def test_the_last_text_of_a_chats_stream_is_told_apart_from_its_end() -> None:
    sent = recorded.fixture("aleph-alpha/chat-stream-vllm")["exchanges"][0]["request"]["json"]
    found, _ = run(aleph_alpha, request("POST", "/chat/completions", sent))
    assert isinstance(found, Streaming)
    assert found.call.json == sent
    out, _ = stream(found, recorded.stream("chat-stream"))
    assert out.endswith(b"data: [DONE]\n\n")
    told = objects(out.replace(b"data: [DONE]", b""))
    assert [(each["choices"] or [{}])[0].get("delta") for each in told] == [
        {"role": "assistant", "content": ""},
        {"content": "yn"},
        {"content": " ign"},
        {},
        None,
    ]
    assert [choice["finish_reason"] for each in told for choice in each["choices"]] == [None, None, None, "length"]
    assert told[-1]["usage"]["total_tokens"] == 12


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/embed", 400, "MISSING_CAPABILITY"),
        ("POST", "/semantic_embed", 400, "MISSING_CAPABILITY"),
        ("POST", "/explain", 400, "MISSING_CAPABILITY"),
        ("GET", "/complete", 404, "NOT_FOUND"),
        ("GET", "/", 404, "NOT_FOUND"),
    ],
)
def test_what_is_not_served(method: str, path: str, status: int, code: str) -> None:
    found, calls = run(aleph_alpha, request(method, path, {}))
    assert isinstance(found, Answer)
    assert (found.status, body(found)["code"], calls) == (status, code, [])


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/aleph-alpha/complete", "/complete"),
        ("/aleph-alpha/v1/complete", "/complete"),
        ("/aleph-alpha/v1/models/a/tokenizer", "/models/a/tokenizer"),
        ("/aleph-alpha", "/"),
        ("/aleph-alphas/complete", None),
        ("/v1/complete", None),
        ("/complete", None),
    ],
)
def test_the_prefix(path: str, rest: str | None) -> None:
    assert aleph_alpha.below(path) == rest
