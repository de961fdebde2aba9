"""Aleph Alpha: what is asked of the engine, and what its answers become."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from berth_apis import aleph_alpha
from berth_apis.http import Answer, Call, Object, Streaming
from tests.unit.apis import recorded
from tests.unit.apis.aleph_alpha import LEAST, completed
from tests.unit.apis.engine import MODELS, SERVING, body, reply, request, run, text

PLAIN = {"model": "m", "prompt": "p", "max_tokens": 9, "echo": False}
GREEDY = {"temperature": 0, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
# What the client sends whatever it was given.
ALWAYS = recorded.fixture("aleph-alpha/sync-complete-defaults")["exchanges"][0]["request"]["json"]
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


def asked(**values: Any) -> Any:
    """What the engine is asked for a completion with these values."""
    found, calls = run(aleph_alpha, request("POST", "/complete", LEAST | values), [reply(text("t", "u", "v"))])
    assert len(calls) == 1, body(found)
    assert calls[0].path == "/v1/completions"
    return calls[0].json


def refusal(status: int = 400, code: str = "TASK_VALIDATION", path: str = "/complete", **values: Any) -> str:
    """Why such a request is refused, without asking the engine."""
    found, calls = run(aleph_alpha, request("POST", path, LEAST | values))
    assert calls == []
    assert isinstance(found, Answer)
    assert (found.status, body(found)["code"]) == (status, code)
    return str(body(found)["error"])


def test_the_models_own_defaults_never_apply() -> None:
    assert asked() == PLAIN | GREEDY
    without_model = {key: value for key, value in ALWAYS.items() if key not in ("model", "prompt")}
    assert asked(**without_model) == PLAIN | GREEDY


@pytest.mark.parametrize(
    ("sent", "engine"),
    [
        ({"maximum_tokens": 7}, {"max_tokens": 7}),
        ({"maximum_tokens": 0}, {"max_tokens": 0, "echo": True}),
        ({"maximum_tokens": 0, "log_probs": 3, "tokens": True}, {"max_tokens": 0, "echo": True}),
        ({"maximum_tokens": 0, "echo": True, "n": 3}, {"max_tokens": 0, "echo": True}),
        ({"maximum_tokens": 0, "n": 3, "temperature": 1}, {"max_tokens": 0, "echo": True, "temperature": 1}),
        ({"minimum_tokens": 2}, {"min_tokens": 2}),
        ({"temperature": 0.5, "top_k": 5, "top_p": 0.9}, {"temperature": 0.5, "top_k": 5, "top_p": 0.9}),
        ({"top_k": 5}, {"temperature": 1, "top_k": 5}),
        ({"top_p": 0.5}, {"temperature": 1, "top_p": 0.5}),
        ({"top_k": 1}, {"top_k": 1}),
        ({"top_p": 1}, {}),
        ({"presence_penalty": -2, "frequency_penalty": 0.1}, {"presence_penalty": -2, "frequency_penalty": 0.1}),
        ({"n": 3}, {}),
        ({"n": 3, "temperature": 1e-6}, {"temperature": 1e-6}),
        ({"n": 3, "temperature": 1}, {"n": 3, "temperature": 1}),
        ({"best_of": 3}, {}),
        ({"best_of": 1}, {}),
        ({"best_of": 3, "n": 2, "temperature": 1}, {"n": 3, "temperature": 1, "logprobs": 0}),
        ({"best_of": 3, "log_probs": 2, "top_k": 9}, {"n": 3, "temperature": 1, "top_k": 9, "logprobs": 2}),
        ({"logit_bias": {"5": -1.5}}, {"logit_bias": {"5": -1.5}}),
        ({"log_probs": 0}, {"logprobs": 0}),
        ({"log_probs": 20}, {"logprobs": 20}),
        ({"tokens": True}, {"logprobs": 0}),
        ({"raw_completion": True}, {"logprobs": 0}),
        ({"echo": True}, {"echo": True}),
        ({"stop_sequences": list("abcdef")}, {"stop": list("abcdef")}),
        ({"completion_bias_inclusion": ["yes", "no"]}, {"structured_outputs": {"choice": ["yes", "no"]}}),
        ({"completion_bias_exclusion": ["maybe"]}, {"bad_words": ["maybe"]}),
        ({"penalty_exceptions_include_stop_sequences": True}, {}),
        ({"disable_optimizations": True, "hosting": "aleph-alpha", "tags": ["t"]}, {}),
        ({"steering_concepts": [], "stop_sequences": [], "penalty_exceptions": []}, {}),
        ({"best_of": None, "something_new": 0}, {}),
    ],
)
def test_each_parameter(sent: Any, engine: Any) -> None:
    assert asked(**sent) == PLAIN | GREEDY | engine


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"prompt": None}, "prompt is missing"),
        ({"prompt": {}}, "prompt must be a string or a list"),
        ({"prompt": ["x"]}, "prompt[0] must be an object with a type and data."),
        ({"prompt": [{"type": "video", "data": "x"}]}, "prompt[0].type must be text, token_ids or image."),
        ({"prompt": [{"type": "text", "data": [1]}]}, "prompt[0].data must be a string"),
        ({"prompt": [{"type": "token_ids", "data": [-1]}]}, "prompt[0].data must be a list of token ids"),
        ({"prompt": [{"type": "text", "data": "a", "controls": [{}]}]}, "prompt[0].controls: Attention control"),
        ({"prompt": [{"type": "image", "data": "x"}]}, "prompt[0].data must be the base64"),
        ({"prompt": [{"type": "image", "data": PNG[:4] + " " + PNG[4:]}]}, "prompt[0].data must be the base64"),
        ({"prompt": [{"type": "image", "data": "AAAA"}]}, "prompt[0].data must be the base64 of a PNG, JPEG"),
        ({"prompt": [{"type": "image", "data": PNG, "x": 1, "y": 2, "size": 3}]}, "prompt[0]: This server does not"),
        ({"prompt": [{"type": "image", "data": PNG}], "echo": True}, "echo: a prompt with images"),
        ({"prompt": [{"type": "image", "data": PNG}, {"type": "token_ids", "data": [1]}]}, "prompt: token ids and"),
        ({"prompt": [{"type": "text", "data": "a"}] * 513}, "prompt: 513 items are more than the 512 tokens"),
        ({"maximum_tokens": -1}, "maximum_tokens must be at least 0, not -1."),
        ({"temperature": 3}, "temperature must be between 0 and 2, not 3."),
        ({"top_p": 1.5}, "top_p must be between 0 and 1"),
        ({"top_k": -1}, "top_k must be between 0 and"),
        ({"log_probs": -1}, "log_probs must be at least 0"),
        ({"n": 0}, "n must be between 1 and 128"),
        ({"n": 3, "best_of": 2}, "best_of must be at least n, which is 3, not 2."),
        ({"best_of": 2, "stream": True}, "best_of: the best of several completions cannot be streamed."),
        ({"logit_bias": {"x": 1}}, "logit_bias must map token ids to numbers"),
        ({"logit_bias": {"1": "x"}}, "logit_bias must map token ids to numbers"),
        ({"logit_bias": {"1": True}}, "logit_bias must map token ids to numbers"),
        ({"logit_bias": {"1": 101}}, "logit_bias must map token ids to numbers"),
        ({"presence_penalty": -10}, "presence_penalty must be between -2 and 2, not -10."),
        ({"repetition_penalties_include_prompt": True}, "repetition_penalties_include_prompt: this server has no"),
        ({"repetition_penalties_include_completion": False}, "Leave it out, or send true."),
        ({"use_multiplicative_presence_penalty": True}, "use_multiplicative_presence_penalty: this server has no"),
        ({"use_multiplicative_frequency_penalty": True}, "use_multiplicative_frequency_penalty: this server has no"),
        ({"use_multiplicative_sequence_penalty": True}, "use_multiplicative_sequence_penalty: this server has no"),
        ({"sequence_penalty": 0.1}, "sequence_penalty: this server has no equivalent of it. Leave it out, or send 0."),
        ({"sequence_penalty_min_length": 3}, "sequence_penalty_min_length: this server has no"),
        ({"penalty_bias": "x"}, "penalty_bias: this server has no"),
        ({"penalty_exceptions": ["x"]}, "penalty_exceptions: this server has no"),
        ({"completion_bias_inclusion_first_token_only": True}, "completion_bias_inclusion_first_token_only: this"),
        ({"completion_bias_exclusion_first_token_only": True}, "completion_bias_exclusion_first_token_only: this"),
        ({"contextual_control_threshold": 0.5}, "contextual_control_threshold: Attention control"),
        ({"control_log_additive": False}, "control_log_additive: this server has no"),
        ({"something_new": 1}, "something_new: Berth does not know this parameter. Remove it."),
    ],
)
def test_what_has_no_equivalent_is_refused_by_name(sent: Any, words: str) -> None:
    assert words in refusal(**sent)


def test_steering_is_a_capability_that_is_missing() -> None:
    words = "Sadly the model you chose does not provide that capability: This model does not support steering concepts."
    assert words in refusal(code="MISSING_CAPABILITY", steering_concepts=["_sc-1"])
    assert words in refusal(code="MISSING_CAPABILITY", path="/steering_concepts", examples=[])
    assert words in refusal(code="MISSING_CAPABILITY", path="/chat/completions", steering_concepts=["_sc-1"])


def test_an_unknown_model() -> None:
    assert "'x' is not served here" in refusal(404, "UNKNOWN_MODEL", model="x")


def test_an_adapter_has_the_context_of_its_base() -> None:
    models = (*MODELS, {"id": "adapter", "parent": "m", "max_model_len": None})
    _, (call,) = run(
        aleph_alpha,
        request("POST", "/complete", {"model": "adapter", "prompt": [{"type": "token_ids", "data": [1, 2]}]}),
        [reply(text("t"))],
        replace(SERVING, models=models),
    )
    assert (call.json["model"], call.json["max_tokens"]) == ("adapter", 510)  # type: ignore[index]


@pytest.mark.parametrize(("prompt_tokens", "room"), [(3, 509), (511, 1), (600, 1)])
@pytest.mark.parametrize("stream", [False, True])
def test_without_a_maximum_it_goes_on_to_the_end_of_the_context(prompt_tokens: int, room: int, stream: bool) -> None:
    """A prompt that is too long is vLLM's to refuse."""
    asking = request("POST", "/complete", LEAST | {"maximum_tokens": None, "stream": stream})
    found, calls = run(aleph_alpha, asking, [reply({"tokens": [1] * prompt_tokens}), reply(text("t"))])
    assert calls[0] == Call("POST", "/tokenize", tokenizing("p", True))
    asked = found.call.json if isinstance(found, Streaming) else calls[1].json
    assert asked is not None
    assert asked["max_tokens"] == room


