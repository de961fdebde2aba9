"""Aleph Alpha's answer to a completion, whole or as events."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from berth_apis import engine
from berth_apis.fields import Field
from berth_apis.http import Failure, Object, event

MOST_EVENT_BYTES = 60 * 1024
"""The client takes no line of more than 128 KiB."""

ANSWER = (
    Field("model_version", "the engine's `model`: the first served name"),
    Field("completions[].index", "from 0; the best first with `best_of`"),
    Field("completions[].completion", "the text, without special tokens"),
    Field("completions[].finish_reason", "`maximum_tokens`, `end_of_text` or `stop_sequence_reached`"),
    Field("completions[].raw_completion", "with special tokens; when it, `tokens` or `log_probs` is asked for"),
    Field("completions[].completion_tokens", "with `tokens`; the end token and those of a stop sequence included"),
    Field("completions[].log_probs", "with `log_probs`; `{}` for the first token of an echoed prompt"),
    Field("num_tokens_prompt_total", "of the prompt, times the candidates"),
    Field("num_tokens_generated", "of all candidates"),
    Field("optimized_prompt", "never there: a prompt is not changed"),
    Field(
        "type",
        "in a stream: `stream_chunk` for what is new, `stream_summary` after each completion, `completion_summary`",
    ),
    Field("index", "in a stream: of the completion"),
    Field("completion", "in a stream: the new text"),
    Field("raw_completion", "in a stream: as above, of what is new"),
    Field("completion_tokens", "in a stream: as above, of what is new"),
    Field("log_probs", "in a stream: as above, of what is new"),
    Field("finish_reason", "in a stream: of the `stream_summary`"),
)


@dataclass(frozen=True)
class Wanted:
    """What is to be told.

    n: completions.  candidates: of which these are the best; counted all.  asked: of the engine; 1 if all are equal.
    log_probs: so many the engine is to tell of each token; None for no tokens.  tell_raw, tell_tokens,
    tell_log_probs: whether the answer has raw_completion, completion_tokens, log_probs.  echo: the prompt comes first.
    no_tokens: none are generated; nothing: nor is the prompt told.  special: what special tokens read as, where the
    engine's text contains them; the shortest first.
    """

    n: int
    candidates: int
    asked: int
    log_probs: int | None
    tell_raw: bool
    tell_tokens: bool
    tell_log_probs: bool
    echo: bool
    nothing: bool
    no_tokens: bool
    special: tuple[str, ...]


def answer_of(found: Object, wanted: Wanted) -> Object:
    """The answer for the engine's whole one."""
    usage, choices = found["usage"], found["choices"]
    if wanted.asked > wanted.n:
        skipped = usage["prompt_tokens"] if wanted.echo else 0
        choices = sorted(choices, key=lambda choice: _mean_log_prob(choice, skipped), reverse=True)[: wanted.n]
    told = [{**_Telling(wanted).part(choice), "finish_reason": _finish_reason(choice, wanted)} for choice in choices]
    told *= wanted.n // len(told)
    return {
        "model_version": found["model"],
        "completions": [{"index": index, **each} for index, each in enumerate(told)],
        **_counts(usage, wanted),
    }


def _counts(usage: Object, wanted: Wanted) -> Object:
    generated = 0 if wanted.no_tokens else usage.get("completion_tokens", 0) * wanted.candidates // wanted.asked
    return {
        "num_tokens_prompt_total": usage["prompt_tokens"] * wanted.candidates,
        "num_tokens_generated": generated,
    }


def _mean_log_prob(choice: Object, skipped: int) -> float:
    found = [value for _, value, _ in _logged(choice)[skipped:] if value is not None]
    return sum(found) / len(found) if found else -math.inf


def _finish_reason(choice: Object, wanted: Wanted) -> str:
    """The vendor's word for why the engine ended a completion."""
    reason = str(choice["finish_reason"])
    if reason == "length" or wanted.no_tokens:
        return "maximum_tokens"
    if reason == "stop":
        return "stop_sequence_reached" if isinstance(choice.get("stop_reason"), str) else "end_of_text"
    return reason


