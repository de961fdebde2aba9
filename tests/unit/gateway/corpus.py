"""Requests and answers, plain ones and those that could be read in two ways, each with what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from berth_gateway import http1
from berth_gateway.reading import Asked, BadRequest, Reader

MOST_BODY_BYTES = 1000


class Outcome(NamedTuple):
    """requests: method, target and body of each.  status: of the refusal that came then, or 0.

    begun: the last one is not whole.
    """

    requests: tuple[tuple[str, str, bytes], ...]
    status: int = 0
    begun: bool = False


class Answered(NamedTuple):
    """status: -1 when it was refused.  head: for the client.  ended: the body is whole.  rest: what came after it."""

    status: int
    head: bytes = b""
    length: int = 0
    keep_alive: bool = False
    event_stream: bool = False
    body: bytes = b""
    ended: bool = False
    rest: bytes = b""


def read(pieces: Iterable[bytes], most_body_bytes: int = MOST_BODY_BYTES) -> tuple[Outcome, list[tuple[Asked, bytes]]]:
    """What a Reader makes of these pieces, and the requests in full."""
    reader = Reader(most_body_bytes)
    found: list[tuple[Asked, bytes]] = []
    status = 0
    try:
        for piece in pieces:
            reader.feed(piece)
            while reader.complete:
                assert reader.asked is not None
                body = reader.take_body()
                assert reader.received_bytes == len(body)
                found.append((reader.asked, body))
                reader.next()
    except BadRequest as bad:
        status = bad.status
    requests = tuple((asked.method, asked.target, body) for asked, body in found)
    return Outcome(requests, status, status == 0 and (reader.asked is not None or reader.waiting() > 0)), found


def follow(pieces: Iterable[bytes], to_head: bool = False) -> Answered:
    """What is made of the first answer in these pieces: its head by read_head, its body by what the head says."""
    buffer, head, body, after, ended = b"", None, [], b"", False
    chunked = http1.Chunked()
    try:
        for data in pieces:
            if head is None:
                buffer += data
                found = http1.read_head(buffer, 0, to_head)
                if found is None:
                    continue
                head, start = found
                ended = head.length == 0
                data = buffer[start:]
            if ended:
                after += data
            elif head.length == http1.CHUNKED:
                end = chunked.feed(data, body)
                if end >= 0:
                    ended, after = True, data[end:]
            elif head.length == http1.UNTIL_CLOSE:
                body.append(data)
            else:
                left = head.length - sum(map(len, body))
                body.append(data[:left])
                ended, after = len(data) >= left, data[left:]
    except http1.BadAnswer:
        return Answered(-1)
    if head is None:
        return Answered(0)
    return Answered(*head, b"".join(body), ended, after)


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """`data` in pieces, none of them empty."""
    places = sorted({place for place in at if 0 < place < len(data)})
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True) if begin < end]


def _get(*lines: bytes, first: bytes = b"GET /x HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join([first, b"Host: a", *lines, b"", b""]) + body


def _post(*lines: bytes, version: bytes = b"1.1", body: bytes = b"") -> bytes:
    return _get(*lines, first=b"POST /x HTTP/" + version, body=body)


def _chunked(body: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", body=body)


GET = (("GET", "/x", b""),)
HELLO = (("POST", "/x", b"hello"),)
LENGTH = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"
HELLO_CHUNK = b"5\r\nhello\r\n"
END = b"0\r\n\r\n"

REQUESTS: dict[str, tuple[bytes, Outcome]] = {
    # Plain ones.
    "no body": (_get(), Outcome(GET)),
    "a body with a length": (_post(LENGTH, body=b"hello"), Outcome(HELLO)),
    "a length of zero": (_post(b"Content-Length: 0"), Outcome((("POST", "/x", b""),))),
    "a length with zeros before it": (_post(b"Content-Length: 005", body=b"hello"), Outcome(HELLO)),
    "a length between blanks": (_post(b"Content-Length: \t 5 \t", body=b"hello"), Outcome(HELLO)),
    "a length without a blank": (_post(b"content-length:5", body=b"hello"), Outcome(HELLO)),
    "a length in odd case": (_post(b"cOnTeNt-LeNgTh: 5", body=b"hello"), Outcome(HELLO)),
    "a body with GET": (_get(LENGTH, body=b"hello"), Outcome((("GET", "/x", b"hello"),))),
    "chunks": (_chunked(HELLO_CHUNK + END), Outcome(HELLO)),
    "several chunks": (_chunked(b"1\r\nh\r\n003\r\nell\r\n1\r\no\r\n000\r\n\r\n"), Outcome(HELLO)),
    "chunks in odd case": (_post(b"tRaNsFeR-eNcOdInG: ChUnKeD", body=HELLO_CHUNK + END), Outcome(HELLO)),
    "chunks with hexadecimal sizes": (
        _chunked(b"a\r\n0123456789\r\nA\r\n0123456789\r\n" + END),
        Outcome((("POST", "/x", b"0123456789" * 2),)),
    ),
    "no chunk but the last": (_chunked(END), Outcome((("POST", "/x", b""),))),
    "chunk extensions": (_chunked(b'5;a;b=c;d=" e\xff"\r\nhello\r\n0;f\r\n\r\n'), Outcome(HELLO)),
    "trailers": (_chunked(HELLO_CHUNK + b"0\r\nX-Sum: 1\r\nY:\r\n\r\n"), Outcome(HELLO)),
    "trailers that say a length": (
        _chunked(HELLO_CHUNK + b"0\r\nContent-Length: 9\r\n\r\n" + _get()),
        Outcome(HELLO + GET),
    ),
    "a chunk that holds another request": (
        _chunked(b"%x\r\n%s\r\n" % (len(_get()), _get()) + END),
        Outcome((("POST", "/x", _get()),)),
    ),
    "a chunk that holds chunks": (
        _chunked(b"14\r\n" + HELLO_CHUNK * 2 + b"\r\n" + HELLO_CHUNK + END),
        Outcome((("POST", "/x", HELLO_CHUNK * 2 + b"hello"),)),
    ),
    "a body that holds another request": (
        _post(b"Content-Length: %d" % len(_get()), body=_get()),
        Outcome((("POST", "/x", _get()),)),
    ),
    "a value with a colon and blanks": (_get(b"X:  a : b\t c  "), Outcome(GET)),
    "a value beyond ASCII": (_get(b"X: \x80\xff"), Outcome(GET)),
    "an empty value": (_get(b"X:"), Outcome(GET)),
    "every sign of a name": (_get(b"!#$%&'*+-.^_`|~09azAZ: 1"), Outcome(GET)),
    "HTTP/1.0": (_get(first=b"GET /x HTTP/1.0"), Outcome(GET)),
    "HTTP/1.0 without Host": (b"GET /x HTTP/1.0\r\n\r\n", Outcome(GET)),
    "HTTP/1.0 that keeps its connection": (
        _get(b"Connection: keep-alive", first=b"GET /x HTTP/1.0") * 2,
        Outcome(GET * 2),
    ),
    "HTTP/1.0 with a body": (_post(LENGTH, version=b"1.0", body=b"hello"), Outcome(HELLO)),
    "a query": (_get(first=b"GET /x?y=z&a=%2F/?b HTTP/1.1"), Outcome((("GET", "/x?y=z&a=%2F/?b", b""),))),
    "an empty query": (_get(first=b"GET /x? HTTP/1.1"), Outcome((("GET", "/x?", b""),))),
    "percent-encoding": (
        _get(first=b"GET /%2e%2E/%00/%0d%0a HTTP/1.1"),
        Outcome((("GET", "/%2e%2E/%00/%0d%0a", b""),)),
    ),
    "a path of two slashes": (_get(first=b"GET //b/x HTTP/1.1"), Outcome((("GET", "//b/x", b""),))),
    "a path with dots": (_get(first=b"GET /../x/./y HTTP/1.1"), Outcome((("GET", "/../x/./y", b""),))),
    "signs that belong encoded": (_get(first=b'GET /"<>\\^`{|} HTTP/1.1'), Outcome((("GET", '/"<>\\^`{|}', b""),))),
    "Expect": (_post(LENGTH, b"Expect: 100-Continue", body=b"hello"), Outcome(HELLO)),
    "TE": (_get(b"TE: trailers, deflate;q=0.5", b"Connection: TE"), Outcome(GET)),
    "a trailer that is announced": (
        _post(CHUNKED, b"Trailer: X", body=HELLO_CHUNK + b"0\r\nX: 1\r\n\r\n"),
        Outcome(HELLO),
    ),
    "Upgrade": (_get(b"Connection: Upgrade", b"Upgrade: websocket") + _get(), Outcome(GET * 2)),
    "Upgrade with a body": (_post(b"Connection: upgrade", b"Upgrade: h2c", LENGTH, body=b"hello"), Outcome(HELLO)),
    "Upgrade with chunks": (
        _post(b"Connection: upgrade", b"Upgrade: h2c", CHUNKED, body=HELLO_CHUNK + END),
        Outcome(HELLO),
    ),
    "Connection: close, and more": (_get(b"Connection: close") + _get(), Outcome(GET * 2)),
    # One after the other.
    "pipelined": (_get() * 3, Outcome(GET * 3)),
    "pipelined with bodies": ((_post(LENGTH, body=b"hello") + _chunked(HELLO_CHUNK + END)) * 2, Outcome(HELLO * 4)),
    "a second one that is bad": (_get() + _get(b"X : 1"), Outcome(GET, 400)),
    "a second one that has begun": (_get() + b"GET", Outcome(GET, begun=True)),
    "an empty line before": (b"\r\n" + _get(), Outcome(GET)),
    "an empty line after a body": (_post(LENGTH, body=b"hello\r\n") + _get(), Outcome(HELLO + GET)),
    "only an empty line": (b"\r\n", Outcome(())),
    # Early ends.
    "nothing": (b"", Outcome(())),
    "half a line": (b"GET /x HT", Outcome((), begun=True)),
    "half a head": (b"GET /x HTTP/1.1\r\nHost: a\r\nX", Outcome((), begun=True)),
    "a head without its last line feed": (_get()[:-1], Outcome((), begun=True)),
    "no body yet": (_post(LENGTH), Outcome((), begun=True)),
    "half a body": (_post(LENGTH, body=b"he"), Outcome((), begun=True)),
    "no chunk yet": (_chunked(b""), Outcome((), begun=True)),
    "half a size": (_chunked(b"5"), Outcome((), begun=True)),
    "half a chunk": (_chunked(b"5\r\nhel"), Outcome((), begun=True)),
    "a chunk without its end": (_chunked(b"5\r\nhello\r"), Outcome((), begun=True)),
    "no last chunk": (_chunked(HELLO_CHUNK), Outcome((), begun=True)),
    "a last chunk without its end": (_chunked(HELLO_CHUNK + b"0\r\n"), Outcome((), begun=True)),
    "half a trailer": (_chunked(HELLO_CHUNK + b"0\r\nX: 1\r\n"), Outcome((), begun=True)),
    # Length against coding.
    "length, then chunks": (_post(LENGTH, CHUNKED, body=END), Outcome((), 400)),
    "chunks, then length": (_post(CHUNKED, LENGTH, body=END), Outcome((), 400)),
    "length and another coding": (_post(LENGTH, b"Transfer-Encoding: gzip", body=b"hello"), Outcome((), 400)),
    "length zero and chunks": (_post(b"Content-Length: 0", CHUNKED, body=END), Outcome((), 400)),
    # Lengths.
    "a length twice, equal": (_post(LENGTH, LENGTH, body=b"hello"), Outcome((), 400)),
    "a length twice, unequal": (_post(LENGTH, b"content-length: 6", body=b"hello!"), Outcome((), 400)),
    "a length twice, far apart": (_post(LENGTH, b"X: 1", LENGTH, body=b"hello"), Outcome((), 400)),
    "a list of lengths, equal": (_post(b"Content-Length: 5, 5", body=b"hello"), Outcome((), 400)),
    "a list of lengths, unequal": (_post(b"Content-Length: 5,6", body=b"hello!"), Outcome((), 400)),
    "a length with a plus": (_post(b"Content-Length: +5", body=b"hello"), Outcome((), 400)),
    "a negative length": (_post(b"Content-Length: -5", body=b"hello"), Outcome((), 400)),
    "a negative zero": (_post(b"Content-Length: -0"), Outcome((), 400)),
    "a hexadecimal length": (_post(b"Content-Length: 0x5", body=b"hello"), Outcome((), 400)),
    "a length of hexadecimal digits": (_post(b"Content-Length: a", body=b"0123456789"), Outcome((), 400)),
    "a length with a fraction": (_post(b"Content-Length: 5.0", body=b"hello"), Outcome((), 400)),
    "a length with an exponent": (_post(b"Content-Length: 5e0", body=b"hello"), Outcome((), 400)),
    "a length with an underscore": (_post(b"Content-Length: 0_5", body=b"hello"), Outcome((), 400)),
    "a length of two words": (_post(b"Content-Length: 5 5", body=b"hello"), Outcome((), 400)),
    "a quoted length": (_post(b'Content-Length: "5"', body=b"hello"), Outcome((), 400)),
    "a length in other digits": (_post("Content-Length: ٥".encode(), body=b"hello"), Outcome((), 400)),
    "a length after a vertical tab": (_post(b"Content-Length: \x0b5", body=b"hello"), Outcome((), 400)),
    "a length after a no-break space": (_post(b"Content-Length: \xa05", body=b"hello"), Outcome((), 400)),
    "an empty length": (_post(b"Content-Length:", body=b"hello"), Outcome((), 400)),
    "a blank length": (_post(b"Content-Length: ", body=b"hello"), Outcome((), 400)),
    "a length that overflows 64 bits": (
        _post(b"Content-Length: 18446744073709551621", body=b"hello"),
        Outcome((), 400),
    ),
    "a length of many digits": (_post(b"Content-Length: " + b"9" * 100, body=b"hello"), Outcome((), 400)),
    "a length that is huge": (_post(b"Content-Length: 9999999999999999999"), Outcome((), 413)),
    "a length one too large": (_post(b"Content-Length: 1001"), Outcome((), 413)),
    "the largest length": (_post(b"Content-Length: 1000", body=b"x" * 1000), Outcome((("POST", "/x", b"x" * 1000),))),
    "a length before a colon's blank": (_post(b"Content-Length : 5", body=b"hello"), Outcome((), 400)),
    "a length under another name": (_post(b"Content_Length: 5"), Outcome((("POST", "/x", b""),))),
    # Codings.
    "gzip": (_post(b"Transfer-Encoding: gzip", body=END), Outcome((), 400)),
    "identity": (_post(b"Transfer-Encoding: identity", body=END), Outcome((), 400)),
    "gzip, chunked": (_post(b"Transfer-Encoding: gzip, chunked", body=END), Outcome((), 501)),
    "chunked, gzip": (_post(b"Transfer-Encoding: chunked, gzip", body=END), Outcome((), 400)),
    "chunked, chunked": (_post(b"Transfer-Encoding: chunked, chunked", body=END), Outcome((), 400)),
    "chunked, identity": (_post(b"Transfer-Encoding: chunked, identity", body=END), Outcome((), 400)),
    "identity, chunked": (_post(b"Transfer-Encoding: identity, chunked", body=END), Outcome((), 501)),
    ", chunked": (_post(b"Transfer-Encoding: , chunked", body=END), Outcome((), 501)),
    "chunked,": (_post(b"Transfer-Encoding: chunked,", body=END), Outcome((), 400)),
    "xchunked": (_post(b"Transfer-Encoding: xchunked", body=END), Outcome((), 400)),
    "chunkedx": (_post(b"Transfer-Encoding: chunkedx", body=END), Outcome((), 400)),
    "x chunked": (_post(b"Transfer-Encoding: x chunked", body=END), Outcome((), 400)),
    "chunked;q=1": (_post(b"Transfer-Encoding: chunked;q=1", body=END), Outcome((), 400)),
    '"chunked"': (_post(b'Transfer-Encoding: "chunked"', body=END), Outcome((), 400)),
    "chunked after a vertical tab": (_post(b"Transfer-Encoding: \x0bchunked", body=END), Outcome((), 400)),
    "an empty coding": (_post(b"Transfer-Encoding:", body=END), Outcome((), 400)),
    "chunked twice": (_post(CHUNKED, CHUNKED, body=END), Outcome((), 400)),
    "chunked, then gzip by itself": (_post(CHUNKED, b"Transfer-Encoding: gzip", body=END), Outcome((), 400)),
    "gzip by itself, then chunked": (_post(b"Transfer-Encoding: gzip", CHUNKED, body=END), Outcome((), 400)),
    "chunked before a colon's blank": (_post(b"Transfer-Encoding : chunked", body=END), Outcome((), 400)),
    "chunked under another name": (_post(b"Transfer_Encoding: chunked"), Outcome((("POST", "/x", b""),))),
    "chunked on a folded line": (_post(b"Transfer-Encoding:\r\n chunked", body=END), Outcome((), 400)),
    "chunked in HTTP/1.0": (_post(CHUNKED, version=b"1.0", body=END), Outcome((), 400)),
    "chunked in HTTP/1.0 that keeps its connection": (
        _post(CHUNKED, b"Connection: keep-alive", version=b"1.0", body=END),
        Outcome((), 400),
    ),
    "chunked that Connection names": (
        _post(CHUNKED, b"Connection: transfer-encoding", body=HELLO_CHUNK + END),
        Outcome(HELLO),
    ),
    "a length that Connection names": (_post(LENGTH, b"Connection: content-length", body=b"hello"), Outcome(HELLO)),
    # Chunks.
    "a negative size": (_chunked(b"-5\r\nhello\r\n" + END), Outcome((), 400)),
    "a size with a plus": (_chunked(b"+5\r\nhello\r\n" + END), Outcome((), 400)),
    "a size with 0x": (_chunked(b"0x5\r\nhello\r\n" + END), Outcome((), 400)),
    "a size with an underscore": (_chunked(b"0_5\r\nhello\r\n" + END), Outcome((), 400)),
    "a size before a blank": (_chunked(b"5 \r\nhello\r\n" + END), Outcome((), 400)),
    "a size after a blank": (_chunked(b" 5\r\nhello\r\n" + END), Outcome((), 400)),
    "a size before a blank and an extension": (_chunked(b"5 ;a\r\nhello\r\n" + END), Outcome((), 400)),
    "a size that is no number": (_chunked(b"g\r\nhello\r\n" + END), Outcome((), 400)),
    "an empty size": (_chunked(b"\r\nhello\r\n" + END), Outcome((), 400)),
    "an extension without a size": (_chunked(b";a\r\nhello\r\n" + END), Outcome((), 400)),
    "a size that overflows 64 bits": (_chunked(b"10000000000000005\r\nhello\r\n" + END), Outcome((), 400)),
    "a size that overflows the sum": (_chunked(HELLO_CHUNK + b"fffffffffffffffb\r\n"), Outcome((), 413)),
    "a size of many zeros": (_chunked(b"0" * 16 + HELLO_CHUNK + END), Outcome((), 400)),
    "a size that is too large": (_chunked(b"3e9\r\n"), Outcome((), 413)),
    "sizes that are too large together": (_chunked(b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\n"), Outcome((), 413)),
    "the largest sizes": (
        _chunked(b"3e7\r\n" + b"x" * 999 + b"\r\n1\r\nx\r\n" + END),
        Outcome((("POST", "/x", b"x" * 1000),)),
    ),
    "a chunk longer than its size": (_chunked(b"4\r\nhello\r\n" + END), Outcome((), 400)),
    "a chunk shorter than its size": (_chunked(b"6\r\nhello\r\n" + END), Outcome((), 400)),
    "a chunk that ends in LF": (_chunked(b"5\r\nhello\n" + END), Outcome((), 400)),
    "a chunk that ends in CR": (_chunked(b"5\r\nhello\r" + END), Outcome((), 400)),
    "a chunk longer than its size, without an end": (_chunked(b"4\r\nhello"), Outcome((), 400)),
    "a size that ends in CR, without an end": (_chunked(b"5\rh"), Outcome((), 400)),
    "a size with a NUL, without an end": (_chunked(b"5;\0"), Outcome((), 400)),
    "a size that ends in LF": (_chunked(b"5\nhello\r\n" + END), Outcome((), 400)),
    "a size that ends in CR": (_chunked(b"5\rhello\r\n" + END), Outcome((), 400)),
    "a last chunk that ends in LF": (_chunked(HELLO_CHUNK + b"0\n\n"), Outcome((), 400)),
    "an end that is an LF": (_chunked(HELLO_CHUNK + b"0\r\n\n"), Outcome((), 400)),
    "an extension with an LF": (_chunked(b"5;a\nb\r\nhello\r\n" + END), Outcome((), 400)),
    "an extension with a CR": (_chunked(b"5;a\rb\r\nhello\r\n" + END), Outcome((), 400)),
    "an extension with a NUL": (_chunked(b"5;a\0b\r\nhello\r\n" + END), Outcome((), 400)),
    "a long extension": (_chunked(b"5;" + b"a" * 1020 + b"\r\nhello\r\n" + END), Outcome(HELLO)),
    "an extension that is too long": (_chunked(b"5;" + b"a" * 1021 + b"\r\nhello\r\n" + END), Outcome((), 400)),
    "a trailer that is no header": (_chunked(HELLO_CHUNK + b"0\r\nGET /y HTTP/1.1\r\n\r\n"), Outcome((), 400)),
    "a trailer before a colon's blank": (_chunked(HELLO_CHUNK + b"0\r\nX : 1\r\n\r\n"), Outcome((), 400)),
    "a folded trailer": (_chunked(HELLO_CHUNK + b"0\r\nX: 1\r\n 2\r\n\r\n"), Outcome((), 400)),
    "a trailer that ends in LF": (_chunked(HELLO_CHUNK + b"0\r\nX: 1\n\r\n"), Outcome((), 400)),
    "a trailer with a NUL": (_chunked(HELLO_CHUNK + b"0\r\nX: \0\r\n\r\n"), Outcome((), 400)),
    # Lines.
    "lines that end in LF": (_get().replace(b"\r\n", b"\n"), Outcome((), 400)),
    "a first line that ends in LF": (_get().replace(b"\r\n", b"\n", 1), Outcome((), 400)),
    "a header that ends in LF": (b"GET /x HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", Outcome((), 400)),
    "a head that ends in LF": (b"GET /x HTTP/1.1\r\nHost: a\r\n\n", Outcome((), 400)),
    "a header that ends in CR": (b"GET /x HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n", Outcome((), 400)),
    "a header that ends in CR CR LF": (_get(b"X: 1\r"), Outcome((), 400)),
    "a value with a CR": (_get(b"X: a\rb"), Outcome((), 400)),
    "a value with an LF": (_get(b"X: a\nContent-Length: 5"), Outcome((), 400)),
    "a value with a NUL": (_get(b"X: a\0b"), Outcome((), 400)),
    "a value with a control character": (_get(b"X: a\x01b"), Outcome((), 400)),
    "a value with DEL": (_get(b"X: a\x7fb"), Outcome((), 400)),
    "a name with a NUL": (_get(b"X\0: 1"), Outcome((), 400)),
    "a path with a NUL": (_get(first=b"GET /x\0 HTTP/1.1"), Outcome((), 400)),
    "a folded header": (_get(b"X: 1", b" 2"), Outcome((), 400)),
    "a header folded with a tab": (_get(b"X: 1", b"\t2"), Outcome((), 400)),
    "a folded first header": (b"GET /x HTTP/1.1\r\n Host: a\r\n\r\n", Outcome((), 400)),
    "a blank before the colon": (_get(b"X : 1"), Outcome((), 400)),
    "a tab before the colon": (_get(b"X\t: 1"), Outcome((), 400)),
    "no colon": (_get(b"X"), Outcome((), 400)),
    "no name": (_get(b": 1"), Outcome((), 400)),
    "a name with a blank": (_get(b"X Y: 1"), Outcome((), 400)),
    "a name beyond ASCII": (_get(b"X\xff: 1"), Outcome((), 400)),
    "a name with a bracket": (_get(b"X(): 1"), Outcome((), 400)),
    "two empty lines before": (b"\r\n\r\n" + _get(), Outcome((), 400)),
    "an LF before": (b"\n" + _get(), Outcome((), 400)),
    "a blank before": (b" " + _get(), Outcome((), 400)),
    "a CR in a head without an end": (b"GET /x HTTP/1.1\rHost: a", Outcome((), 400)),
    "an LF in a head without an end": (b"GET /x HTTP/1.1\nHost: a", Outcome((), 400)),
    "a NUL in a head without an end": (b"GET /x HTTP/1.1\r\nHost: \0", Outcome((), 400)),
    "a folded line in a head without an end": (b"GET /x HTTP/1.1\r\nHost: a\r\n b", Outcome((), 400)),
    "a line folded with a tab in a head without an end": (b"GET /x HTTP/1.1\r\nHost: a\r\n\tb", Outcome((), 400)),
    # First lines.
    "two blanks before the path": (_get(first=b"GET  /x HTTP/1.1"), Outcome((), 400)),
    "two blanks after the path": (_get(first=b"GET /x  HTTP/1.1"), Outcome((), 400)),
    "a blank at the end": (_get(first=b"GET /x HTTP/1.1 "), Outcome((), 400)),
    "a blank in the path": (_get(first=b"GET /x y HTTP/1.1"), Outcome((), 400)),
    "a tab for a blank": (_get(first=b"GET\t/x\tHTTP/1.1"), Outcome((), 400)),
    "a tab in the path": (_get(first=b"GET /x\ty HTTP/1.1"), Outcome((), 400)),
    "a path beyond ASCII": (_get(first=b"GET /\xff HTTP/1.1"), Outcome((), 400)),
    "a path with DEL": (_get(first=b"GET /\x7f HTTP/1.1"), Outcome((), 400)),
    "a fragment": (_get(first=b"GET /x#y HTTP/1.1"), Outcome((), 400)),
    "no path": (_get(first=b"GET HTTP/1.1"), Outcome((), 400)),
    "a query for a path": (_get(first=b"GET ?x HTTP/1.1"), Outcome((), 400)),
    "no slash": (_get(first=b"GET x HTTP/1.1"), Outcome((), 400)),
    "no method": (_get(first=b" /x HTTP/1.1"), Outcome((), 400)),
    "an unknown method": (_get(first=b"FOO /x HTTP/1.1"), Outcome((), 501)),
    "a method in lower case": (_get(first=b"get /x HTTP/1.1"), Outcome((), 501)),
    "a method of RTSP": (_get(first=b"DESCRIBE /x HTTP/1.1"), Outcome((), 400)),
    "CONNECT": (_get(first=b"CONNECT a:1 HTTP/1.1"), Outcome((), 501)),
    "OPTIONS *": (_get(first=b"OPTIONS * HTTP/1.1"), Outcome((), 400)),
    "GET *": (_get(first=b"GET * HTTP/1.1"), Outcome((), 400)),
    "a host for a path": (_get(first=b"GET a:80 HTTP/1.1"), Outcome((), 400)),
    "OPTIONS": (_get(first=b"OPTIONS /x HTTP/1.1"), Outcome((("OPTIONS", "/x", b""),))),
    "no version": (_get(first=b"GET /x"), Outcome((), 400)),
    "HTTP/0.9": (_get(first=b"GET /x HTTP/0.9"), Outcome((), 505)),
    "HTTP/1.2": (_get(first=b"GET /x HTTP/1.2"), Outcome((), 505)),
    "HTTP/1.10": (_get(first=b"GET /x HTTP/1.10"), Outcome((), 505)),
    "HTTP/2": (_get(first=b"GET /x HTTP/2"), Outcome((), 505)),
    "HTTP/01.1": (_get(first=b"GET /x HTTP/01.1"), Outcome((), 505)),
    "http/1.1": (_get(first=b"GET /x http/1.1"), Outcome((), 400)),
    "HTTP/1,1": (_get(first=b"GET /x HTTP/1,1"), Outcome((), 400)),
    "RTSP": (_get(first=b"GET /x RTSP/1.0"), Outcome((), 400)),
    "ICE": (_get(first=b"SOURCE /x ICE/1.0"), Outcome((), 400)),
    "an answer for a request": (_get(first=b"HTTP/1.1 200 OK"), Outcome((), 400)),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Outcome((), 505)),
    "the hello of TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Outcome((), 400)),
    # Hosts and URLs.
    "no Host": (b"GET /x HTTP/1.1\r\n\r\n", Outcome((), 400)),
    "two Hosts, equal": (_get(b"Host: a"), Outcome((), 400)),
    "two Hosts, unequal": (_get(b"host: b"), Outcome((), 400)),
    "two Hosts in HTTP/1.0": (_get(b"Host: b", first=b"GET /x HTTP/1.0"), Outcome((), 400)),
    "a Host with a blank": (b"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n", Outcome((), 400)),
    "a Host with a path": (b"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n", Outcome((), 400)),
    "a Host with a user": (b"GET /x HTTP/1.1\r\nHost: u@a\r\n\r\n", Outcome((), 400)),
    "a Host that is a list": (b"GET /x HTTP/1.1\r\nHost: a, b\r\n\r\n", Outcome((), 400)),
    "a Host before a colon's blank": (b"GET /x HTTP/1.1\r\nHost : a\r\n\r\n", Outcome((), 400)),
    "a Host of IPv6": (b"GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Outcome(GET)),
    "an empty Host": (b"GET /x HTTP/1.1\r\nHost:\r\n\r\n", Outcome(GET)),
    "a URL": (_get(first=b"GET http://a/x HTTP/1.1"), Outcome(GET)),
    "a URL in odd case": (_get(first=b"GET HTTPS://A/x HTTP/1.1"), Outcome(GET)),
    "a URL with a query": (_get(first=b"GET http://a/x?y HTTP/1.1"), Outcome((("GET", "/x?y", b""),))),
    "a URL without a path": (_get(first=b"GET http://a HTTP/1.1"), Outcome((("GET", "/", b""),))),
    "a URL with a query only": (_get(first=b"GET http://a?y HTTP/1.1"), Outcome((("GET", "/?y", b""),))),
    "a URL without Host in HTTP/1.0": (b"GET http://a/x HTTP/1.0\r\n\r\n", Outcome(GET)),
    "a URL without Host": (b"GET http://a/x HTTP/1.1\r\n\r\n", Outcome((), 400)),
    "a URL of another host": (_get(first=b"GET http://b/x HTTP/1.1"), Outcome((), 400)),
    "a URL of another port": (_get(first=b"GET http://a:81/x HTTP/1.1"), Outcome((), 400)),
    "a URL of a host that begins so": (_get(first=b"GET http://ab/x HTTP/1.1"), Outcome((), 400)),
    "a URL with a user": (_get(first=b"GET http://u@a/x HTTP/1.1"), Outcome((), 400)),
    "a URL with a user like the host": (_get(first=b"GET http://a@b/x HTTP/1.1"), Outcome((), 400)),
    "a URL without a host": (_get(first=b"GET http:///x HTTP/1.1"), Outcome((), 400)),
    "a URL without a host in HTTP/1.0": (b"GET http:///x HTTP/1.0\r\n\r\n", Outcome((), 400)),
    "a URL with nothing but a query": (b"GET http://?x HTTP/1.0\r\n\r\n", Outcome((), 400)),
    "a URL with nothing": (b"GET http:// HTTP/1.0\r\n\r\n", Outcome((), 400)),
    "a URL of ftp": (_get(first=b"GET ftp://a/x HTTP/1.1"), Outcome((), 400)),
    "a URL with a fragment": (_get(first=b"GET http://a/x#y HTTP/1.1"), Outcome((), 400)),
    # Other.
    "an unknown Expect": (_post(LENGTH, b"Expect: a-biscuit", body=b"hello"), Outcome((), 417)),
    "an Expect of two": (_post(LENGTH, b"Expect: 100-continue, x", body=b"hello"), Outcome((), 417)),
}

_LINE = 8192 - len(b"GET / HTTP/1.1")
_HEAD = 65536 - len(_get(b"X: "))

LARGE_REQUESTS: dict[str, tuple[bytes, Outcome]] = {
    "the longest line": (
        _get(first=b"GET /" + b"x" * _LINE + b" HTTP/1.1"),
        Outcome((("GET", "/" + "x" * _LINE, b""),)),
    ),
    "a line that is too long": (_get(first=b"GET /" + b"x" * (_LINE + 1) + b" HTTP/1.1"), Outcome((), 414)),
    "a line without an end": (b"x" * 8194, Outcome((), 414)),
    "a line that may end": (b"x" * 8192 + b"\r", Outcome((), begun=True)),
    "a line that is too long and then wrong": (b"GET /" + b"x" * 9000 + b"\0", Outcome((), 414)),
    "a line that is wrong before it is too long": (b"GET /" + b"x" * 8000 + b"\0" + b"x" * 1000, Outcome((), 400)),
    "the largest head": (_get(b"X: " + b"x" * _HEAD), Outcome(GET)),
    "a head that is too large": (_get(b"X: " + b"x" * (_HEAD + 1)), Outcome((), 431)),
    "a head without an end": (_get(b"X: " + b"x" * 70000)[:-4], Outcome((), 431)),
    "a head that is wrong at its end": (_get(b"X: " + b"x" * (_HEAD - 1) + b"\0"), Outcome((), 400)),
    "a head that is wrong before it is too large": (_get(b"X: \0" + b"x" * 70000), Outcome((), 400)),
    "many headers without an end": (b"GET / HTTP/1.1\r\n" + b"X: 12345\r\n" * 7000, Outcome((), 431)),
    "extensions that are too long together": (
        _chunked((b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 17 + END),
        Outcome((), 400),
    ),
    "trailers that are large": (_chunked(HELLO_CHUNK + b"0\r\n" + b"X: 12\r\n" * 1170 + b"\r\n"), Outcome(HELLO)),
    "trailers that are too large": (_chunked(HELLO_CHUNK + b"0\r\n" + b"X: 12\r\n" * 1171 + b"\r\n"), Outcome((), 400)),
    "201 headers": (_get(*[b"X: 1"] * 200), Outcome((), 431)),
    "200 headers": (_get(*[b"X: 1"] * 199), Outcome(GET)),
}


def _ok(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    return b"\r\n".join([first, *lines, b"", b""]) + body


def _head(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([first, *lines, b""])


REFUSED = Answered(-1)
UNFINISHED = Answered(0)
JSON = b"content-type: application/json"
EVENTS = b"content-type: text/event-stream; charset=utf-8"
FIVE = b"content-length: 5"
CODED = b"transfer-encoding: chunked"
VARY = b"vary: Origin"
KEPT = b"cache-control: no-store"
UVICORN = (b"date: Sat, 21 Nov 2026 00:00:00 GMT", b"server: uvicorn")


def _five(*lines: bytes, keep_alive: bool = True, rest: bytes = b"") -> Answered:
    return Answered(200, _head(*lines), 5, keep_alive, False, b"hello", True, rest)


def _stream(
    *lines: bytes, event_stream: bool = False, body: bytes = b"hello", ended: bool = True, rest: bytes = b""
) -> Answered:
    return Answered(200, _head(*lines), http1.CHUNKED, True, event_stream, body, ended, rest)


def _coded(body: bytes) -> bytes:
    return _ok(CODED, body=body)


ANSWERS: dict[str, tuple[bytes, Answered]] = {
    # Plain ones.
    "JSON of uvicorn": (_ok(*UVICORN, FIVE, JSON, body=b"hello"), _five(*UVICORN, FIVE, JSON)),
    "JSON of vLLM": (_ok(*UVICORN, FIVE, JSON, VARY, body=b"hello"), _five(*UVICORN, FIVE, JSON, VARY)),
    "JSON of Berth's APIs": (_ok(*UVICORN, JSON, FIVE, body=b"hello"), _five(*UVICORN, JSON, FIVE)),
    "a stream of vLLM": (
        _ok(*UVICORN, EVENTS, VARY, CODED, body=HELLO_CHUNK + END),
        _stream(*UVICORN, EVENTS, VARY, CODED, event_stream=True),
    ),
    "a stream of Berth's APIs": (
        _ok(*UVICORN, EVENTS, KEPT, CODED, body=HELLO_CHUNK + END),
        _stream(*UVICORN, EVENTS, KEPT, CODED, event_stream=True),
    ),
    "events of uvicorn": (
        _ok(*UVICORN, EVENTS, CODED, body=HELLO_CHUNK + END),
        _stream(*UVICORN, EVENTS, CODED, event_stream=True),
    ),
    "events with a length": (
        _ok(*UVICORN, FIVE, EVENTS, body=b"hello"),
        _five(*UVICORN, FIVE, EVENTS)._replace(event_stream=True),
    ),
    "events in odd case": (
        _ok(b"Content-Type: Text/Event-Stream ;charset=utf-8", FIVE, body=b"hello"),
        _five(b"Content-Type: Text/Event-Stream ;charset=utf-8", FIVE)._replace(event_stream=True),
    ),
    **{
        f"events of uvicorn as {content_type.decode()!r}": (
            _ok(*UVICORN, b"content-type: " + content_type, CODED, body=HELLO_CHUNK + END),
            _stream(*UVICORN, b"content-type: " + content_type, CODED, event_stream=True),
        )
        for content_type in (b"Text/Event-Stream", b" text/event-stream", b"text/event-stream ; charset=utf-8")
    },
    "what is not quite events": (
        _ok(b"content-type: text/event-streams", CODED, body=HELLO_CHUNK + END),
        _stream(b"content-type: text/event-streams", CODED),
    ),
    "only a length": (_ok(b"Content-Length:5", body=b"hello"), _five(b"Content-Length:5")),
    "a length of zero": (
        _ok(*UVICORN, b"content-length: 0", JSON),
        Answered(200, _head(*UVICORN, b"content-length: 0", JSON), 0, True, False, b"", True),
    ),
    "more than the length": (_ok(FIVE, body=b"hello, you"), _five(FIVE, rest=b", you")),
    "less than the length": (_ok(FIVE, body=b"he"), _five(FIVE)._replace(body=b"he", ended=False)),
    "chunks": (_coded(b"1\r\nh\r\n004;a=b\r\nello\r\n0\r\nX: 1\r\n\r\n"), _stream(CODED)),
    "a chunk that holds chunks": (
        _coded(HELLO_CHUNK + b"14\r\n" + HELLO_CHUNK * 2 + b"\r\n" + END),
        _stream(CODED, body=b"hello" + HELLO_CHUNK * 2),
    ),
    "more than the chunks": (_coded(HELLO_CHUNK + END + b"more"), _stream(CODED, rest=b"more")),
    "not all chunks": (_coded(HELLO_CHUNK + b"2\r\na"), _stream(CODED, body=b"helloa", ended=False)),
    "chunks without an end": (_coded(HELLO_CHUNK + b"0\r\n"), _stream(CODED, ended=False)),
    "until the end": (_ok(JSON, body=b"hello"), Answered(200, _head(JSON), -2, False, False, b"hello")),
    "no header": (_ok(body=b"hello"), Answered(200, _head(), -2, False, False, b"hello")),
    "no reason": (
        _ok(FIVE, first=b"HTTP/1.1 200", body=b"hello"),
        Answered(200, _head(FIVE, first=b"HTTP/1.1 200 "), 5, True, False, b"hello", True),
    ),
    "an empty reason": (
        _ok(FIVE, first=b"HTTP/1.1 200 ", body=b"hello"),
        Answered(200, _head(FIVE, first=b"HTTP/1.1 200 "), 5, True, False, b"hello", True),
    ),
    "a reason beyond ASCII": (
        _ok(FIVE, first=b"HTTP/1.1 503 \xe4 b", body=b"hello"),
        Answered(503, _head(FIVE, first=b"HTTP/1.1 503 \xe4 b"), 5, True, False, b"hello", True),
    ),
    "HTTP/1.0": (
        _ok(FIVE, first=b"HTTP/1.0 200 OK", body=b"hello"),
        Answered(200, _head(FIVE), 5, False, False, b"hello", True),
    ),
    "HTTP/1.0 that keeps its connection": (
        _ok(FIVE, b"Connection: keep-alive", first=b"HTTP/1.0 200 OK", body=b"hello"),
        Answered(200, _head(FIVE), 5, False, False, b"hello", True),
    ),
    "Connection: close": (_ok(FIVE, b"Connection: Close", body=b"hello"), _five(FIVE, keep_alive=False)),
    "close in a list": (_ok(FIVE, b"connection: a ,\tclose", body=b"hello"), _five(FIVE, keep_alive=False)),
    "close in a second line": (
        _ok(b"connection: keep-alive", FIVE, b"connection: close", body=b"hello"),
        _five(FIVE, keep_alive=False),
    ),
    "close under another name": (_ok(FIVE, b"x-connection: close", body=b"hello"), _five(FIVE, b"x-connection: close")),
    "headers of the connection": (
        _ok(
            b"Connection: keep-alive, X-Own",
            b"Keep-Alive: timeout=5",
            b"X-Own: 1",
            b"X-Owned: 2",
            b"Upgrade: h2c",
            b"Proxy-Authenticate: x",
            b"Proxy-Connection: x",
            b"Trailer: y",
            b"TE: x",
            FIVE,
            body=b"hello",
        ),
        _five(b"X-Owned: 2", FIVE),
    ),
    "a length that Connection names": (_ok(FIVE, b"connection: content-length", body=b"hello"), _five(FIVE)),
    "204": (
        _ok(JSON, first=b"HTTP/1.1 204 No Content", body=b"x"),
        Answered(204, _head(JSON, first=b"HTTP/1.1 204 No Content"), 0, True, False, b"", True, b"x"),
    ),
    "204 of no bytes": (
        _ok(*UVICORN, b"content-length: 0", JSON, first=b"HTTP/1.1 204 No Content"),
        Answered(204, _head(*UVICORN, JSON, first=b"HTTP/1.1 204 No Content"), 0, True, False, b"", True),
    ),
    "304": (
        _ok(*UVICORN, FIVE, JSON, first=b"HTTP/1.1 304 Not Modified"),
        Answered(304, _head(*UVICORN, FIVE, JSON, first=b"HTTP/1.1 304 Not Modified"), 0, True, False, b"", True),
    ),
    "100": (
        _ok(first=b"HTTP/1.1 100 Continue", body=_ok(FIVE)),
        Answered(100, _head(first=b"HTTP/1.1 100 Continue"), 0, True, False, b"", True, _ok(FIVE)),
    ),
    # Early ends.
    "nothing": (b"", UNFINISHED),
    "half a line": (b"HTTP/1.1 20", UNFINISHED),
    "half a head": (_ok(FIVE)[:-3], UNFINISHED),
    # Refused.
    "204 with a length": (_ok(FIVE, first=b"HTTP/1.1 204 No Content"), REFUSED),
    "204 with chunks": (_ok(CODED, first=b"HTTP/1.1 204 No Content"), REFUSED),
    "204 with chunks of uvicorn": (_ok(*UVICORN, JSON, CODED, first=b"HTTP/1.1 204 No Content"), REFUSED),
    "100 with a length": (_ok(FIVE, first=b"HTTP/1.1 100 Continue"), REFUSED),
    "101": (_ok(b"connection: upgrade", b"upgrade: x", first=b"HTTP/1.1 101 Switching Protocols"), REFUSED),
    "length and chunks": (_ok(FIVE, CODED, body=END), REFUSED),
    "a length twice, around the type": (_ok(*UVICORN, FIVE, JSON, FIVE, body=b"hello"), REFUSED),
    "length and chunks of vLLM": (_ok(*UVICORN, JSON, FIVE, VARY, CODED, body=END), REFUSED),
    "length and chunks of uvicorn": (_ok(*UVICORN, FIVE, JSON, CODED, body=END), REFUSED),
    "chunks and length": (_ok(CODED, FIVE, body=END), REFUSED),
    "a length twice, equal": (_ok(FIVE, FIVE, body=b"hello"), REFUSED),
    "a length twice, unequal": (_ok(FIVE, b"Content-Length: 6", body=b"hello"), REFUSED),
    "a list of lengths": (_ok(b"content-length: 5, 5", body=b"hello"), REFUSED),
    "a length with a plus": (_ok(b"content-length: +5", body=b"hello"), REFUSED),
    "a negative length": (_ok(b"content-length: -5", body=b"hello"), REFUSED),
    "a hexadecimal length": (_ok(b"content-length: 0x5", body=b"hello"), REFUSED),
    "an empty length": (_ok(b"content-length:", body=b"hello"), REFUSED),
    "a length in other digits": (_ok("content-length: ٥".encode(), body=b"hello"), REFUSED),
    "a length that is huge": (_ok(*UVICORN, b"content-length: 1000000000000000", JSON), REFUSED),
    "a length before a colon's blank": (_ok(b"content-length : 5", body=b"hello"), REFUSED),
    "chunked twice": (_ok(CODED, CODED, body=END), REFUSED),
    "chunked, chunked": (_ok(b"transfer-encoding: chunked, chunked", body=END), REFUSED),
    "gzip, chunked": (_ok(b"transfer-encoding: gzip, chunked", body=END), REFUSED),
    "gzip": (_ok(b"transfer-encoding: gzip", body=END), REFUSED),
    "identity": (_ok(b"transfer-encoding: identity", FIVE, body=b"hello"), REFUSED),
    "xchunked": (_ok(b"transfer-encoding: xchunked", body=END), REFUSED),
    "an empty coding": (_ok(b"transfer-encoding:", body=END), REFUSED),
    "chunked in HTTP/1.0": (_ok(CODED, first=b"HTTP/1.0 200 OK", body=END), REFUSED),
    "lines that end in LF": (_ok(FIVE, body=b"hello").replace(b"\r\n", b"\n"), REFUSED),
    "a header that ends in LF": (_ok(b"x: 1\ny: 2", FIVE, body=b"hello"), REFUSED),
    "a header that ends in CR": (_ok(b"x: 1\ry: 2", FIVE, body=b"hello"), REFUSED),
    "a value with a NUL": (_ok(b"x: \0", FIVE, body=b"hello"), REFUSED),
    "a value with a control character": (_ok(b"x: \x01", FIVE, body=b"hello"), REFUSED),
    "a content type with DEL": (_ok(*UVICORN, FIVE, b"content-type: \x7f", body=b"hello"), REFUSED),
    "a folded header": (_ok(b"x: 1\r\n 2", FIVE, body=b"hello"), REFUSED),
    "a folded first header": (_ok(b" x: 1", FIVE, body=b"hello"), REFUSED),
    "no colon": (_ok(b"x", FIVE, body=b"hello"), REFUSED),
    "no name": (_ok(b": x", FIVE, body=b"hello"), REFUSED),
    "a name with a blank": (_ok(b"x y: 1", FIVE, body=b"hello"), REFUSED),
    "a blank before the colon": (_ok(b"x : 1", FIVE, body=b"hello"), REFUSED),
    "an empty line before": (b"\r\n" + _ok(FIVE, body=b"hello"), REFUSED),
    "HTTP/2": (_ok(FIVE, first=b"HTTP/2 200 OK", body=b"hello"), REFUSED),
    "HTTP/1.2": (_ok(FIVE, first=b"HTTP/1.2 200 OK", body=b"hello"), REFUSED),
    "http/1.1": (_ok(FIVE, first=b"http/1.1 200 OK", body=b"hello"), REFUSED),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2", REFUSED),
    "two blanks": (_ok(FIVE, first=b"HTTP/1.1  200 OK", body=b"hello"), REFUSED),
    "a status of two digits": (_ok(FIVE, first=b"HTTP/1.1 20 OK", body=b"hello"), REFUSED),
    "a status of four digits": (_ok(FIVE, first=b"HTTP/1.1 2000 OK", body=b"hello"), REFUSED),
    "a status of 099": (_ok(FIVE, first=b"HTTP/1.1 099 OK", body=b"hello"), REFUSED),
    "a status of 600": (_ok(FIVE, first=b"HTTP/1.1 600 OK", body=b"hello"), REFUSED),
    "a reason with DEL": (_ok(FIVE, first=b"HTTP/1.1 200 \x7f", body=b"hello"), REFUSED),
    "a request for an answer": (_get(), REFUSED),
    "a negative size": (_coded(b"-5\r\nhello\r\n" + END), REFUSED),
    "a size with 0x": (_coded(b"0x5\r\nhello\r\n" + END), REFUSED),
    "a size before a blank": (_coded(b"5 \r\nhello\r\n" + END), REFUSED),
    "an empty size": (_coded(b"\r\nhello\r\n" + END), REFUSED),
    "a size that overflows 64 bits": (_coded(b"10000000000000005\r\nhello\r\n" + END), REFUSED),
    "a chunk longer than its size": (_coded(b"4\r\nhello\r\n" + END), REFUSED),
    "a chunk shorter than its size": (_coded(b"6\r\nhello\r\n" + END), REFUSED),
    "a second chunk that is longer": (_coded(b"5\r\nhello\r\n5\r\nhello!\r\n" + END), REFUSED),
    "a chunk that ends in LF": (_coded(b"5\r\nhello\n" + END), REFUSED),
    "a size that ends in LF": (_coded(b"5\nhello\r\n" + END), REFUSED),
    "a long extension": (_coded(b"5;" + b"a" * 1021 + b"\r\nhello\r\n" + END), REFUSED),
    "a trailer that is no header": (_coded(HELLO_CHUNK + b"0\r\nx\r\n\r\n"), REFUSED),
}

_ANSWER = 65536 - len(_ok(b"x: ", FIVE))

LARGE_ANSWERS: dict[str, tuple[bytes, Answered]] = {
    "the largest head": (_ok(b"x: " + b"x" * _ANSWER, FIVE, body=b"hello"), _five(b"x: " + b"x" * _ANSWER, FIVE)),
    "a head that is too large": (_ok(b"x: " + b"x" * (_ANSWER + 1), FIVE, body=b"hello"), REFUSED),
    "a head of uvicorn that is too large": (_ok(FIVE, b"content-type: " + b"x" * 66000, body=b"hello"), REFUSED),
    "a head without an end": (_ok(b"x: " + b"x" * 70000), REFUSED),
    "trailers that are too large": (_coded(HELLO_CHUNK + b"0\r\n" + b"X: 12\r\n" * 1171 + b"\r\n"), REFUSED),
}

TO_HEAD: dict[str, tuple[bytes, Answered]] = {
    "a length": (
        _ok(*UVICORN, FIVE, JSON),
        Answered(200, _head(*UVICORN, FIVE, JSON), 0, True, False, b"", True),
    ),
    "chunks": (_ok(*UVICORN, EVENTS, CODED), Answered(200, _head(*UVICORN, EVENTS, CODED), 0, True, True, b"", True)),
    "neither": (_ok(JSON), Answered(200, _head(JSON), 0, True, False, b"", True)),
    "both": (_ok(FIVE, CODED), REFUSED),
}
