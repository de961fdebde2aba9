"""Aleph Alpha: what the engine's whole answers become."""

from __future__ import annotations

from typing import Any

import pytest

from berth_apis import aleph_alpha
from tests.unit.apis import recorded
from tests.unit.apis.aleph_alpha import LEAST, SPECIAL, completed, logged
from tests.unit.apis.engine import body, reply, request, run, text


def test_an_answer_has_no_more_than_what_was_asked_for() -> None:
    assert completed(recorded.answer("completion-basic")) == {
        "model_version": "tiny",
        "completions": [{"index": 0, "completion": "Kportupp", "finish_reason": "maximum_tokens"}],
        "num_tokens_prompt_total": 5,
        "num_tokens_generated": 3,
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("completion-basic", "maximum_tokens"),
        ("completion-stop", "stop_sequence_reached"),
        ("completion-eos", "end_of_text"),
    ],
)
def test_finish_reasons_are_the_vendors_words(name: str, reason: str) -> None:
    assert completed(recorded.answer(name))["completions"][0]["finish_reason"] == reason


def test_an_end_token_with_a_number_is_the_end_of_the_text_too() -> None:
    engine = text("a", finish_reason="stop")
    engine["choices"][0]["stop_reason"] = 128009
    assert completed(engine)["completions"][0]["finish_reason"] == "end_of_text"


def test_tokens_and_their_log_probabilities() -> None:
    (told,) = completed(recorded.answer("completion-logprobs-2"), log_probs=2, tokens=True)["completions"]
    engine = recorded.answer("completion-logprobs-2")["choices"][0]["logprobs"]
    assert told["log_probs"] == engine["top_logprobs"]
    assert told["completion_tokens"] == ["K", "port", "upp"]
    assert told["raw_completion"] == told["completion"] == "Kportupp"
    (only,) = completed(recorded.answer("completion-logprobs-2"), log_probs=2)["completions"]
    assert only.keys() == {"index", "completion", "raw_completion", "log_probs", "finish_reason"}


def test_the_raw_completion_ends_in_the_end_token_and_not_in_the_stop_sequence() -> None:
    (ended,) = completed(recorded.answer("completion-eos"), raw_completion=True)["completions"]
    assert (ended["completion"], ended["raw_completion"]) == ("", "</s>")
    (stopped,) = completed(recorded.answer("completion-stop"), tokens=True)["completions"]
    assert (stopped["completion"], stopped["raw_completion"]) == ("K", "K")
    assert stopped["completion_tokens"] == ["K", "port"]


def test_special_tokens_are_in_the_raw_completion_alone() -> None:
    found, (call,) = run(
        aleph_alpha,
        request("POST", "/complete", LEAST | {"raw_completion": True}),
        [reply(text("<s>a<|l|>b <", finish_reason="stop", logprobs=logged(("b", -1), ("</s>", -2))))],
        SPECIAL,
    )
    assert call.json["skip_special_tokens"] is False  # type: ignore[index]
    (told,) = body(found)["completions"]
    assert (told["completion"], told["raw_completion"]) == ("ab <", "<s>a<|l|>b <</s>")


def test_an_echoed_prompt() -> None:
    engine = recorded.answer("completion-echo-logprobs")
    (told,) = completed(engine, echo=True, log_probs=1, tokens=True)["completions"]
    assert told["completion"] == "def foo(K"
    assert told["completion_tokens"] == ["def", " f", "o", "o", "(", "K"]
    assert told["log_probs"] == [{}, *engine["choices"][0]["logprobs"]["top_logprobs"][1:]]


def test_no_tokens() -> None:
    engine = recorded.answer("completion-echo-max0")
    echoed = completed(engine, echo=True, maximum_tokens=0, log_probs=0)
    assert echoed["completions"][0]["completion"] == "def foo("
    assert len(echoed["completions"][0]["log_probs"]) == 5
    assert (echoed["num_tokens_prompt_total"], echoed["num_tokens_generated"]) == (5, 0)
    engine["choices"][0]["finish_reason"] = "stop"  # whatever the token was that nobody asked for
    assert completed(engine, maximum_tokens=0, n=2, log_probs=0) == {
        "model_version": "tiny",
        "completions": [
            {"index": 0, "completion": "", "raw_completion": "", "log_probs": [], "finish_reason": "maximum_tokens"},
            {"index": 1, "completion": "", "raw_completion": "", "log_probs": [], "finish_reason": "maximum_tokens"},
        ],
        "num_tokens_prompt_total": 10,
        "num_tokens_generated": 0,
    }


def test_several_greedy_completions_are_one_told_several_times() -> None:
    told = completed(recorded.answer("completion-basic"), n=2, best_of=3)
    assert [each["completion"] for each in told["completions"]] == ["Kportupp", "Kportupp"]
    assert [each["index"] for each in told["completions"]] == [0, 1]
    assert (told["num_tokens_prompt_total"], told["num_tokens_generated"]) == (15, 9)


def test_several_sampled_completions() -> None:
    told = completed(recorded.answer("completion-n2"), n=2, temperature=1)
    assert [each["completion"] for each in told["completions"]] == [" onlyustlo", "\ufffd|word"]
    assert (told["num_tokens_prompt_total"], told["num_tokens_generated"]) == (10, 6)


def test_the_best_of_several_has_the_highest_mean() -> None:
    engine = text("long", "short", "worst", usage=(2, 6))
    values: list[list[Any]] = [[None, -9.0, -1.0, -1.0], [None, -9.0, -1.5], [None, -9.0, -1.0, -1.0, -8.0]]
    for choice, each in zip(engine["choices"], values, strict=True):
        choice["logprobs"] = logged(*((str(number), value) for number, value in enumerate(each)))
    told = completed(engine, n=2, best_of=3, temperature=1, echo=True)
    assert [each["completion"] for each in told["completions"]] == ["long", "short"]
    assert "raw_completion" not in told["completions"][0]
    assert (told["num_tokens_prompt_total"], told["num_tokens_generated"]) == (6, 6)
