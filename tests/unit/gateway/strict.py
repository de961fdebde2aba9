"""A second opinion on HTTP/1.1: RFC 9112 at its strictest, line by line, sharing nothing with the gateway's readers."""

from __future__ import annotations

from typing import NamedTuple

TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
TEXT = frozenset({0x09, *range(0x20, 0x7F), *range(0x80, 0x100)})
HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF")

Headers = list[tuple[bytes, bytes]]


class Wrong(Exception):
    """Not HTTP/1.1, or nothing that can be told for sure."""


class Short(Exception):
    """More bytes are needed."""


class Request(NamedTuple):
    """headers: names in lower case.  rest: what comes after the request."""

    method: bytes
    target: bytes
    version: bytes
    headers: Headers
    body: bytes
    rest: bytes


class Answer(NamedTuple):
    """body: as far as it has come.  ended: all of it.  framing: none, length, chunked or close."""

    status: int
    headers: Headers
    framing: str
    body: bytes
    ended: bool
    rest: bytes


def values(headers: Headers, name: bytes) -> list[bytes]:
    """All that a header says, in order."""
    return [value for found, value in headers if found == name]


def request(data: bytes) -> Request:
    """The first request in `data`. Raises Wrong or Short."""
    if data[:2] == b"\r\n":
        data = data[2:]
    first, headers, rest = _head(data)
    words = first.split(b" ")
    if len(words) != 3:
        raise Wrong(first)
    method, target, version = words
    if not method or not set(method) <= TOKEN or version not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise Wrong(first)
    if not target or not all(0x21 <= byte <= 0x7E for byte in target):
        raise Wrong(target)
    hosts = values(headers, b"host")
    if len(hosts) > 1 or (version == b"HTTP/1.1" and not hosts):
        raise Wrong("host")
    framing, length = _framing(headers, version == b"HTTP/1.1")
    if framing == "chunked":
        body, rest = chunks(rest)
    else:
        if len(rest) < length:
            raise Short
        body, rest = rest[:length], rest[length:]
    return Request(method, target, version, headers, body, rest)


def answer(data: bytes, to_head: bool) -> Answer:
    """The first answer in `data`, and as much of its body as there is. Raises Wrong or Short."""
    first, headers, rest = _head(data)
    words = first.split(b" ", 2)
    if len(words) < 2 or words[0] not in (b"HTTP/1.0", b"HTTP/1.1") or not set(first) <= TEXT:
        raise Wrong(first)
    if len(words[1]) != 3 or not words[1].isdigit() or not 100 <= int(words[1]) <= 599:
        raise Wrong(first)
    status = int(words[1])
    framing, length = _framing(headers, words[0] == b"HTTP/1.1")
    if status < 200 or status == 204:
        if framing == "chunked" or length or status == 101:
            raise Wrong(status)
        framing, length = "none", 0
    elif to_head or status == 304:
        framing, length = "none", 0
    elif framing == "none":
        framing = "close"
    if framing == "close":
        return Answer(status, headers, framing, rest, False, b"")
    if framing == "chunked":
        try:
            body, rest = chunks(rest)
        except Short:
            return Answer(status, headers, framing, b"", False, b"")
        return Answer(status, headers, framing, body, True, rest)
    return Answer(status, headers, framing, rest[:length], len(rest) >= length, rest[length:])


def chunks(data: bytes) -> tuple[bytes, bytes]:
    """What is in the chunks of one body, and what comes after it. Raises Wrong or Short."""
    body = b""
    while True:
        line, data = _line(data)
        digits, _, extension = line.partition(b";")
        if not digits or not set(digits) <= HEXADECIMAL or len(digits) > 16 or not set(extension) <= TEXT:
            raise Wrong(line)
        size = int(digits, 16)
        if not size:
            break
        if len(data) < size + 2:
            if len(data) > size and data[size:] != b"\r":
                raise Wrong(data[size:])
            raise Short
        if data[size : size + 2] != b"\r\n":
            raise Wrong(data[size : size + 2])
        body, data = body + data[:size], data[size + 2 :]
    while True:
        line, data = _line(data)
        if not line:
            return body, data
        _header(line)


def _head(data: bytes) -> tuple[bytes, Headers, bytes]:
    first, data = _line(data)
    lines = []
    while True:
        line, data = _line(data)
        if not line:
            return first, [_header(line) for line in lines], data
        lines.append(line)


def _line(data: bytes) -> tuple[bytes, bytes]:
    for at, byte in enumerate(data):
        if byte == 0x0D:
            if len(data) == at + 1:
                raise Short
            if data[at + 1] != 0x0A:
                raise Wrong("CR")
            return data[:at], data[at + 2 :]
        if byte in (0x0A, 0x00):
            raise Wrong(byte)
    raise Short


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not name or not set(name) <= TOKEN or not set(value) <= TEXT:
        raise Wrong(line)
    return name.lower(), value.strip(b" \t")


def _framing(headers: Headers, has_codings: bool) -> tuple[str, int]:
    lengths, codings = values(headers, b"content-length"), values(headers, b"transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise Wrong("framing")
    if codings:
        if codings[0].lower() != b"chunked" or not has_codings:
            raise Wrong(codings[0])
        return "chunked", 0
    if lengths:
        if not lengths[0] or not set(lengths[0]) <= frozenset(b"0123456789"):
            raise Wrong(lengths[0])
        return "length", int(lengths[0])
    return "none", 0
