"""The load's judge of answers: what the drain tests count."""

import json
from typing import Any

import pytest

from tests import load

BODY, STREAMED = ({"max_tokens": 3, **more} for more in ({}, {"stream": True}))
PAGE = " harbour at dawn"


def event(text: str = "", reason: str | None = None, tokens: int = 3, **more: Any) -> dict[str, Any]:
    choices = [{"text": text, "finish_reason": reason}]
    return {"choices": choices, "usage": {"completion_tokens": tokens}, **more}


def whole(**changes: Any) -> str:
    return json.dumps(event(**{"text": " harbour", "reason": "length", **changes}))


def stream(*events: Any) -> str:
    return "".join(f"data: {item if isinstance(item, str) else json.dumps(item)}\n\n" for item in events)


LAST = {"choices": [], "usage": {"completion_tokens": 3}}


@pytest.mark.parametrize(
    ("body", "status", "text", "wrong"),
    [
        (BODY, 200, whole(), None),
        (BODY, 500, "cannot schedule new futures after shutdown", "failed"),
        (BODY, 200, whole(reason="abort"), "cut off"),
        (BODY, 200, whole(reason=None), "cut off"),
        (BODY, 200, whole(tokens=2), "cut off"),
        (BODY, 200, whole(text=" harbor"), "cut off"),
        (BODY, 200, whole(text=""), "cut off"),
        (STREAMED, 200, stream(event(" har"), event("bour", "length"), LAST, "[DONE]"), None),
        (STREAMED, 200, stream(event(" har"), event("bour", "length"), LAST), "cut off"),
        (STREAMED, 200, stream(event(" har"), event("bour", "abort"), LAST, "[DONE]"), "cut off"),
        (STREAMED, 200, stream(event(" har"), event("bour"), LAST, "[DONE]"), "cut off"),
        (STREAMED, 200, stream(event(" bour", "length"), LAST, "[DONE]"), "cut off"),
        (STREAMED, 200, stream(event(" har"), {"error": {"code": 500}}, "[DONE]"), "failed"),
        (STREAMED, 200, "", "cut off"),
    ],
)
def test_only_whole_and_true_answers_pass(body: dict[str, Any], status: int, text: str, wrong: str | None) -> None:
    found = load.problem(body, PAGE, status, text)
    assert (found or "").partition(":")[0] == (wrong or "")


def test_every_question_is_asked_streamed_and_not() -> None:
    asked = [load.question("m", number)[0] for number in range(2 * len(load.QUESTIONS))]
    assert len({(body["prompt"], body.get("stream", False)) for body in asked}) == 2 * len(load.QUESTIONS)


def test_the_table_counts_by_scenario_and_client() -> None:
    answers = [
        load.Answer("roll", "httpx", None),
        load.Answer("roll", "httpx", "failed: 500"),
        load.Answer("roll", "httpx", "cut off: abort"),
    ]
    assert load.table(answers).splitlines()[-1] == "| roll | httpx | 3 | 1 | 1 |"
