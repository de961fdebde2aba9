"""What tests of Aleph Alpha's API ask for and are told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from berth_apis import aleph_alpha
from berth_apis.http import Answer, Object, Serving
from tests.unit.apis.engine import SERVING, body, objects, reply, request, run, stream

LEAST = {"model": "m", "prompt": "p", "maximum_tokens": 9}
SPECIAL = replace(SERVING, special_tokens=("<|l|>", "</s>", "<s>"))


def completed(engine: Any, serving: Serving = SERVING, **values: Any) -> Any:
    """The answer for the engine's."""
    found, _ = run(aleph_alpha, request("POST", "/complete", LEAST | values), [reply(engine)], serving)
    assert isinstance(found, Answer)
    assert found.status == 200, found.body
    return body(found)


def streamed(data: bytes, serving: Serving = SERVING, cuts: Iterable[int] = (), **values: Any) -> list[Any]:
    """The events for the engine's."""
    found, _ = run(aleph_alpha, request("POST", "/complete", LEAST | values | {"stream": True}), (), serving)
    out, failure = stream(found, data, cuts)
    assert failure is None
    assert all(line.startswith(b"data: {") for line in out.splitlines() if line)
    return objects(out)


def logged(*tokens: tuple[str, float | None]) -> Object:
    """Log probabilities as vLLM tells them with `logprobs: 0`."""
    return {
        "tokens": [token for token, _ in tokens],
        "token_logprobs": [value for _, value in tokens],
        "top_logprobs": [None if value is None else {token: value} for token, value in tokens],
    }
