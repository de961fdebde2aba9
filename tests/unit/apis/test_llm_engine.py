"""Scale LLM Engine: what is asked of the engine, and what its answers become."""

from __future__ import annotations

import json
from typing import Any

import pytest

from berth_apis import llm_engine
from berth_apis.http import Streaming
from tests.unit.apis import recorded
from tests.unit.apis.engine import body, events, objects, reply, request, run, stream, text

SYNC = "/v1/llm/completions-sync?model_endpoint_name=m"
STREAM = "/v1/llm/completions-stream?model_endpoint_name=m"
LEAST = {"prompt": "p", "max_new_tokens": 3, "temperature": 0.2}
NEUTRAL = {"top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
PLAIN = {"model": "m", "prompt": "p", "max_tokens": 3, "temperature": 0.2} | NEUTRAL


def asked(**values: Any) -> Any:
    """What the engine is asked for a completion with these values."""
    _, calls = run(llm_engine, request("POST", SYNC, LEAST | values), [reply(text("t"))])
    return calls[0].json


def refusal(**values: Any) -> str:
    """Why such a completion is refused."""
    answer, calls = run(llm_engine, request("POST", SYNC, LEAST | values))
    assert calls == []
    assert answer.status == 400  # type: ignore[union-attr]
    return str(body(answer)["detail"])


def test_the_least_request() -> None:
    assert asked() == PLAIN


@pytest.mark.parametrize(
    ("sent", "engine"),
    [
        ({"stop_sequences": list("abcdef")}, {"stop": list("abcdef")}),
        ({"return_token_log_probs": True}, {"logprobs": 0}),
        ({"presence_penalty": 0.5, "frequency_penalty": 1}, {"presence_penalty": 0.5, "frequency_penalty": 1}),
        ({"top_k": -1, "top_p": 0.5}, {"top_k": -1, "top_p": 0.5}),
        ({"include_stop_str_in_output": True}, {"include_stop_str_in_output": True}),
        ({"skip_special_tokens": False}, {"skip_special_tokens": False}),
        ({"guided_json": {"type": "object"}}, {"structured_outputs": {"json": {"type": "object"}}}),
        ({"guided_regex": "a+"}, {"structured_outputs": {"regex": "a+"}}),
        ({"guided_choice": ["a", "b"]}, {"structured_outputs": {"choice": ["a", "b"]}}),
        ({"guided_grammar": "root ::= x"}, {"structured_outputs": {"grammar": "root ::= x"}}),
        ({"prompts": ["a", "b"], "prompt": None}, {"prompt": ["a", "b"], "logprobs": 0}),
        ({"max_new_tokens": 3.0}, {"max_tokens": 3}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"something_new": None, "another": False}, {}),
    ],
)
def test_each_parameter(sent: Any, engine: Any) -> None:
    assert asked(**sent) == PLAIN | engine


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"temperature": 3}, "temperature must be between 0 and 2, not 3."),
        ({"temperature": "warm"}, "temperature must be a number, not a string."),
        ({"temperature": True}, "temperature must be a number, not true."),
        ({"temperature": None}, "temperature is missing. It must be a number."),
        ({"max_new_tokens": 1.5}, "max_new_tokens must be an integer, not this number."),
        ({"prompt": None}, "prompt is missing."),
        ({"prompts": ["x"]}, "prompt must be given, or prompts, not both."),
        ({"prompt": None, "prompts": []}, "prompts must hold at least one prompt."),
        ({"stop_sequences": "x"}, "stop_sequences must be a list of strings, not a string."),
        ({"top_k": 0}, "top_k must be -1 (off) or at least 1, not 0."),
        ({"temperature": 0, "top_k": 4}, "top_k has no effect with temperature 0"),
        ({"temperature": 0, "top_p": 0.4}, "top_p has no effect with temperature 0"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_regex and guided_choice exclude each other."),
        ({"tempreature": 1}, "tempreature: Berth does not know this parameter. Remove it."),
    ],
)
def test_what_is_refused_is_named(sent: Any, words: str) -> None:
    assert words in refusal(**sent)


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'"x"', b'{"temperature": NaN}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object(data: bytes) -> None:
    answer, _ = run(llm_engine, request("POST", SYNC, data))
    assert answer.status == 400  # type: ignore[union-attr]
    assert body(answer)["detail"].startswith("The body ")


