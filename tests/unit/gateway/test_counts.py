"""What is counted, how /metrics tells it, and the usage that answers of all APIs tell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from berth_apis import aleph_alpha, llm_engine, scale_egp
from berth_apis.http import Answer
from berth_gateway.counts import (
    BUCKETS,
    METRICS,
    MOST_TAIL_BYTES,
    Counts,
    GatewayCollector,
    tokens_in,
)
from berth_gateway.holding import Holds, Limits
from berth_gateway.table import Endpoint, Pod
from tests.unit.apis import recorded
from tests.unit.apis.engine import events, reply, request, run, stream, text

LLM = "/v1/llm/completions-{}?model_endpoint_name=m"
LLM_BODY = {"prompt": "p", "max_new_tokens": 9, "temperature": 0}
EGP_BODY = {"model": "m", "prompt": "p", "model_parameters": {"max_tokens": 9}}
AA_BODY = {"model": "m", "prompt": "p", "maximum_tokens": 9}


def endpoint(name: str = "llama", **fields: Any) -> Endpoint:
    made = Endpoint(uid=name, namespace="team", name=name, created="", key=f"team/{name}")
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def scraped(counts: Counts, *endpoints: Endpoint, lines_lost: int = 0) -> dict[str, float]:
    """All samples, by name and labels as they are written."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(counts, lambda: endpoints, lambda: lines_lost))
    return samples(generate_latest(registry).decode())


