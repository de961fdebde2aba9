"""Requests in: llhttp reads their heads, and what could be read in two ways is refused before anyone acts on it.

Rules are those of RFC 9112 and RFC 9110 where they are strictest: our pods must never see another request than we did.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import httptools

from berth_gateway import http1

MOST_LINE_BYTES = 8 * 1024
MOST_HEAD_BYTES = 64 * 1024
MOST_HEADERS = 200
SESSION_HEADER = b"x-session-id"


class BadRequest(Exception):
    """Ends a connection: answer with status and message, then close."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Asked(NamedTuple):
    """A request's head.

    target: in origin form as sent ("/v1/x?y=z").  path and query: undecoded.  headers: names in lower case, in order,
    without content-length.  version: "1.0" or "1.1".  expects: the client waits for 100 Continue.  forward: header
    lines for the pod, without those of the connection, of framing, host, credentials and x-berth-*.  credentials: the
    lines of authorization and x-api-key.  traceparent: of W3C Trace Context, or empty.  session: what SESSION_HEADER
    says, or empty.
    """

    method: str
    target: str
    path: str
    query: str
    headers: tuple[tuple[bytes, bytes], ...]
    host: str
    keep_alive: bool
    version: str
    expects: bool
    forward: bytes
    credentials: bytes
    traceparent: str
    session: bytes


_CREDENTIALS = frozenset((b"authorization", b"x-api-key"))
_OURS = http1.HOP_BY_HOP | http1.FRAMING | {b"host", b"expect"}
_HOST = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")
# A path, or a URL whose path may be missing.
_TARGET = re.compile(rb"(?:https?://([^/?#]+)|(?=/))(/[^?#]*)?(\?[^#]*)?", re.IGNORECASE)
_FIRST_LINE = re.compile(rb"[!-~]+ [!-~]+ HTTP/[0-9]+(?:\.[0-9]+)?")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

# Heads as they came before: clients that keep their connection send the same one again and again, but for the length.
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (0|[1-9][0-9]{0,14})(?=\r\n)")
_MOST_KNOWN = 1000
_MOST_KNOWN_BYTES = 4 * 1024
_known: dict[bytes, Asked] = {}


