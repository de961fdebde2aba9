"""Answers of the gateway's own, as bytes of HTTP/1.1."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import berth_apis
from berth_apis.http import Answer

ALL = tuple(dialect.NAME for dialect in berth_apis.DIALECTS)
"""The names of all APIs."""

_REASONS = {status.value: status.phrase for status in HTTPStatus}


def plain(status: int, text: str) -> Answer:
    """A few words."""
    return Answer(status, text.encode(), "text/plain; charset=utf-8")


def with_header(answer: Answer, name: str, value: str) -> Answer:
    """The answer with one more header."""
    return replace(answer, headers=(*answer.headers, (name, value)))


def written(answer: Answer, to_head: bool, close: bool) -> bytes:
    """The whole answer. to_head: to a HEAD request, without the body.  close: the connection ends with it."""
    lines = [
        f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Unknown')}",
        f"content-type: {answer.content_type}",
        f"content-length: {len(answer.body)}",
        *(f"{name.lower()}: {value}" for name, value in answer.headers),
        *(("connection: close",) if close else ()),
    ]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + (b"" if to_head else answer.body)
