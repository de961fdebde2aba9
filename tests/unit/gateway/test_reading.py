"""What a request's head becomes, and what a Reader holds and lets go of."""

import gc
import tracemalloc
import weakref

import pytest

from berth_gateway import reading
from berth_gateway.reading import Asked, BadRequest, Reader

MOST = 1 << 20


def head(*lines: bytes, first: bytes = b"POST /v1/x?y=z HTTP/1.1") -> bytes:
    return b"\r\n".join([first, b"Host: gateway:8080", *lines, b"", b""])


def asked(*lines: bytes, first: bytes = b"POST /v1/x?y=z HTTP/1.1") -> Asked:
    """What is asked with these headers."""
    reader = Reader(MOST)
    reader.feed(head(*lines, first=first))
    assert reader.asked is not None
    return reader.asked


def test_a_head_is_read_as_it_was_sent() -> None:
    found = asked(b"Accept:  */* ", b"X-Twice: 1", b"x-twice: 2", b"Content-Length: 0")
    assert found == Asked(
        method="POST",
        target="/v1/x?y=z",
        path="/v1/x",
        query="y=z",
        headers=((b"host", b"gateway:8080"), (b"accept", b"*/*"), (b"x-twice", b"1"), (b"x-twice", b"2")),
        host="gateway:8080",
        keep_alive=True,
        version="1.1",
        expects=False,
        forward=b"accept: */*\r\nx-twice: 1\r\nx-twice: 2\r\n",
        credentials=b"",
        traceparent="",
        session=b"",
    )


def test_a_url_becomes_its_path_and_its_host() -> None:
    found = asked(first=b"GET http://Gateway:8080?y=%20 HTTP/1.1")
    assert (found.target, found.path, found.query, found.host) == ("/?y=%20", "/", "y=%20", "Gateway:8080")


def test_an_empty_query_is_kept_in_the_target() -> None:
    found = asked(first=b"GET /x? HTTP/1.1")
    assert (found.target, found.path, found.query) == ("/x?", "/x", "")


def test_nothing_of_the_connection_or_of_framing_is_forwarded() -> None:
    found = asked(
        b"Connection: keep-alive, X-Own, accept",
        b"Connection: x-other",
        b"Keep-Alive: timeout=5",
        b"Proxy-Authorization: Basic eA==",
        b"Proxy-Authenticate: x",
        b"Proxy-Connection: keep-alive",
        b"TE: trailers",
        b"Trailer: x",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
        b"Transfer-Encoding: chunked",
        b"X-Own: 1",
        b"X-Other: 2",
        b"Accept: 3",
        b"X-Kept: 4",
    )
    assert found.forward == b"x-kept: 4\r\n"


def test_a_length_is_not_forwarded() -> None:
    assert asked(b"Content-Length: 3", b"A: 1").forward == b"a: 1\r\n"


def test_what_berth_says_of_a_request_comes_from_no_client() -> None:
    assert asked(b"X-Berth-Owner: root", b"x-berth-: 1", b"X-Berthed: 1").forward == b"x-berthed: 1\r\n"


def test_credentials_are_apart_from_what_is_forwarded() -> None:
    found = asked(b"A: 1", b"Authorization: Bearer k", b"B: 2", b"X-API-Key:k2", b"Authorization: Basic eA==")
    assert found.forward == b"a: 1\r\nb: 2\r\n"
    assert found.credentials == b"authorization: Bearer k\r\nx-api-key: k2\r\nauthorization: Basic eA==\r\n"


def test_credentials_are_all_those_of_the_headers_whatever_connection_names() -> None:
    found = asked(
        b"Authorization: Bearer k", b"X-Api-Key: k2", b"Connection: Authorization, x-api-key, x-own", b"X-Own: 1"
    )
    assert found.credentials == b"authorization: Bearer k\r\nx-api-key: k2\r\n"
    assert found.forward == b""