class _Lines:
    """What llhttp finds in a head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b"\t ")))

    def on_headers_complete(self) -> None:
        self.complete = True


def _parse(head: bytes) -> tuple[Asked, int]:
    """A head with its empty line, and its body's length in bytes or CHUNKED. Raises BadRequest."""
    line = head[: head.index(b"\r\n")]
    # llhttp takes several blanks for one, and other protocols than HTTP.
    if not _FIRST_LINE.fullmatch(line):
        raise BadRequest(400, "The first line is not a request's: a method, a path and HTTP/1.1.")
    if not line.endswith((b" HTTP/1.1", b" HTTP/1.0")):
        raise BadRequest(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    if head.count(b"\r\n") - 2 > MOST_HEADERS:
        raise BadRequest(431, f"There are more than {MOST_HEADERS} headers.")
    lines = _Lines()
    parser = httptools.HttpRequestParser(lines)
    try:
        # Never more than the head: bodies and what follows them are told apart here.
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserInvalidMethodError as error:
        raise BadRequest(501, "The method is not one of HTTP.") from error
    except httptools.HttpParserError as error:
        raise BadRequest(400, f"The request is not HTTP: {error}") from error
    if not lines.complete:
        raise BadRequest(400, "The request's head is not whole.")
    return _asked(parser.get_method().decode(), lines, parser.get_http_version())


def _asked(method: str, lines: _Lines, version: str) -> tuple[Asked, int]:
    if method == "CONNECT":
        raise BadRequest(501, "CONNECT is not for a gateway.")
    headers = lines.headers
    length = _length(headers, version)
    host, path, query = _target(lines.url, _host(headers, version))
    tokens = {
        token.strip(b"\t ").lower() for name, value in headers if name == b"connection" for token in value.split(b",")
    }
    expects = _expects(headers) and version == "1.1"
    forward: list[bytes] = []
    credentials: list[bytes] = []
    for name, value in headers:
        if name in _CREDENTIALS:
            # Even if Connection names them: who asks is told by all of them, and remembered for these lines.
            credentials.append(b"%s: %s\r\n" % (name, value))
        elif not (name in _OURS or name in tokens or name.startswith(b"x-berth-")):
            forward.append(b"%s: %s\r\n" % (name, value))
    traces = [value for name, value in headers if name == b"traceparent"]
    asked = Asked(
        method=method,
        target=f"{path}?{query}" if query is not None else path,
        path=path,
        query=query or "",
        headers=tuple((name, value) for name, value in headers if name != b"content-length"),
        host=host,
        keep_alive=b"close" not in tokens and (version == "1.1" or b"keep-alive" in tokens),
        version=version,
        expects=expects,
        forward=b"".join(forward),
        credentials=b"".join(credentials),
        traceparent=traces[0].decode() if len(traces) == 1 and _TRACEPARENT.fullmatch(traces[0]) else "",
        session=next((value for name, value in headers if name == SESSION_HEADER and value), b""),
    )
    return asked, length


def _length(headers: list[tuple[bytes, bytes]], version: str) -> int:
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise BadRequest(400, "Only one Content-Length or one Transfer-Encoding can be true.")
    if codings:
        if version == "1.0":
            raise BadRequest(400, "HTTP/1.0 has no Transfer-Encoding.")
        if codings[0].lower() != b"chunked":
            raise BadRequest(501, "The only Transfer-Encoding read here is chunked.")
        return http1.CHUNKED
    if not lengths:
        return 0
    if not re.fullmatch(rb"[0-9]{1,19}", lengths[0]):
        raise BadRequest(400, "Content-Length is not a number of bytes.")
    return int(lengths[0])


def _host(headers: list[tuple[bytes, bytes]], version: str) -> bytes | None:
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise BadRequest(400, "A request of HTTP/1.1 has one Host.")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise BadRequest(400, "Host is not a host's name.")
    return hosts[0] if hosts else None


def _target(url: bytes, host: bytes | None) -> tuple[str, str, str | None]:
    found = _TARGET.fullmatch(url)
    if found is None:
        raise BadRequest(400, "The request's target must be a path, or a URL of http.")
    authority, path, query = found.groups()
    if authority is not None:
        if not _HOST.fullmatch(authority) or (host is not None and host.lower() != authority.lower()):
            raise BadRequest(400, "The URL's host and Host differ.")
        host = authority
    text = None if query is None else query[1:].decode()
    return (host or b"").decode(), (path or b"/").decode(), text


def _expects(headers: list[tuple[bytes, bytes]]) -> bool:
    expected = [value.lower() for name, value in headers if name == b"expect"]
    if any(value != b"100-continue" for value in expected):
        raise BadRequest(417, "Only 100-continue can be expected.")
    return bool(expected)


def _check(part: bytes, start: int) -> None:
    """Refuses what has come of a head by its bytes alone, the same in whatever pieces it came. Raises BadRequest.

    start: before it all has been found to be well.
    """
    size = min(len(part), MOST_HEAD_BYTES)
    ill = None if http1.WELL.fullmatch(part, start, size) else http1.ILL.search(part, start, size)
    # What can be told first is said: the line's length once it is too long, whatever comes after.
    if ill and ill.end() <= _MOST_LINE_AND_END_BYTES:
        raise BadRequest(400, _ILL)
    if size >= _MOST_LINE_AND_END_BYTES and part.find(b"\r\n", 0, _MOST_LINE_AND_END_BYTES) < 0:
        raise BadRequest(414, "The first line is longer than 8 KiB.")
    if ill:
        raise BadRequest(400, _ILL)
    if size >= MOST_HEAD_BYTES and part.find(b"\r\n\r\n", start, MOST_HEAD_BYTES) < 0:
        raise BadRequest(431, "The head is larger than 64 KiB.")


_MOST_LINE_AND_END_BYTES = MOST_LINE_BYTES + 2
_ILL = "A line of the head ends in the middle, is folded, or has a NUL."


# Pieces of a body that are smaller are put together as they come: each by itself costs more than it holds.
_SMALL_BYTES = 4096


class Reader:
    """The requests of one connection, one after the other; pipelined ones wait in its buffer.

    asked: set as soon as the head is complete.  complete: the whole body is here.  received_bytes: of this body.
    What waits is not bounded here: the caller stops reading from the connection when it is much.
    """

    __slots__ = (
        "_buffer",
        "_checked",
        "_chunked",
        "_empty_line",
        "_left",
        "_most",
        "_parts",
        "_refused",
        "asked",
        "complete",
        "received_bytes",
    )

    def __init__(self, most_body_bytes: int) -> None:
        self._most = most_body_bytes
        self._refused: tuple[int, str] | None = None
        self._buffer = b""
        self._forget()

    def _forget(self) -> None:
        self.asked: Asked | None = None
        self.complete = False
        self.received_bytes = 0
        self._checked = 0
        self._empty_line = False
        self._left = 0
        self._chunked: http1.Chunked | None = None
        self._parts: list[bytes | bytearray] = []

    def feed(self, data: bytes) -> None:
        """What came from the client. Raises BadRequest, also after the head, and from then on each time."""
        if self._refused is not None:
            raise BadRequest(*self._refused)
        try:
            if self.complete:
                self._buffer += data
            elif self.asked is None:
                self._feed_head(self._buffer + data if self._buffer else data)
            elif self._chunked is not None:
                self._feed_chunks(data)
            else:
                self._feed_body(data, 0)
        except BadRequest as error:
            self._refused = (error.status, error.message)
            raise

    def _feed_head(self, data: bytes) -> None:
        if data.startswith(b"\r\n") and not self._empty_line:
            # RFC 9112 section 2.2: old clients end a body with one that is not counted.
            self._empty_line = True
            data = data[2:]
        end = data.find(b"\r\n\r\n", self._checked) + 4
        if end < 4:
            _check(data, self._checked)
            self._buffer = data
            # Of these three the next ones may make another sense.
            self._checked = max(0, len(data) - 3)
            return
        self._buffer = b""
        found = _LENGTH.search(data, 0, end) if end <= _MOST_KNOWN_BYTES else None
        if found is None:
            self._begin(*self._parse(data[:end]), data, end)
            return
        start, stop = found.span(1)
        key = data[:start] + data[stop:end]
        known = _known.get(key)
        if known is not None:
            self._begin(known, int(found[1]), data, end)
            return
        asked, length = self._parse(data[:end])
        if not asked.expects:
            if len(_known) >= _MOST_KNOWN:
                del _known[next(iter(_known))]
            _known[key] = asked
        self._begin(asked, length, data, end)

    def _parse(self, head: bytes) -> tuple[Asked, int]:
        _check(head, self._checked)
        return _parse(head)

    def _begin(self, asked: Asked, length: int, data: bytes, start: int) -> None:
        self.asked = asked
        if length == http1.CHUNKED:
            self._chunked = http1.Chunked(self._most)
            self._feed_chunks(data[start:])
            return
        if length > self._most:
            raise self._too_large()
        self._left = length
        self._feed_body(data, start)

    def _feed_body(self, data: bytes, start: int) -> None:
        left = self._left
        end = start + left
        if len(data) < end:
            if len(data) > start:
                self._take(data[start:])
                self._left = end - len(data)
            return
        if left:
            self._take(data[start:end])
        self.complete = True
        self._buffer = data[end:]

    def _feed_chunks(self, data: bytes) -> None:
        assert self._chunked is not None
        pieces: list[bytes] = []
        try:
            end = self._chunked.feed(data, pieces)
        except http1.TooLarge as error:
            raise self._too_large() from error
        except http1.BadAnswer as error:
            raise BadRequest(400, f"The body's chunks are not HTTP. {error}") from error
        if pieces:
            self._take(b"".join(pieces))
        if end >= 0:
            self.complete = True
            self._buffer = data[end:]

    def _take(self, piece: bytes) -> None:
        self.received_bytes += len(piece)
        parts = self._parts
        if not parts or len(piece) >= _SMALL_BYTES:
            parts.append(piece)
        elif isinstance(parts[-1], bytearray):
            parts[-1] += piece
        else:
            parts.append(bytearray(piece))

    def _too_large(self) -> BadRequest:
        return BadRequest(413, f"The body is larger than {self._most} bytes.")

    def take_body(self) -> bytes:
        """The body without the framing of its chunks, once it is complete; nothing of it is kept here."""
        parts, self._parts = self._parts, []
        if len(parts) == 1 and isinstance(parts[0], bytes):
            return parts[0]
        return b"".join(parts)

    def next(self) -> None:
        """Forget this request, which must be complete, and go on with what is left over. Raises BadRequest."""
        if not self.complete:
            raise RuntimeError("The rest of a body would be taken for the next request.")
        rest, self._buffer = self._buffer, b""
        self._forget()
        if rest:
            self.feed(rest)

    def waiting(self) -> int:
        """Bytes that lie in the buffer: of other requests, or of a head that is not whole."""
        return len(self._buffer)

    def end(self) -> None:
        """The connection is gone: nothing of it is needed."""
        self._buffer = b""
        self._forget()