def test_the_model_is_in_the_query() -> None:
    answer, _ = run(llm_engine, request("POST", "/v1/llm/completions-sync", LEAST))
    assert "model_endpoint_name is missing in the query" in body(answer)["detail"]


def test_an_answer_serves_all_generations() -> None:
    answer, _ = run(llm_engine, request("POST", SYNC, LEAST), [reply(recorded.answer("completion-basic"))])
    output = {"text": "Kportupp", "num_prompt_tokens": 5, "num_completion_tokens": 3, "tokens": None}
    assert body(answer) == {
        "request_id": "cmpl-0",
        "output": output,
        "status": "SUCCESS",
        "outputs": [output],
        "traceback": None,
    }


def test_token_log_probabilities() -> None:
    sent = LEAST | {"return_token_log_probs": True}
    answer, _ = run(llm_engine, request("POST", SYNC, sent), [reply(recorded.answer("completion-logprobs-2"))])
    assert body(answer)["output"]["tokens"] == [
        {"token": "K", "log_prob": -6.939953327178955},
        {"token": "port", "log_prob": -6.955462455749512},
        {"token": "upp", "log_prob": -7.026472091674805},
    ]


def test_several_prompts_have_an_output_each() -> None:
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-1.0, None]}
    sent = LEAST | {"prompt": None, "prompts": ["x", "y"]}
    answer, _ = run(llm_engine, request("POST", SYNC, sent), [reply(text("ab", "ab", logprobs=logprobs))])
    outputs = body(answer)["outputs"]
    assert [(output["text"], output["num_completion_tokens"], output["tokens"]) for output in outputs] == [
        ("ab", 2, None),
        ("ab", 2, None),
    ]


@pytest.mark.parametrize("name", ["completion-unknown-model", "completion-prompt-too-long", "completion-bad-type"])
def test_an_error_of_the_engine_keeps_its_status_and_words(name: str) -> None:
    response = recorded.fixture(f"vllm-openai/{name}")["exchanges"][0]["response"]
    answer, _ = run(llm_engine, request("POST", SYNC, LEAST), [reply(response["json"], response["status"])])
    assert answer.status == response["status"]  # type: ignore[union-attr]
    assert body(answer) == {"detail": response["json"]["error"]["message"]}


def test_a_completion_that_was_cut_short_is_an_error() -> None:
    answer, _ = run(llm_engine, request("POST", SYNC, LEAST), [reply(text("half", finish_reason="abort"))])
    assert (answer.status, dict(answer.headers)) == (503, {"Retry-After": "1"})  # type: ignore[union-attr]


def test_a_stream() -> None:
    found, _ = run(llm_engine, request("POST", STREAM, LEAST))
    assert isinstance(found, Streaming)
    options = {"include_usage": True, "continuous_usage_stats": True}
    assert found.call.json == PLAIN | {"stream": True, "stream_options": options}
    out, _ = stream(found, recorded.stream("stream-continuous-usage"))
    assert b"[DONE]" not in out
    got = objects(out)
    assert [event["output"]["text"] for event in got] == ["K", "port", "upp"]
    assert [event["output"]["num_completion_tokens"] for event in got] == [1, 2, 3]
    assert [event["output"]["finished"] for event in got] == [False, False, True]
    assert [event["output"]["num_prompt_tokens"] for event in got] == [None, None, 5]
    assert {event["status"] for event in got} == {"SUCCESS"}
    assert {event["request_id"] for event in got} == {"cmpl-0"}


def test_a_chunk_with_several_tokens_is_an_event_for_each() -> None:
    found, _ = run(llm_engine, request("POST", STREAM, LEAST | {"return_token_log_probs": True}))
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-1.0, -2.0]}
    chunk = text("ab", logprobs=logprobs, usage=(3, 7))
    got = objects(stream(found, b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n")[0])
    assert [event["output"] for event in got] == [
        {
            "text": "a",
            "finished": False,
            "num_prompt_tokens": None,
            "num_completion_tokens": 6,
            "token": {"token": "a", "log_prob": -1.0},
        },
        {
            "text": "b",
            "finished": True,
            "num_prompt_tokens": 3,
            "num_completion_tokens": 7,
            "token": {"token": "b", "log_prob": -2.0},
        },
    ]


def test_text_that_is_held_back_is_told_when_it_comes() -> None:
    found, _ = run(llm_engine, request("POST", STREAM, LEAST | {"return_token_log_probs": True}))
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-1.0, -2.0]}
    chunks = [text("", finish_reason=None, logprobs=logprobs), text("ab", logprobs=logprobs)]  # type: ignore[arg-type]
    got = objects(stream(found, events(chunks))[0])
    assert [event["output"]["text"] for event in got] == ["", "", "a", "b"]
    assert [event["output"]["token"]["token"] for event in got] == ["a", "b"] * 2