@pytest.mark.parametrize(
    ("version", "lines", "keep_alive"),
    [
        (b"1.1", (), True),
        (b"1.1", (b"Connection: close",), False),
        (b"1.1", (b"Connection: a,\tClose ",), False),
        (b"1.1", (b"Connection: keep-alive", b"Connection: close"), False),
        (b"1.1", (b"Connection: closed",), True),
        (b"1.1", (b"Proxy-Connection: close",), True),
        (b"1.0", (), False),
        (b"1.0", (b"Connection: Keep-Alive",), True),
        (b"1.0", (b"Connection: keep-alive, close",), False),
        (b"1.0", (b"Keep-Alive: timeout=5",), False),
    ],
)
def test_a_connection_is_kept_when_the_client_says_so(
    version: bytes, lines: tuple[bytes, ...], keep_alive: bool
) -> None:
    found = asked(*lines, first=b"GET / HTTP/" + version)
    assert found.keep_alive is keep_alive
    assert found.version == version.decode()


def test_a_client_of_http_1_1_can_wait_for_100_continue() -> None:
    assert asked(b"Expect: 100-Continue", b"Content-Length: 1").expects
    assert not asked(b"Expect: 100-continue", b"Content-Length: 1", first=b"POST / HTTP/1.0").expects


@pytest.mark.parametrize(
    ("lines", "traceparent"),
    [
        ((b"traceparent: 00-%s-%s-01" % (b"a" * 32, b"b" * 16),), f"00-{'a' * 32}-{'b' * 16}-01"),
        ((b"traceparent: 00-%s-%s-01" % (b"a" * 31, b"b" * 16),), ""),
        ((b"traceparent: 00-%s-%s-01 x" % (b"a" * 32, b"b" * 16),), ""),
        ((b'traceparent: "', b"traceparent: x"), ""),
        ((b"traceparent: 00-%s-%s-01" % (b"a" * 32, b"b" * 16),) * 2, ""),
    ],
)
def test_a_trace_is_known_only_when_it_is_one(lines: tuple[bytes, ...], traceparent: str) -> None:
    assert asked(*lines).traceparent == traceparent


def test_a_session_is_the_first_one_that_says_something() -> None:
    assert asked(b"X-Session-Id: ", b"x-other: o", b"x-session-ID: s ", b"x-session-id: t").session == b"s"
    assert asked(b"x-other: o").session == b""


def test_a_head_is_known_before_its_body_is_here() -> None:
    reader = Reader(MOST)
    reader.feed(head(b"Content-Length: 5"))
    assert (reader.asked is not None, reader.complete, reader.received_bytes) == (True, False, 0)
    reader.feed(b"he")
    assert (reader.complete, reader.received_bytes) == (False, 2)
    reader.feed(b"lloGET")
    assert (reader.complete, reader.received_bytes, reader.take_body(), reader.waiting()) == (True, 5, b"hello", 3)


def test_what_comes_after_a_request_waits() -> None:
    reader = Reader(MOST)
    reader.feed(head(first=b"GET /1 HTTP/1.1"))
    reader.feed(head(first=b"GET /2 HTTP/1.1"))
    reader.feed(b"GET /3")
    assert reader.asked is not None
    assert reader.asked.path == "/1"
    reader.next()
    assert reader.complete
    assert reader.asked is not None
    assert reader.asked.path == "/2"
    reader.next()
    assert reader.asked is None
    assert not reader.complete
    assert reader.waiting() == len(b"GET /3")
    reader.feed(head(first=b" HTTP/1.1"))
    assert reader.asked is not None
    assert reader.asked.path == "/3"
    assert reader.waiting() == 0


def test_the_next_request_cannot_begin_within_a_body() -> None:
    reader = Reader(MOST)
    reader.feed(head(b"Content-Length: 5") + b"he")
    with pytest.raises(RuntimeError):
        reader.next()


def test_what_was_refused_stays_refused() -> None:
    reader = Reader(MOST)
    with pytest.raises(BadRequest) as first:
        reader.feed(head(b"X : 1"))
    with pytest.raises(BadRequest) as second:
        reader.feed(head())
    assert (first.value.status, first.value.message) == (second.value.status, second.value.message)
    assert reader.asked is None