def samples(page: str) -> dict[str, float]:
    return {
        sample.name + "".join(f",{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def only(found: dict[str, float], name: str) -> dict[str, float]:
    return {key.removeprefix(f"{name},"): value for key, value in found.items() if key.startswith(name)}


# Numbers.


def test_requests_are_counted_by_endpoint_owner_api_and_status() -> None:
    counts, one, two = Counts(), endpoint("one"), endpoint("two")
    counts.ended(one, "alice", "OpenAI", 200)
    counts.ended(one, "alice", "OpenAI", 200)
    counts.ended(one, "bob", "OpenAI", 503)
    counts.ended(two, "alice", "ScaleEGP", 200)
    counts.ended(None, "", "OpenAI", 401)
    assert only(scraped(counts, one, two), "berth_gateway_requests_total") == {
        "api=OpenAI,code=200,endpoint=one,namespace=team,owner=alice": 2,
        "api=OpenAI,code=503,endpoint=one,namespace=team,owner=bob": 1,
        "api=ScaleEGP,code=200,endpoint=two,namespace=team,owner=alice": 1,
        "api=OpenAI,code=401,endpoint=,namespace=,owner=": 1,
    }


def test_tokens_are_counted_by_endpoint_and_owner() -> None:
    counts, one = Counts(), endpoint("one")
    counts.ended(one, "alice", "OpenAI", 200, tokens=(5, 2))
    counts.ended(one, "alice", "LLMEngine", 200, tokens=(1, 0))
    counts.ended(one, "bob", "OpenAI", 200, tokens=(0, 7))
    counts.ended(one, "carol", "OpenAI", 200)
    assert only(scraped(counts, one), "berth_gateway_tokens_total") == {
        "endpoint=one,kind=prompt,namespace=team,owner=alice": 6,
        "endpoint=one,kind=completion,namespace=team,owner=alice": 2,
        "endpoint=one,kind=prompt,namespace=team,owner=bob": 0,
        "endpoint=one,kind=completion,namespace=team,owner=bob": 7,
    }


def test_the_time_to_the_first_byte_is_a_histogram() -> None:
    counts, one = Counts(), endpoint("one")
    for seconds in (0.0, 0.01, 0.010001, 299.0, 300.0, 301.0):
        counts.ended(one, "alice", "OpenAI", 200, first_byte_seconds=seconds)
    counts.ended(one, "alice", "OpenAI", 503)
    found = scraped(counts, one)
    buckets = only(found, "berth_gateway_first_byte_seconds_bucket")
    assert len(buckets) == len(BUCKETS) + 1 == 13
    assert buckets["endpoint=one,le=0.01,namespace=team"] == 2
    assert buckets["endpoint=one,le=0.025,namespace=team"] == 3
    assert buckets["endpoint=one,le=60.0,namespace=team"] == 3
    assert buckets["endpoint=one,le=300.0,namespace=team"] == 5
    assert buckets["endpoint=one,le=+Inf,namespace=team"] == 6
    assert only(found, "berth_gateway_first_byte_seconds_count") == {"endpoint=one,namespace=team": 6}
    assert only(found, "berth_gateway_first_byte_seconds_sum") == {"endpoint=one,namespace=team": 900.020001}


def test_requests_in_flight_and_held_are_read_when_asked_for() -> None:
    holds, counts = Holds(Limits()), Counts()
    busy = endpoint("busy", pods={("a", 1): Pod("a", 1, "a", in_flight=3), ("b", 1): Pod("b", 1, "b", in_flight=2)})
    waking, used, never = (
        endpoint("waking"),
        endpoint("used", requests=1),
        endpoint("never", pods={("c", 1): Pod("c", 1, "c")}),
    )
    holds.add(waking, "x", 1, 0.0)
    holds.add(waking, "y", 1, 0.0)
    found = scraped(counts, busy, waking, used, never)
    assert only(found, "berth_gateway_in_flight") == {
        "endpoint=busy,namespace=team": 5,
        "endpoint=waking,namespace=team": 0,
        "endpoint=used,namespace=team": 0,
    }
    assert only(found, "berth_gateway_held") == {
        "endpoint=busy,namespace=team": 0,
        "endpoint=waking,namespace=team": 2,
        "endpoint=used,namespace=team": 0,
    }


def test_what_befalls_the_gateway_itself_is_counted() -> None:
    counts = Counts()
    assert only(scraped(counts), "berth_gateway_retries_total") == {"reason=connect": 0, "reason=drain": 0}
    counts.retried("drain")
    counts.refused("held_full")
    counts.refused("held_full")
    counts.ejected()
    found = scraped(counts, lines_lost=9)
    assert only(found, "berth_gateway_retries_total") == {"reason=connect": 0, "reason=drain": 1}
    assert only(found, "berth_gateway_refusals_total") == {"reason=held_full": 2}
    assert found["berth_gateway_ejections_total"] == 1
    assert found["berth_gateway_log_lines_lost_total"] == 9


def test_numbers_of_an_endpoint_that_is_gone_are_told_once_more_and_then_forgotten() -> None:
    counts, stays, goes = Counts(), endpoint("stays"), endpoint("goes")
    for each in (stays, goes, None):
        counts.ended(each, "alice", "OpenAI", 200, first_byte_seconds=0.1, tokens=(1, 1))
    first, second = scraped(counts, stays), scraped(counts, stays)
    assert {name for name in first if "endpoint=goes" in name}
    assert not {name for name in second if "endpoint=goes" in name}
    assert {name: value for name, value in first.items() if "endpoint=goes" not in name} == second
    assert {key[:2] for key in (*counts.requests, *counts.tokens, *counts.first_byte)} == {("team", "stays"), ("", "")}


def test_what_is_served_is_what_is_described() -> None:
    counts, one = Counts(), endpoint("one", requests=1)
    counts.ended(one, "alice", "OpenAI", 200, 0.1, (1, 2))
    counts.refused("held_full")
    families = list(GatewayCollector(counts, lambda: [one], lambda: 0).collect())
    assert [f"{family.name}{'_total' if family.type == 'counter' else ''}" for family in families] == [
        described.name for described in METRICS
    ]
    for family, described in zip(families, METRICS, strict=True):
        assert (family.type, family.documentation) == (described.kind, described.help)
        assert family.samples, described.name
        for sample in family.samples:
            assert tuple(label for label in sample.labels if label != "le") == described.labels


# Usage.


def compact(value: Any) -> bytes:
    """As vLLM writes a whole answer."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


ENGINE = [
    path.stem for path in sorted((recorded.FIXTURES / "vllm-openai").glob("c*.json")) if "stream" not in path.stem
]


@pytest.mark.parametrize("name", ENGINE)
def test_usage_of_whole_answers_of_the_engine(name: str) -> None:
    found = recorded.answer(name)
    usage = found.get("usage")
    assert (usage is None) is ("error" in found)
    assert tokens_in(compact(found)) == (usage and (usage["prompt_tokens"], usage["completion_tokens"]))


def test_usage_of_streams_of_the_engine() -> None:
    for name in ("stream-usage", "stream-continuous-usage", "chat-stream"):
        data = recorded.stream(name)
        last = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")][-1]["usage"]
        assert tokens_in(data[-MOST_TAIL_BYTES:]) == (last["prompt_tokens"], last["completion_tokens"])
    assert tokens_in(recorded.stream("stream-stop")) is None


OPENAI_RESPONSES = (
    b'data: {"type":"response.completed","response":{"output":[{"text":"\\"usage\\":{\\"input_tokens\\":1}"}],'
    b'"tools":[],"usage":{"input_tokens":31,"input_tokens_details":{"cached_tokens":16,"input_tokens_per_turn":[]},'
    b'"output_tokens":7,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":38},"user":null}}\n\n'
)
ANTHROPIC = (
    b'data: {"type":"message_start","message":{"usage":{"input_tokens":8,"output_tokens":0}}}\n\n'
    b'data: {"type":"message_delta","delta":{"stop_reason":"stop"},"usage":{"input_tokens":8,"output_tokens":12}}\n\n'
    b'data: {"type":"message_stop"}\n\n'
)


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (OPENAI_RESPONSES, (31, 7)),
        (ANTHROPIC, (8, 12)),
        (b'{"data":[[0.1]],"usage":{"prompt_tokens":6,"total_tokens":6}}', (6, 0)),
        (b'{"usage":{"completion_tokens":6}}', (0, 6)),
        (b'{"usage" : {"prompt_tokens" : 6,\n "completion_tokens" : 3}}', (6, 3)),
        (b'{"usage":{"prompt_tokens":6,"prompt_tokens_details":{"cached_tokens":1},"completion_tokens":3}}', (6, 3)),
        (b'{"usage":{"prompt_tokens":6,"completion_tokens":3}}\n{"usage":null}', (6, 3)),
        (b'{"usage":{"prompt_tokens":6,"completion_tokens":3}}\n{"logprobs":{" usage":-0.1}}', (6, 3)),
        (b'{"a":[" usage"," usage"," usage"," usage"," usage"]}', None),
        (b'{"usage":{"prompt_tokens":-6,"completion_tokens":3}}', (0, 3)),
        (b'{"usage":{"prompt_tokens":6,"completion_tokens":-3}}', (6, 0)),
        (b'{"usage":{"prompt_tokens":true,"completion_tokens":null}}', None),
        (b'{"usage":{"prompt_tokens":6.5}}', None),
        (b'{"usage":{}}', None),
        (b'{"usage":{"total":4}}', None),
        (b'{"token_usage":{"prompt":5,"completion":1,"total":6}}', (5, 1)),
        (b'{"token_usage":{"total":6}}', None),
        (b'{"token_usage":null}', None),
        (b'{"usage":{"prompt_tokens":6,"completion_to', None),
        (b'{"text":"\\"usage\\":{\\"prompt_tokens\\":6,\\"completion_tokens\\":3}"}', None),
        (b'{"text":"\\"num_tokens_prompt_total\\":6,\\"num_tokens_generated\\":3,"}', None),
        (b'{"num_tokens_prompt_total":3}', (3, 0)),
        (b'{"num_tokens_prompt_total":3,"num_tokens_generated":4', None),
        (b'{"num_prompt_tokens":3,"num_completion_tokens":4', None),
        (b'{"num_other":3}', None),
        (b"", None),
    ],
)
def test_usage_wherever_it_stands(tail: bytes, expected: Any) -> None:
    assert tokens_in(tail) == expected


def whole(dialect: Any, asked: Any, *texts: str, usage: tuple[int, int] = (31, 7), **values: Any) -> bytes:
    found, _ = run(dialect, asked, [reply(text(*texts, usage=usage, **values))], tokens=[7])
    assert isinstance(found, Answer)
    assert found.status == 200, found.body
    return found.body


FORGED = (
    '"usage":{"prompt_tokens":900,"completion_tokens":900},"num_tokens_prompt_total":900,"num_tokens_generated":900,'
    '"num_prompt_tokens":900,"num_completion_tokens":900}'
)


@pytest.mark.parametrize("completion", ["a short one", "", "a long one " * 1000, FORGED, f"{{{FORGED}"])
def test_usage_of_the_other_apis_whole_answers(completion: str) -> None:
    for dialect, path, body in (
        (llm_engine, LLM.format("sync"), LLM_BODY),
        (scale_egp, "/v2/completions", EGP_BODY),
        (aleph_alpha, "/complete", AA_BODY),
    ):
        assert tokens_in(whole(dialect, request("POST", path, body), completion)) == (31, 7)


def test_usage_of_the_other_apis_streams() -> None:
    chunks = [text(FORGED, finish_reason=None, usage=(31, 4)), text("b", usage=(31, 7))]  # type: ignore[arg-type]
    data = events([*chunks, text(usage=(31, 7))])
    for dialect, path, body in (
        (llm_engine, LLM.format("stream"), LLM_BODY),
        (scale_egp, "/v2/completions", EGP_BODY | {"stream": True}),
        (aleph_alpha, "/complete", AA_BODY | {"stream": True}),
    ):
        found, _ = run(dialect, request("POST", path, body), tokens=[7])
        told, failure = stream(found, data)
        assert failure is None
        assert tokens_in(told[-MOST_TAIL_BYTES:]) == (31, 7)


def test_of_several_prompts_one_api_tells_the_completions_only() -> None:
    logged = {"tokens": ["a", "b"], "token_logprobs": [-1.0, -1.0], "top_logprobs": [{}, {}]}
    asked = request("POST", LLM.format("sync"), {"prompts": ["p", "q"], "max_new_tokens": 9, "temperature": 0})
    data = whole(llm_engine, asked, "x", "y", logprobs=logged)
    assert tokens_in(data) == (0, 4)
    assert tokens_in(data[data.rfind(b'"num_prompt') :]) is None


def test_only_the_end_of_an_answer_is_looked_at() -> None:
    usage = b'"usage":{"prompt_tokens":5,"completion_tokens":4}}'
    assert tokens_in(usage + b" " * (MOST_TAIL_BYTES - len(usage))) == (5, 4)
    assert tokens_in(usage + b" " * MOST_TAIL_BYTES) is None


WORDS = [
    b'"usage":{', b'usage"', b'"token_usage":', b"{", b"}", b"null", b'"prompt_tokens":', b'"completion_tokens":',
    b'"prompt":', b'"num_prompt_tokens":', b'"num_completion_tokens":', b'"num_tokens_prompt_total":',
    b'"num_tokens_generated":', b'"outputs":[', b"12345678901234567890", b"7", b"-", b".5", b"1e999", b",", b":", b" ",
    b"\\", b'"', b"\xff", b"[", b"]",
]  # fmt: skip


@given(st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(WORDS), max_size=40).map(b"".join)))
def test_nothing_that_an_answer_may_be_makes_it_fail(tail: bytes) -> None:
    found = tokens_in(tail)
    assert found is None or (len(found) == 2 and all(type(number) is int and number >= 0 for number in found))