def prompted(prompt: Any, *tokens: list[int]) -> tuple[Any, list[Object | None]]:
    """The prompt that the engine gets, and what it was asked to tokenize before, with these answers."""
    replies = [*(reply({"tokens": each}) for each in tokens), reply(text("t"))]
    found, calls = run(aleph_alpha, request("POST", "/complete", LEAST | {"prompt": prompt}), replies)
    assert isinstance(found, Answer)
    assert found.status == 200, found.body
    assert {call.path for call in calls[:-1]} <= {"/tokenize"}
    return calls[-1].json["prompt"], [call.json for call in calls[:-1]]  # type: ignore[index]


def tokenizing(text: str, special: bool) -> Object:
    return {"model": "m", "prompt": text, "add_special_tokens": special}


def item(data: Any) -> Object:
    return {"type": "text" if isinstance(data, str) else "token_ids", "data": data, "controls": []}


def test_prompts() -> None:
    assert prompted([item("Hi")]) == ("Hi", [])
    assert prompted([{"type": "text", "data": "Hi"}, item("")]) == ("Hi", [])
    assert prompted([item([3, 4]), item([5])]) == ([3, 4, 5], [])
    parts = [item("a"), item([9]), item(""), item("b")]
    assert prompted(parts, [1, 7], [8]) == ([1, 7, 9, 8], [tokenizing("a", True), tokenizing("b", False)])
    assert prompted([item([9]), item("b")], [8]) == ([9, 8], [tokenizing("b", False)])