def test_a_body_can_be_refused_after_its_head() -> None:
    reader = Reader(MOST)
    reader.feed(head(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
    assert reader.asked is not None
    with pytest.raises(BadRequest):
        reader.feed(b"x\r\n")
    assert not reader.complete


def test_a_body_that_is_announced_too_large_is_refused_with_its_head() -> None:
    reader = Reader(10)
    with pytest.raises(BadRequest, match="larger than 10 bytes") as refused:
        reader.feed(head(b"Content-Length: 11"))
    assert refused.value.status == 413
    assert reader.asked is not None


def test_the_limit_of_a_body_holds_for_each_request() -> None:
    reader = Reader(10)
    for _ in range(3):
        reader.feed(head(b"Transfer-Encoding: chunked") + b"a\r\n0123456789\r\n0\r\n\r\n")
        assert reader.take_body() == b"0123456789"
        reader.next()


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: s3cret\x01",
        b"Authorization : s3cret",
        b"s3cret",
        b"Content-Length: s3cret",
        b"Transfer-Encoding: s3cret, chunked",
        b"Host: s3cret",
        b"Expect: s3cret",
    ],
)
def test_no_refusal_repeats_what_a_client_sent(line: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        asked(line)
    assert "s3cret" not in refused.value.message


def test_a_head_that_came_before_is_the_same_object_whatever_its_length() -> None:
    found = []
    for body in (b"", b"a", b"bc" * 500):
        reader = Reader(MOST)
        reader.feed(head(b"A: same", b"Content-Length: %d" % len(body)) + body)
        assert reader.take_body() == body
        found.append(reader.asked)
    assert found[0] is found[1] is found[2]


def test_a_head_that_came_before_does_not_lift_the_limit() -> None:
    Reader(10).feed(head(b"A: limit", b"Content-Length: 10"))
    with pytest.raises(BadRequest):
        Reader(10).feed(head(b"A: limit", b"Content-Length: 11"))


def test_an_empty_length_is_refused_though_the_rest_came_before() -> None:
    asked(b"A: empty", b"Content-Length: 5")
    with pytest.raises(BadRequest):
        asked(b"A: empty", b"Content-Length: ")


def test_heads_that_came_before_are_bounded() -> None:
    reading._known.clear()
    for number in range(1100):
        asked(b"A: %d" % number, b"Content-Length: 0")
    assert len(reading._known) == 1000
    asked(b"A: " + b"x" * 5000, b"Content-Length: 1")
    assert max(map(len, reading._known)) <= 4096


def test_a_head_that_waits_for_100_continue_is_read_anew() -> None:
    reading._known.clear()
    asked(b"Expect: 100-continue", b"Content-Length: 1")
    assert not reading._known


def test_a_body_in_one_piece_is_copied_once() -> None:
    body = bytes(MOST)
    data = head(b"Content-Length: %d" % MOST) + body
    reader = Reader(MOST)
    tracemalloc.start()
    try:
        reader.feed(data)
        assert reader.take_body() == body
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.1 * MOST


@pytest.mark.parametrize("framing", [b"Content-Length: 50000", b"Transfer-Encoding: chunked"])
def test_a_body_of_tiny_pieces_takes_little_more_than_itself(framing: bytes) -> None:
    reader = Reader(MOST)
    reader.feed(head(framing))
    piece = b"1\r\nx\r\n" if b"chunked" in framing else b"x"
    tracemalloc.start()
    try:
        for _ in range(50000):
            reader.feed(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.received_bytes == 50000
    assert held < 100_000


def test_a_reader_goes_with_its_connection_and_needs_no_garbage_collector() -> None:
    class Watched(Reader):
        pass

    gc.collect()
    gc.disable()
    try:
        reader = Watched(MOST)
        reader.feed(head(b"Content-Length: 3") + b"abc")
        reader.next()
        reader.feed(head(b"Transfer-Encoding: chunked") + b"3\r\nab")
        gone = weakref.ref(reader)
        del reader
        assert gone() is None
        reader = Watched(MOST)
        refused = False
        try:
            reader.feed(head(b"X : 1"))
        except BadRequest:
            refused = True
        assert refused
        gone = weakref.ref(reader)
        del reader
        assert gone() is None
    finally:
        gc.enable()


def test_the_end_lets_go_of_all_bytes() -> None:
    reader = Reader(MOST)
    reader.feed(head(b"Content-Length: 3") + b"abcGET /")
    reader.end()
    assert (reader.asked, reader.complete, reader.waiting(), reader.take_body()) == (None, False, 0, b"")
