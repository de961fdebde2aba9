"""Answers of our own pods, HTTP/1.1: what is not understood is refused, and on doubt the connection is not kept.

Rules are those of RFC 9112; where it lets a recipient guess, this one does not.
"""

from __future__ import annotations

import re
from typing import NamedTuple

CHUNKED = -1
"""A body of chunks."""
UNTIL_CLOSE = -2
"""A body that ends with the connection."""
NO_LIMIT = 1 << 62

MOST_HEAD_BYTES = 64 * 1024
MOST_TRAILER_BYTES = 8 * 1024
# A chunk's size with its extensions, and the extensions of a whole body: nobody has a use for them.
MOST_CHUNK_LINE_BYTES = 1024
MOST_EXTENSION_BYTES = 16 * 1024

# Of one connection, and not for who is behind it: RFC 9110 section 7.6.1, and what came before it.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
    )
)
FRAMING = frozenset((b"content-length", b"transfer-encoding"))

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"
_FIELD = _TOKEN + rb"++:" + _TEXT + rb"*+\r\n"
_HEAD = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])( " + _TEXT + rb"*+)?\r\n(?:" + _FIELD + rb")*+\r\n")
# The lines that decide anything, and those that stay here.
_TELLING = re.compile(
    rb"\n(content-length|content-type|transfer-encoding|" + b"|".join(sorted(HOP_BY_HOP)) + rb"):[\t ]*([^\r]*)",
    re.IGNORECASE,
)
# Those of vLLM and of Berth's APIs, which can be read at a glance.
_USUAL = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) [\x20-\x7e]*+\r\n(?:date: [\x20-\x7e]*+\r\n)?+(?:server: [\x20-\x7e]*+\r\n)?+"
    rb"(?:content-length: ([0-9]{1,15}+)\r\n)?+"
    rb"content-type: (?:(text/event-stream)(?=[;\r])|(?! |(?i:text/event-stream)))[\x20-\x7e]*+\r\n"
    rb"(?(2)|(?:content-length: ([0-9]{1,15}+)\r\n)?+)(?:(?:cache-control|vary): [\x20-\x7e]*+\r\n)*+"
    rb"(transfer-encoding: chunked\r\n)?+\r\n"
)
# What may have come of a head up to now, quickly told, though in vain where it begins within a line's end.
WELL = re.compile(rb"(?:[^\r\n\0]++|\r\n(?![\t ]))*+\r?")
# What may not: a line feed or a carriage return by itself, a NUL, a folded line.
ILL = re.compile(rb"\0|(?<!\r)\n|\r[^\n]|\r\n[\t ]")


class BadAnswer(Exception):
    """A pod's answer, or the chunks of a body, are not what RFC 9112 allows or nothing that can be told for sure."""


class TooLarge(BadAnswer):
    """The chunks of a body are more than may be."""


class Head(NamedTuple):
    """An answer's head.

    head: for the client, without hop-by-hop headers and without the empty line.  length: of the body in bytes, or
    CHUNKED, or UNTIL_CLOSE.  keep_alive: the pod keeps the connection.  event_stream: the body is one.
    """

    status: int
    head: bytes
    length: int
    keep_alive: bool
    event_stream: bool


def read_head(buffer: bytes, start: int, to_head: bool) -> tuple[Head, int] | None:
    """The head that begins at `start` and where its body does; None while it is not whole. Raises BadAnswer.

    to_head: the request's method was HEAD.  Informational answers (1xx) are returned like others.
    """
    usual = _USUAL.match(buffer, start, start + MOST_HEAD_BYTES)
    if usual is not None and not to_head:
        code, before, event_stream, after, chunked = usual.groups()
        length = before or after
        # Exactly one of the two says where the body ends.
        if (length is None) is not (chunked is None) and code != b"204" and code != b"304":
            end = usual.end()
            head = buffer[start : end - 2]
            return Head(int(code), head, int(length or CHUNKED), True, event_stream is not None), end
    return _read_head(buffer, start, to_head)


def _read_head(buffer: bytes, start: int, to_head: bool) -> tuple[Head, int] | None:
    end = buffer.find(b"\r\n\r\n", start, start + MOST_HEAD_BYTES) + 4
    if end < 4:
        _check_part(buffer, start)
        return None
    found = _HEAD.match(buffer, start, end)
    if found is None:
        raise BadAnswer("The head of the pod's answer is not HTTP.")
    minor, code, reason = found.groups()
    status = int(code)
    headers = [(name.lower(), value.rstrip(b"\t ")) for name, value in _TELLING.findall(buffer, start, end)]
    options = {
        token.strip(b"\t ").lower() for name, value in headers if name == b"connection" for token in value.split(b",")
    }
    length = _length(status, minor, headers, to_head)
    event_stream = any(
        name == b"content-type" and value.partition(b";")[0].rstrip(b"\t ").lower() == b"text/event-stream"
        for name, value in headers
    )
    # RFC 9110 section 7.6.1 for what Connection names; how long the body is stays said.
    drop = HOP_BY_HOP | (options - FRAMING)
    if status == 204 or status < 200:
        drop |= FRAMING
    if minor == b"1" and reason is not None and drop.isdisjoint([name for name, _ in headers]):
        head = buffer[start : end - 2]
    else:
        lines = buffer[start : end - 4].split(b"\r\n")[1:]
        kept = [line for line in lines if line.partition(b":")[0].lower() not in drop]
        head = b"\r\n".join([b"HTTP/1.1 " + code + (reason or b" "), *kept, b""])
    keep_alive = minor == b"1" and length != UNTIL_CLOSE and b"close" not in options
    return Head(status, head, length, keep_alive, event_stream), end


