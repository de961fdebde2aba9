"""Keys in requests: where they are found, and which is right.

Input: headers as clients send them, and as nobody should. Output: what may be a key, and whether it is one.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from berth_apis import credentials

Headers = list[tuple[bytes, bytes]]


def basic(pair: str) -> bytes:
    """The value of an Authorization header."""
    return b"Basic " + base64.b64encode(pair.encode())


FORMS: dict[str, Callable[[str], tuple[bytes, bytes]]] = {
    "x-api-key": lambda key: (b"x-api-key", key.encode()),
    "Bearer": lambda key: (b"authorization", b"Bearer " + key.encode()),
    "bearer": lambda key: (b"Authorization", b"bearer  " + key.encode() + b" "),
    "Basic": lambda key: (b"authorization", basic(f"{key}:")),
    "Basic with a password": lambda key: (b"authorization", basic(f"{key}:anything:else")),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_request_presents_its_key_in_each_form(form: Any) -> None:
    headers = [(b"host", b"x"), form("key-one"), (b"cookie", b"Bearer key-two")]
    assert b"key-one" in credentials.presented(headers)
    assert b"key-two" not in credentials.presented(headers)
    assert credentials.presents(headers, "key-one")
    assert not credentials.presents(headers, "key-two")


def test_an_empty_key_is_none() -> None:
    assert (
        credentials.presented([(b"x-api-key", b" "), (b"authorization", b"Bearer "), (b"authorization", basic(":"))])
        == []
    )
    assert not credentials.presents([(b"x-api-key", b"")], "")


def test_no_key_of_many_wrong_ones_matches() -> None:
    assert not credentials.matches((b"%d" % number for number in range(5000)), {credentials.digest(b"key-one")})


SCHEMES = st.sampled_from([b"", b"Basic ", b"basic ", b"Bearer ", b"Bearer", b"Digest ", b"Basic  ", b"\xff "])
VALUES = st.builds(
    lambda scheme, value, encode: scheme + (base64.b64encode(value) if encode else value),
    SCHEMES,
    st.binary(max_size=60) | st.sampled_from([b"key:", b":key", b"key", b"=", b"key=key"]),
    st.booleans(),
)
HEADERS = st.lists(st.tuples(st.sampled_from([b"authorization", b"x-api-key", b"cookie", b"X-Api-Key"]), VALUES))


@given(HEADERS)
@example([(b"authorization", b"Basic")])
@example([(b"authorization", b"Basic \xc3\xa4")])
@example([(b"authorization", b"Basic YQ")])
def test_headers_never_raise_and_offer_only_what_was_sent(headers: Headers) -> None:
    offered = credentials.presented(headers)
    assert len(offered) <= 8
    decoded = b"\n".join(value for _, value in headers)
    for _, value in headers:
        for word in value.split():
            try:
                decoded += b"\n" + base64.b64decode(word, validate=True)
            except ValueError:
                continue
    assert all(key and key in decoded for key in offered)


@given(HEADERS, st.binary(min_size=1, max_size=20))
@example([(b"x-api-key", b"ke")], b"key")
@example([(b"x-api-key", b"keys")], b"key")
@example([(b"authorization", basic("a:key"))], b"key")
def test_only_the_key_itself_matches(headers: Headers, key: bytes) -> None:
    offered = credentials.presented(headers)
    digests = frozenset({hashlib.sha256(key).digest(), hashlib.sha256(b"another").digest()})
    assert credentials.matches(offered, digests) == bool({key, b"another"} & set(offered))
    assert not credentials.matches(offered, ())


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), st.sampled_from(sorted(FORMS)))
def test_any_visible_key_is_found_in_any_form(key: str, form: str) -> None:
    found = credentials.presented([FORMS[form](key)])
    if form != "Basic with a password" or ":" not in key:
        assert key.encode() in found