@pytest.mark.parametrize("empty", ["", [], [item("")], [item([])]])
def test_an_empty_prompt_is_the_beginning_of_a_text(empty: Any) -> None:
    assert prompted(empty, [1]) == ([1], [tokenizing("", True)])
    found, _ = run(aleph_alpha, request("POST", "/complete", LEAST | {"prompt": empty}), [reply({"tokens": []})])
    assert body(found)["error"].startswith("prompt: this model has no token for the beginning of a text")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\nx", "png"),
        (b"\xff\xd8\xff\xe0x", "jpeg"),
        (b"GIF89ax", "gif"),
        (b"GIF87ax", "gif"),
        (b"RIFF\n\0\0\0WEBPx", "webp"),
        (b"BMx", "bmp"),
    ],
)
def test_images_make_a_chat(content: bytes, kind: str) -> None:
    image = {"type": "image", "data": base64.b64encode(content).decode(), "controls": []}
    sampled = {"maximum_tokens": 3, "log_probs": 2, "n": 2, "temperature": 1}
    sent = LEAST | {"prompt": [item("a"), image, item("b")]} | sampled
    _, (call,) = run(aleph_alpha, request("POST", "/complete", sent), [reply(recorded.answer("chat-basic"), 400)])
    url = {"url": f"data:image/{kind};base64,{image['data']}"}
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": url}, {"type": "text", "text": "b"}]
    assert call == Call(
        "POST",
        "/v1/chat/completions",
        {
            "model": "m",
            "messages": [{"role": "user", "content": parts}],
            **GREEDY,
            "temperature": 1,
            "max_tokens": 3,
            "n": 2,
            "logprobs": True,
            "top_logprobs": 2,
        },
    )


