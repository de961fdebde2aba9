"""Answers by chance, right and tampered with: the client gets what was understood, and cannot read it otherwise."""

from __future__ import annotations

import h11
import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from berth_gateway import http1
from tests.unit.gateway import messages, strict
from tests.unit.gateway.corpus import Answered, cut, follow

tampered = messages.answers().flatmap(lambda right: messages.tampered(right[0]))


def relayed(answered: Answered) -> bytes:
    """An answer whose end has come, as the client gets it, its chunks made anew."""
    body = answered.body
    if answered.length == http1.CHUNKED:
        body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return answered.head + b"\r\n" + body


def by_h11(data: bytes, method: str) -> tuple[int, bytes, bytes]:
    """Status, body and what comes after the one answer in these bytes, as h11 reads it."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    answer = connection.next_event()
    assert isinstance(answer, h11.Response)
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += event.data
    return answer.status_code, body, connection.trailing_data[0]


def by_llhttp(data: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer in these bytes, as llhttp reads them."""
    found: list[tuple[int, bytes]] = []
    body = b""

    class Protocol:
        def on_body(self, data: bytes) -> None:
            nonlocal body
            body += data

        def on_message_complete(self) -> None:
            found.append((parser.get_status_code(), body))

    parser = httptools.HttpResponseParser(Protocol())
    parser.feed_data(data)
    return found


@given(messages.answers(), messages.cuts, st.binary(max_size=3))
def test_right_answers_are_understood_in_whatever_pieces_they_come(
    right: tuple[bytes, int, bytes], at: list[int], after: bytes
) -> None:
    data, status, body = right
    answered = follow(cut(data + after, at))
    assert (answered.status, answered.body, answered.ended, answered.rest) == (status, body, True, after)


@given(tampered, messages.cuts, st.booleans())
def test_the_pieces_in_which_an_answer_comes_change_nothing(data: bytes, at: list[int], to_head: bool) -> None:
    answered = follow([data], to_head)
    assert follow(cut(data, at), to_head) == answered
    assert follow(cut(data, range(len(data))), to_head) == answered


@given(tampered, st.booleans())
@example(b"HTTP/1.1 200 OK\r\ncontent-type: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", False)
def test_a_glance_sees_what_a_close_look_sees(data: bytes, to_head: bool) -> None:
    try:
        expected = http1._read_head(data, 0, to_head)
    except http1.BadAnswer:
        expected = None
        try:
            http1.read_head(data, 0, to_head)
            raise AssertionError("It is refused at a close look.")
        except http1.BadAnswer:
            return
    assert http1.read_head(data, 0, to_head) == expected


@given(tampered, st.booleans())
@example(b"HTTP/1.1 204 x\r\ntransfer-encoding: chunked\r\n\r\n", False)
def test_what_is_understood_is_what_the_strictest_reader_understands(data: bytes, to_head: bool) -> None:
    answered = follow([data], to_head)
    if answered.status <= 0:
        return
    expected = strict.answer(data, to_head)
    framing = {http1.CHUNKED: "chunked", http1.UNTIL_CLOSE: "close"}.get(answered.length, "length")
    assert answered.status == expected.status
    assert framing == expected.framing or (answered.length == 0 and expected.framing == "none")
    assert (answered.ended, answered.rest) == (expected.ended, expected.rest)
    if answered.ended or answered.length != http1.CHUNKED:
        assert answered.body == expected.body
    gone = {b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"proxy-connection", b"proxy-authenticate"}
    named = b",".join(strict.values(expected.headers, b"connection")).lower().split(b",")
    if not data.startswith(b"HTTP/1.1") or b"close" in [name.strip(b" \t") for name in named]:
        assert not answered.keep_alive
    gone |= {name.strip(b" \t") for name in named} - {b"content-length", b"transfer-encoding"}
    if answered.status < 200 or answered.status == 204:
        gone |= {b"content-length", b"transfer-encoding"}
    kept = strict.answer(answered.head + b"\r\n", True).headers
    assert kept == [(name, value) for name, value in expected.headers if name not in gone]


@given(tampered, st.booleans())
def test_the_client_gets_one_answer_and_the_one_that_was_understood(data: bytes, to_head: bool) -> None:
    answered = follow([data], to_head)
    if not answered.ended or answered.status < 200:
        return
    sent = relayed(answered._replace(length=0) if to_head else answered)
    assert by_h11(sent, "HEAD" if to_head else "GET") == (answered.status, answered.body, b"")
    if not to_head:
        assert by_llhttp(sent) == [(answered.status, answered.body)]


@given(messages.bodies.flatmap(messages.chunked).flatmap(messages.tampered), messages.cuts)
def test_chunks_end_where_the_strictest_reader_sees_their_end(data: bytes, at: list[int]) -> None:
    try:
        body, rest = strict.chunks(data)
    except (strict.Wrong, strict.Short) as error:
        assert ending(cut(data, at)) == (None if isinstance(error, strict.Wrong) else -1)
        return
    into: list[bytes] = []
    assert ending(cut(data, at), into) == len(data) - len(rest)
    assert b"".join(into) == body


def ending(pieces: list[bytes], into: list[bytes] | None = None) -> int | None:
    """Where the chunks in these pieces end, -1 when they do not, None when they are refused."""
    chunked, before = http1.Chunked(), 0
    try:
        for piece in pieces:
            end = chunked.feed(piece, into)
            if end >= 0:
                return before + end
            before += len(piece)
    except http1.BadAnswer:
        return None
    return -1
