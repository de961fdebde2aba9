"""The body of a request, whatever it holds."""

from __future__ import annotations

import pytest

from berth_apis.http import Refused
from tests.unit.apis.engine import request


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "must be a JSON object, not list"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": 1' + b"0" * 400 + b"}", "is too large a number"),
        (b'{"a": -1e999}', "-1e999 is too large a number"),
        (b'{"a": "\xff"}', "no Unicode text: invalid start byte"),
        (b'{"a": "\xed\xa0\x80"}', "no Unicode text: invalid continuation byte"),
        (b'{"a": "\\ud800"}', "no Unicode text: surrogates not allowed"),
        (b'{"\\uDFFF": 1}', "no Unicode text: surrogates not allowed"),
    ],
)
def test_what_is_no_object(data: bytes, words: str) -> None:
    with pytest.raises(Refused, match=words):
        request("POST", "/", data).object()


def test_any_text() -> None:
    assert request("POST", "/", b'{"a": "\\ud83d\\ude42 \xc3\xa9 \\u2028 \\u0000"}').object() == {"a": "🙂 é \u2028 \0"}