def test_a_chats_answer_for_images() -> None:
    image = {"prompt": [{"type": "image", "data": PNG}]}
    assert completed(recorded.answer("chat-basic"), **image) == {
        "model_version": "tiny",
        "completions": [{"index": 0, "completion": "yn ign", "finish_reason": "maximum_tokens"}],
        "num_tokens_prompt_total": 10,
        "num_tokens_generated": 2,
    }
    found = recorded.answer("chat-basic")
    content = [{"token": "yn", "logprob": -1.0, "top_logprobs": [{"token": "x", "logprob": -0.5}]}]
    found["choices"][0]["logprobs"] = {"content": content}
    (told,) = completed(found, **image, log_probs=1, tokens=True)["completions"]
    assert told["log_probs"] == [{"x": -0.5, "yn": -1.0}]
    assert told["completion_tokens"] == ["yn"]
    assert completed(found, **image, maximum_tokens=0)["completions"][0]["completion"] == ""
    _, (call,) = run(aleph_alpha, request("POST", "/complete", LEAST | image | {"maximum_tokens": 0}), [reply(found)])
    assert call.json["max_tokens"] == 1  # type: ignore[index]


def test_an_image_for_a_model_that_takes_none() -> None:
    found, _ = run(
        aleph_alpha,
        request("POST", "/complete", LEAST | {"prompt": [{"type": "image", "data": PNG}]}),
        [reply(recorded.answer("chat-image-on-text-model"), 400)],
    )
    assert body(found) == {"error": "tiny is not a multimodal model", "code": "TASK_VALIDATION"}


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("completion-unknown-model", 404, "UNKNOWN_MODEL"),
        ("completion-logprobs-21", 400, "TASK_VALIDATION"),
        ("completion-prompt-too-long", 400, "TASK_VALIDATION"),
    ],
)
def test_a_failure_of_the_engine(name: str, status: int, code: str) -> None:
    error = recorded.answer(name)
    found, _ = run(aleph_alpha, request("POST", "/complete", LEAST), [reply(error, status)])
    assert isinstance(found, Answer)
    assert (found.status, body(found)) == (status, {"error": error["error"]["message"], "code": code})
