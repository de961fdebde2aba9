"""Aleph Alpha: what the engine's streams become."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from berth_apis import aleph_alpha
from berth_apis.aleph_alpha_answer import MOST_EVENT_BYTES
from berth_apis.http import Streaming
from tests.unit.apis import recorded
from tests.unit.apis.aleph_alpha import LEAST, SPECIAL, completed, logged, streamed
from tests.unit.apis.engine import SERVING, events, request, run, stream, text


def test_a_stream() -> None:
    assert streamed(recorded.stream("stream-usage")) == [
        {"type": "stream_chunk", "index": 0, "completion": "K"},
        {"type": "stream_chunk", "index": 0, "completion": "port"},
        {"type": "stream_chunk", "index": 0, "completion": "upp"},
        {"type": "stream_summary", "index": 0, "model_version": "tiny", "finish_reason": "maximum_tokens"},
        {"type": "completion_summary", "num_tokens_prompt_total": 5, "num_tokens_generated": 3},
    ]


def test_a_stream_of_several_has_each_summary_after_its_last_chunk() -> None:
    told = streamed(recorded.stream("stream-n2"), n=2, temperature=1)
    assert [(event["type"], event.get("index")) for event in told] == [
        *[("stream_chunk", 0)] * 2,
        ("stream_summary", 0),
        *[("stream_chunk", 1)] * 2,
        ("stream_summary", 1),
        ("completion_summary", None),
    ]
    assert (told[-1]["num_tokens_prompt_total"], told[-1]["num_tokens_generated"]) == (10, 4)


def test_a_greedy_stream_of_several_is_one_told_several_times() -> None:
    found, _ = run(aleph_alpha, request("POST", "/complete", LEAST | {"stream": True, "n": 3}))
    assert isinstance(found, Streaming)
    assert "n" not in found.call.json  # type: ignore[operator]
    told = streamed(recorded.stream("stream-usage"), n=3)
    for index in range(3):
        own = [event for event in told if event.get("index") == index]
        assert "".join(event.get("completion", "") for event in own) == "Kportupp"
        assert [event["type"] for event in own].index("stream_summary") == len(own) - 1
    assert (told[-1]["num_tokens_prompt_total"], told[-1]["num_tokens_generated"]) == (15, 9)


def test_held_back_text_makes_no_empty_events() -> None:
    data = recorded.stream("stream-stop").replace(
        b"data: [DONE]", b'data: {"choices":[],"usage":{"prompt_tokens":5}}\n\ndata: [DONE]'
    )
    assert [event.get("completion", event.get("finish_reason")) for event in streamed(data)] == [
        "K",
        "stop_sequence_reached",
        None,
    ]


@pytest.mark.parametrize("name", ["chat-stream"])
def test_a_chats_stream_for_images(name: str) -> None:
    image = [{"type": "image", "data": "iVBORw0KGgo="}]
    told = streamed(recorded.stream(name), prompt=image)
    assert [event.get("completion") for event in told] == ["yn", " ign", None, None]
    assert (told[-1]["num_tokens_prompt_total"], told[-1]["num_tokens_generated"]) == (10, 2)


def test_a_failure_in_a_stream_is_a_line_that_the_client_raises_with() -> None:
    found, _ = run(aleph_alpha, request("POST", "/complete", LEAST | {"stream": True}))
    first = recorded.stream("stream-usage").split(b"\n\n")[0] + b"\n\n"
    out, failure = stream(found, first + recorded.stream("stream-error-after-200"))
    assert failure is None
    _, last = out.strip().split(b"\n\n")
    assert last.startswith(b"upstream failed: Grammar error: at 1(8): invalid regex")
    assert b"\n" not in last
    out, failure = stream(
        run(aleph_alpha, request("POST", "/complete", LEAST | {"stream": True}))[0],
        recorded.stream("stream-error-after-200"),
    )
    assert out == b""
    assert failure is not None
    assert failure.status == 400


def test_no_event_is_longer_than_the_client_reads() -> None:
    tokens = [("\u00e9" * 20, -1.0 - number) for number in range(5000)]
    joined = "".join(token for token, _ in tokens)
    chunk = text(joined, logprobs=logged(*tokens))
    data = events([chunk, text(usage=(4999, 1))])
    found, _ = run(aleph_alpha, request("POST", "/complete", LEAST | {"stream": True, "echo": True}))
    out, _ = stream(found, data)
    assert max(map(len, out.splitlines())) <= MOST_EVENT_BYTES
    told = streamed(data, echo=True, log_probs=0, tokens=True)
    for key in ("completion", "raw_completion"):
        assert "".join(event.get(key, "") for event in told) == joined
    assert [token for event in told for token in event.get("completion_tokens", ())] == [token for token, _ in tokens]
    assert [top for event in told for top in event.get("log_probs", ())] == [{token: value} for token, value in tokens]


# Special tokens, whole and in pieces that may make one.
PIECES = st.sampled_from(["<s>", "</s>", "<|l|>", "<", "s>", "/", "|", "a", "\U0001f642", "é"])


@given(st.lists(PIECES, max_size=8), st.lists(st.integers(0, 30), max_size=6), st.booleans())
@example(["<", "<s>", "s>"], [1, 3], True)
@example(["<s>"], [1], False)
@example(["a", "<"], [1], False)
def test_special_tokens_are_found_however_a_stream_is_cut(pieces: list[str], cuts: list[int], ended: bool) -> None:
    reason = "stop" if ended else "length"
    last = logged(("</s>", -1.0))
    joined = "".join(pieces)
    edges = [0, *sorted(min(cut, len(joined)) for cut in cuts), len(joined)]
    texts = [joined[a:b] for a, b in itertools.pairwise(edges)]
    whole = completed(text(joined, finish_reason=reason, logprobs=last), SPECIAL, raw_completion=True)["completions"][0]
    chunks = [text(each, finish_reason=None, logprobs=logged()) for each in texts[:-1]]  # type: ignore[arg-type]
    chunks += [text(texts[-1], finish_reason=reason, logprobs=last), text()]
    told = streamed(events(chunks), SPECIAL, raw_completion=True)
    for key in ("completion", "raw_completion"):
        assert "".join(event.get(key, "") for event in told) == whole[key]
    assert whole["raw_completion"] == joined + ("</s>" if ended else "")
    assert whole["completion"] == re.sub(r"<s>|</s>|<\|l\|>", "", joined)


@pytest.mark.parametrize("special", [("<a>b", "<a>"), ("<a>", "<a>b")])
def test_of_two_special_tokens_the_shorter_one_is_found_whole_or_cut(special: tuple[str, str]) -> None:
    serving = replace(SERVING, special_tokens=special)
    (whole,) = completed(text("<a>b"), serving, raw_completion=True)["completions"]
    told = streamed(events([text("<a>", finish_reason=None), text("b"), text()]), serving, raw_completion=True)  # type: ignore[arg-type]
    assert whole["completion"] == "".join(event.get("completion", "") for event in told) == "b"