def without_chunks(head: Head) -> Head:
    """The head of the same answer for a client that does not know of chunks: its end is that of the connection."""
    lines = [line for line in head.head.split(b"\r\n") if not line.lower().startswith(b"transfer-encoding:")]
    return head._replace(head=b"\r\n".join(lines), length=UNTIL_CLOSE)


def _check_part(buffer: bytes, start: int) -> None:
    if len(buffer) - start >= MOST_HEAD_BYTES:
        raise BadAnswer("The head of the pod's answer is larger than 64 KiB.")
    if not b"HTTP/1.".startswith(buffer[start : start + 7]) or ILL.search(buffer, start):
        raise BadAnswer("The head of the pod's answer is not HTTP.")


def _length(status: int, minor: bytes, headers: list[tuple[bytes, bytes]], to_head: bool) -> int:
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise BadAnswer("The pod's answer says more than once how long it is.")
    if lengths and not re.fullmatch(rb"[0-9]{1,15}", lengths[0]):
        raise BadAnswer("The Content-Length of the pod's answer is not a number of bytes.")
    if codings and (codings[0].lower() != b"chunked" or minor == b"0"):
        raise BadAnswer("The Transfer-Encoding of the pod's answer is not chunked of HTTP/1.1.")
    if status == 101:
        raise BadAnswer("The pod's answer changes the protocol, which nobody asked for.")
    if status < 200 or status == 204:
        if codings or (lengths and int(lengths[0])):
            raise BadAnswer(f"The pod's answer has the status {status} and a body.")
        return 0
    if to_head or status == 304:
        return 0
    if lengths:
        return int(lengths[0])
    return CHUNKED if codings else UNTIL_CLOSE


# As engines write sizes: without leading zeros, in lower case.
_SIZES = {b"%x" % size: size for size in range(1, 4096)}
SIZE_LINES = {len(digits) + 2 + size + 2: digits + b"\r\n" for digits, size in _SIZES.items()}
"""By the bytes of a whole chunk, framing and all: the line that it must begin with."""

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(;" + _TEXT + rb"*+)?\r\n")
_TRAILER = re.compile(_FIELD)

_SIZE, _DATA, _AFTER, _TRAILERS, _END = range(5)


class Chunked:
    """Follows the chunks of one body to where it ends. most_bytes: of all chunks together."""

    __slots__ = ("_extension_bytes", "_left", "_line", "_most", "_state", "_trailer_bytes")

    def __init__(self, most_bytes: int = NO_LIMIT) -> None:
        self._most = most_bytes
        self._state = _SIZE
        self._left = 0
        self._line = b""
        self._extension_bytes = 0
        self._trailer_bytes = 0

    @property
    def between(self) -> bool:
        """The next byte begins a chunk, or what comes instead of the last one."""
        return self._state == _SIZE and not self._line

    def feed(self, data: bytes, into: list[bytes] | None = None) -> int:
        """Index just after the end in `data`, or -1 while there is more to come. into: gets what is in the chunks.

        Raises BadAnswer, after which this is of no more use.
        """
        position = 0
        if self.between:
            # Whole chunks, as engines send them: one or a few in each piece.
            whole = len(data)
            while position < whole:
                begin = data.find(b"\r\n", position, position + 6) + 2
                if begin < 2:
                    break
                size = _SIZES.get(data[position : begin - 2])
                if size is None or size > self._most:
                    break
                end = begin + size
                if not data.startswith(b"\r\n", end):
                    break
                self._most -= size
                if into is not None:
                    into.append(data[begin:end])
                position = end + 2
            else:
                return -1
        return self._feed(data, position, into)

    def _feed(self, data: bytes, position: int, into: list[bytes] | None) -> int:
        size = len(data)
        while position < size:
            if self._state == _DATA:
                end = min(position + self._left, size)
                if into is not None:
                    into.append(data[position:end])
                self._left -= end - position
                position = end
                if not self._left:
                    self._state = _AFTER
                continue
            if self._state == _END:
                raise BadAnswer("There is more after the last chunk.")
            end = data.find(b"\n", position) + 1
            line = self._line + data[position : end or size]
            most = MOST_TRAILER_BYTES if self._state == _TRAILERS else MOST_CHUNK_LINE_BYTES
            if len(line) > most:
                raise BadAnswer("A line between the chunks is too long.")
            if not end:
                if self._state == _AFTER and line != b"\r":
                    raise BadAnswer("A chunk is longer than its size says.")
                if ILL.search(line):
                    raise BadAnswer("A line between the chunks ends in the middle, or has a NUL.")
                self._line = line
                return -1
            self._line = b""
            position = end
            self._take(line)
            if self._state == _END:
                return position
        return -1

    def _take(self, line: bytes) -> None:
        if self._state == _AFTER:
            if line != b"\r\n":
                raise BadAnswer("A chunk is longer than its size says.")
            self._state = _SIZE
        elif self._state == _SIZE:
            self._take_size(line)
        elif line == b"\r\n":
            self._state = _END
        else:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MOST_TRAILER_BYTES:
                raise BadAnswer("The trailers are larger than 8 KiB.")
            if not _TRAILER.fullmatch(line):
                raise BadAnswer("A trailer is not a header.")

    def _take_size(self, line: bytes) -> None:
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            raise BadAnswer("The size of a chunk is not a hexadecimal number.")
        digits, extension = found.groups()
        size = int(digits, 16)
        if extension:
            self._extension_bytes += len(extension)
            if self._extension_bytes > MOST_EXTENSION_BYTES:
                raise BadAnswer("The extensions of the chunks are larger than 16 KiB.")
        if size > self._most:
            raise TooLarge("The chunks are larger than the body may be.")
        self._most -= size
        self._left = size
        self._state = _DATA if size else _TRAILERS