def _logged(choice: Object) -> list[tuple[str, float | None, Object]]:
    """Of each token its text, its log probability and that of the best by text."""
    logprobs = choice.get("logprobs") or {}
    if logprobs.get("content"):
        return [
            (each["token"], each["logprob"], {top["token"]: top["logprob"] for top in [*each["top_logprobs"], each]})
            for each in logprobs["content"]
        ]
    parts = (logprobs.get(key) or () for key in ("tokens", "token_logprobs", "top_logprobs"))
    return [(token, value, top or {}) for token, value, top in zip(*parts, strict=True)]


@dataclass
class _Telling:
    """One completion, told in one piece or in many."""

    wanted: Wanted
    held: str = field(default="", init=False)

    def part(self, choice: Object) -> Object:
        """What a choice of the engine says, whole or a chunk."""
        wanted = self.wanted
        text, logged = ("", []) if wanted.nothing else (engine.text_of(choice), _logged(choice))
        raw, over = text, choice.get("finish_reason") is not None
        if over and logged and _finish_reason(choice, wanted) == "end_of_text":
            raw += logged[-1][0]  # the engine's text ends before the end token
        told: Object = {"completion": self._without_special(text, over)}
        if wanted.tell_raw:
            told["raw_completion"] = raw
        if wanted.tell_tokens:
            told["completion_tokens"] = [token for token, _, _ in logged]
        if wanted.tell_log_probs:
            told["log_probs"] = [top for _, _, top in logged]
        return told

    def _without_special(self, text: str, over: bool) -> str:
        """The text without special tokens. What may be the beginning of one is kept until more comes."""
        special = self.wanted.special
        if not special:
            return text
        text, self.held = self.held + text, ""
        found, at = [], 0
        begin = re.compile("[" + re.escape("".join({token[0] for token in special})) + "]")
        while hit := begin.search(text, at):
            found.append(text[at : hit.start()])
            at = hit.start()
            token = next((token for token in special if text.startswith(token, at)), None)
            if token is None and not over and any(token.startswith(text[at:]) for token in special):
                self.held = text[at:]
                return "".join(found)
            if token is None:
                found.append(text[at])
                at += 1
            else:
                at += len(token)
        return "".join([*found, text[at:]])


class Events:
    """The stream. No `[DONE]` is in it, nor anything but lines with `data: `, on which the client would raise."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._told: dict[int, _Telling] = {}

    def chunk(self, chunk: Object) -> bytes:
        if not chunk["choices"]:
            return event({"type": "completion_summary", **_counts(chunk["usage"], self._wanted)})
        return b"".join([data for choice in chunk["choices"] for data in self._choice(choice, chunk["model"])])

    def _choice(self, choice: Object, model: str) -> Iterator[bytes]:
        telling = self._told.setdefault(choice["index"], _Telling(self._wanted))
        part = telling.part(choice)
        repeated = self._wanted.n > 1 and self._wanted.asked == 1
        for index in range(self._wanted.n) if repeated else [choice["index"]]:
            if any(part.values()):
                yield from _pieces({"type": "stream_chunk", "index": index, **part})
            if choice.get("finish_reason") is not None:
                reason = _finish_reason(choice, self._wanted)
                yield event({"type": "stream_summary", "index": index, "model_version": model, "finish_reason": reason})

    def end(self) -> bytes:
        return b""

    def failure(self, failure: Failure) -> bytes:
        return failure_line(failure)


def failure_line(failure: Failure) -> bytes:
    """What makes the client raise with this text: it has no event for errors."""
    return f"upstream failed: {' '.join(failure.message.split())}\n\n".encode(errors="replace")


def _pieces(told: Object) -> Iterator[bytes]:
    """What is told as an event, in several if it is too long for the client's reader: an echoed prompt is one chunk."""
    data = event(told)
    parts = {key: value for key, value in told.items() if isinstance(value, str | list) and key != "type"}
    if len(data) <= MOST_EVENT_BYTES or max(map(len, parts.values())) < 2:
        yield data
        return
    halves: tuple[Any, Any] = ({}, {})
    for key, value in parts.items():
        middle = (len(value) + 1) // 2
        halves[0][key], halves[1][key] = value[:middle], value[middle:]
    for half in halves:
        yield from _pieces(told | half)
