"""Any stream of the engine, cut anywhere, is told to the client as the whole answer would be."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from berth_apis import aleph_alpha, llm_engine, scale_egp
from berth_apis.http import Failure, Object
from tests.unit.apis.engine import body, objects, reply, request, run, stream, text

# Surrogates cannot come from a tokenizer.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CHUNKS = st.lists(st.lists(st.tuples(TEXTS, st.floats(-50, 0)), min_size=1, max_size=3), min_size=1, max_size=6)
CUTS = st.lists(st.integers(0, 4000), max_size=12)

LLM = "/v1/llm/completions-{}?model_endpoint_name=m"
LLM_BODY = {"prompt": "p", "max_new_tokens": 9, "temperature": 0, "return_token_log_probs": True}
EGP_BODY = {"model": "m", "prompt": "p", "model_parameters": {"max_tokens": 9}}


def logprobs(tokens: list[tuple[str, float]]) -> Object:
    return {
        "tokens": [token for token, _ in tokens],
        "token_logprobs": [value for _, value in tokens],
        "top_logprobs": [{token: value} for token, value in tokens],
    }


def upstream(chunks: list[list[tuple[str, float]]]) -> bytes:
    """The stream of vLLM, in raw UTF-8 as it writes it."""
    seen, told = 0, []
    for number, tokens in enumerate(chunks, 1):
        seen += len(tokens)
        last = number == len(chunks)
        joined = "".join(token for token, _ in tokens)
        told.append(text(joined, finish_reason="stop" if last else None, logprobs=logprobs(tokens), usage=(3, seen)))  # type: ignore[arg-type]
    told.append(text(usage=(3, seen)))
    lines = [b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in told]
    return b"".join(lines) + b"data: [DONE]\n\n"


def whole(chunks: list[list[tuple[str, float]]]) -> Object:
    tokens = [token for chunk in chunks for token in chunk]
    joined = "".join(token for token, _ in tokens)
    return text(joined, finish_reason="stop", logprobs=logprobs(tokens), usage=(3, len(tokens)))


@given(CHUNKS, CUTS)
def test_llm_engine(chunks: list[list[tuple[str, float]]], cuts: list[int]) -> None:
    data = upstream(chunks)
    plain = body(run(llm_engine, request("POST", LLM.format("sync"), LLM_BODY), [reply(whole(chunks))])[0])["output"]
    found, _ = run(llm_engine, request("POST", LLM.format("stream"), LLM_BODY))
    got = [event["output"] for event in objects(stream(found, data, [cut % len(data) for cut in cuts])[0])]
    assert "".join(event["text"] for event in got) == plain["text"]
    assert [event["token"] for event in got] == plain["tokens"]
    assert got[-1]["num_completion_tokens"] == plain["num_completion_tokens"]
    assert got[-1]["num_prompt_tokens"] == plain["num_prompt_tokens"]
    assert [event["finished"] for event in got] == [False] * (len(got) - 1) + [True]


@given(CHUNKS, CUTS)
def test_scale_egp(chunks: list[list[tuple[str, float]]], cuts: list[int]) -> None:
    data = upstream(chunks)
    plain = body(run(scale_egp, request("POST", "/v2/completions", EGP_BODY), [reply(whole(chunks))])[0])
    found, _ = run(scale_egp, request("POST", "/v2/completions", EGP_BODY | {"stream": True}))
    got = objects(stream(found, data, [cut % len(data) for cut in cuts])[0])
    assert "".join(event["completion"]["text"] for event in got) == plain["completion"]["text"]
    assert got[-1]["token_usage"] == plain["token_usage"]
    assert got[-1]["completion"]["finish_reason"] == plain["completion"]["finish_reason"]


AA_BODY = {
    "model": "m",
    "prompt": "p",
    "maximum_tokens": 9,
    "log_probs": 0,
    "tokens": True,
    "raw_completion": True,
    "n": 2,
}


@given(CHUNKS, CUTS)
def test_aleph_alpha(chunks: list[list[tuple[str, float]]], cuts: list[int]) -> None:
    data = upstream(chunks)
    plain = body(run(aleph_alpha, request("POST", "/complete", AA_BODY), [reply(whole(chunks))])[0])
    found, _ = run(aleph_alpha, request("POST", "/complete", AA_BODY | {"stream": True}))
    got = objects(stream(found, data, [cut % len(data) for cut in cuts])[0])
    for index, completion in enumerate(plain["completions"]):
        own = [event for event in got if event.get("index") == index and event["type"] == "stream_chunk"]
        for key in ("completion", "raw_completion"):
            assert "".join(event[key] for event in own) == completion[key]
        for key in ("completion_tokens", "log_probs"):
            assert [value for event in own for value in event[key]] == completion[key]
        (summary,) = [event for event in got if event.get("index") == index and event["type"] == "stream_summary"]
        assert summary["finish_reason"] == completion["finish_reason"]
    assert got[-1] == {"type": "completion_summary"} | {key: plain[key] for key in plain if key.startswith("num_")}


STREAMS = [
    (llm_engine, LLM.format("stream"), LLM_BODY),
    (scale_egp, "/v2/completions", EGP_BODY | {"stream": True}),
    (scale_egp, "/v5/completions", EGP_BODY | {"stream": True}),
    (aleph_alpha, "/complete", AA_BODY | {"stream": True}),
    (aleph_alpha, "/chat/completions", EGP_BODY | {"stream": True}),
]


@pytest.mark.parametrize(("dialect", "path", "sent"), STREAMS)
@given(CHUNKS, st.integers(0, 10_000))
def test_a_stream_that_breaks_off_never_looks_complete(
    dialect: ModuleType, path: str, sent: Any, chunks: list[list[tuple[str, float]]], at: int
) -> None:
    data = upstream(chunks)
    broken = data[: at % data.index(b"data: [DONE]")]
    found, _ = run(dialect, request("POST", path, sent))
    out, failure = stream(found, broken)
    if failure is None:
        assert b"ended its answer in the middle" in out
    else:
        assert (out, failure.status) == (b"", 502)


@pytest.mark.parametrize(("dialect", "path", "sent"), STREAMS)
@example(b"data: {}\n\n")
@example(b"data: [1]\n\n")
@example(b"data: x\n\n")
@example(b"data: [DONE]\n\n")
@given(st.binary(max_size=300))
def test_whatever_comes_instead_of_a_stream_is_a_failure(
    dialect: ModuleType, path: str, sent: Any, noise: bytes
) -> None:
    found, _ = run(dialect, request("POST", path, sent))
    out, failure = stream(found, noise)
    assert out or isinstance(failure, Failure)


@pytest.mark.parametrize(("dialect", "path", "sent"), STREAMS)
def test_an_aborted_stream_is_an_error(dialect: ModuleType, path: str, sent: Any) -> None:
    found, _ = run(dialect, request("POST", path, sent))
    data = upstream([[("a", -1.0)], [("b", -1.0)]]).replace(b'"stop"', b'"abort"')
    out, _ = stream(found, data)
    assert b"stopped before the completion was finished" in out
    assert b'"b"' not in out