def test_a_chunk_without_text_and_log_probabilities() -> None:
    """What comes first when vLLM holds text back, with stop sequences and a tokenizer of bytes."""
    found, _ = run(llm_engine, request("POST", STREAM, LEAST))
    got = objects(stream(found, events([text("", finish_reason=None), text("ab")]))[0])
    assert [event["output"]["text"] for event in got] == ["", "ab"]
    assert [event["output"]["token"] for event in got] == [None, None]


def test_an_error_after_the_first_event_is_the_structured_object() -> None:
    found, _ = run(llm_engine, request("POST", STREAM, LEAST))
    first = recorded.stream("stream-continuous-usage").split(b"\n\n")[0] + b"\n\n"
    out, failure = stream(found, first + recorded.stream("stream-error-after-200"))
    assert failure is None
    last = objects(out)[-1]
    assert last["output"] is None
    assert last["error"]["status_code"] == 400
    assert last["error"]["content"]["error"].startswith("Grammar error")
    assert last["error"]["content"]["timestamp"] == "1970-01-01 00:00:00 UTC"
    assert last["status"] == "FAILURE"
    assert last["traceback"] == last["error"]["content"]["error"]
    assert last["request_id"] == "cmpl-0"


def test_an_error_as_the_first_event_is_a_status() -> None:
    found, _ = run(llm_engine, request("POST", STREAM, LEAST))
    out, failure = stream(found, recorded.stream("stream-error-after-200"))
    assert out == b""
    assert failure is not None
    assert failure.status == 400


def test_models() -> None:
    answer, _ = run(llm_engine, request("GET", "/v1/llm/model-endpoints"))
    (model,) = body(answer)["model_endpoints"]
    assert (model["name"], model["source"], model["status"], model["inference_framework"]) == (
        "m",
        "hugging_face",
        "READY",
        "vllm",
    )
    answer, _ = run(llm_engine, request("GET", "/v1/llm/model-endpoints/m"))
    assert body(answer) == model
    answer, _ = run(llm_engine, request("GET", "/v1/llm/model-endpoints/other"))
    assert answer.status == 404  # type: ignore[union-attr]
    assert "'other' is not served here" in body(answer)["detail"]


# What the clients can ask besides completions and the list of models.
ELSEWHERE = {"batch-v1-create", "batch-v2-cancel", "batch-v2-create", "batch-v2-get", "model-delete", "model-download"}
UNKNOWN = {"model-get", "model-get-404", "model-get-minimal"}


@pytest.mark.parametrize(("name", "sent"), recorded.requests("llm-engine"))
def test_what_clients_really_sent(name: str, sent: Any) -> None:
    path = llm_engine.below(sent["target"])
    assert path is not None, f"{sent['target']} is not claimed"
    replies = [reply(text("t"))] if "completions-sync" in path else []
    answer, calls = run(llm_engine, request(sent["method"], path, sent.get("json")), replies)
    if name in ELSEWHERE:
        assert answer.status == 400  # type: ignore[union-attr]
        assert "is not supported by this server" in body(answer)["detail"]
    elif name in UNKNOWN:
        assert answer.status == 404  # type: ignore[union-attr]
    elif "completions-sync" in path:
        assert body(answer)["output"]["text"] == "t"
        assert calls[0].json["prompt"] == (sent["json"].get("prompt") or sent["json"]["prompts"])  # type: ignore[index]
    elif "completions-stream" in path:
        assert isinstance(answer, Streaming)
    else:
        assert [model["name"] for model in body(answer)["model_endpoints"]] == ["m"]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/llmx", "/health", "/llm-engine", "/egp/v2/completions"])
def test_paths_of_others(path: str) -> None:
    assert llm_engine.below(path) is None
