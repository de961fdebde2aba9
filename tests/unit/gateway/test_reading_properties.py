"""Requests by chance, right and tampered with: what is forwarded is what was read, and cannot be read otherwise."""

from __future__ import annotations

import h11
import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from berth_gateway import reading
from berth_gateway.reading import Asked
from tests.unit.gateway import messages, strict
from tests.unit.gateway.corpus import Outcome, cut, read

Read = tuple[str, str, bytes]


def forwarded(asked: Asked, body: bytes) -> bytes:
    """The request as a pod gets it."""
    first = f"{asked.method} {asked.target} HTTP/1.1\r\nhost: pod\r\n".encode()
    return first + asked.forward + asked.credentials + b"content-length: %d\r\n\r\n" % len(body) + body


def path_of(target: bytes) -> str:
    """A target in origin form."""
    if not target.lower().startswith((b"http://", b"https://")):
        return target.decode()
    rest = target.partition(b"://")[2]
    ends = [at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0]
    path = rest[min(ends) :] if ends else b""
    return (path if path.startswith(b"/") else b"/" + path).decode()


def by_llhttp(data: bytes) -> list[Read]:
    """What the servers of our pods make of these bytes, which read with llhttp."""
    found: list[Read] = []
    target, body = b"", b""

    class Protocol:
        def on_message_begin(self) -> None:
            nonlocal target, body
            target, body = b"", b""

        def on_url(self, url: bytes) -> None:
            nonlocal target
            target += url

        def on_body(self, data: bytes) -> None:
            nonlocal body
            body += data

        def on_message_complete(self) -> None:
            found.append((parser.get_method().decode(), target.decode(), body))

    parser = httptools.HttpRequestParser(Protocol())
    parser.feed_data(data)
    return found


def by_h11(data: bytes) -> Read:
    """The one request in these bytes, as h11 reads it."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += event.data
    assert not event.headers
    assert connection.trailing_data == (b"", False)
    return request.method.decode(), request.target.decode(), body


tampered = st.lists(messages.requests(), min_size=1, max_size=3).flatmap(
    lambda several: messages.tampered(b"".join(data for data, _ in several))
)


@given(st.lists(messages.requests(), min_size=1, max_size=4), messages.cuts)
def test_right_requests_are_read_in_whatever_pieces_they_come(several: list[tuple[bytes, Read]], at: list[int]) -> None:
    data = b"".join(data for data, _ in several)
    assert read(cut(data, at))[0] == Outcome(tuple(expected for _, expected in several))


@given(tampered, messages.cuts)
def test_the_pieces_in_which_a_request_comes_change_nothing(data: bytes, at: list[int]) -> None:
    reading._known.clear()
    outcome, found = read([data])
    assert read(cut(data, at)) == (outcome, found)
    assert read(cut(data, range(len(data)))) == (outcome, found)


@given(tampered)
@example(b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\nGET /y HTTP/1.0\r\n\r\n")
def test_what_is_read_is_what_the_strictest_reader_reads(data: bytes) -> None:
    outcome, found = read([data])
    rest = data
    for asked, body in found:
        expected = strict.request(rest)
        assert asked.method == expected.method.decode()
        assert asked.target == path_of(expected.target)
        assert asked.version == expected.version.removeprefix(b"HTTP/").decode()
        assert list(asked.headers) == [pair for pair in expected.headers if pair[0] != b"content-length"]
        assert body == expected.body
        rest = expected.rest
    if outcome.begun:
        try:
            strict.request(rest)
            raise AssertionError("It was whole.")
        except strict.Short:
            pass


@given(tampered)
@example(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello")
def test_what_is_forwarded_is_one_request_and_the_one_that_was_read(data: bytes) -> None:
    _, found = read([data])
    for asked, body in found:
        sent = forwarded(asked, body)
        assert by_llhttp(sent) == [(asked.method, asked.target, body)]
        assert by_h11(sent) == (asked.method, asked.target, body)
        again = strict.request(sent)
        assert (again.method.decode(), again.target.decode(), again.body, again.rest) == (*by_h11(sent), b"")
        names = [name for name, _ in again.headers]
        assert names.count(b"content-length") == names.count(b"host") == 1
        assert not {b"transfer-encoding", b"connection", b"upgrade", b"expect", b"te", b"trailer"} & set(names)
        assert not [name for name in names if name.startswith(b"x-berth-")]


@given(st.lists(tampered, min_size=2, max_size=4), st.integers(0, 10**16))
@example(
    [
        b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
    ],
    0,
)
def test_heads_that_came_before_change_nothing(several: list[bytes], length: int) -> None:
    # The same again, but for the length.
    several += [data.replace(b"ength: ", b"ength: %d" % length, 1) for data in several]
    expected = []
    for data in several:
        reading._known.clear()
        expected.append(read([data]))
    reading._known.clear()
    for _ in range(2):
        assert [read([data]) for data in several] == expected
