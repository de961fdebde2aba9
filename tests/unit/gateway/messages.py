"""Strategies: HTTP messages that are right, and what becomes of them when somebody tampers with them."""

from __future__ import annotations

from hypothesis import strategies as st

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

# What those who smuggle requests put in, and where a careless reader goes wrong.
NASTY = [
    *[b"\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b":", b",", b";", b"\r\n ", b"\r\n\r\n", b"\x0b", b"\x7f", b"\xff"],
    *[b"Content-Length: 3\r\n", b"\r\ncontent-length: 0", b"Content-Length:", b"content-length : 4\r\n"],
    *[b"Transfer-Encoding: chunked\r\n", b"\r\ntransfer-encoding:\tChunked", b"transfer-encoding: gzip\r\n"],
    *[b"gzip, ", b", chunked", b"x", b"0x", b"+", b"-", b"_", b"0", b"5", b"f", b"00000000", b"fffffffffffffffff"],
    *[b"0\r\n\r\n", b"5\r\nhello\r\n", b";a=b", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
    *[
        b"Host: b\r\n",
        b"Connection: close\r\n",
        b"Connection: content-length, transfer-encoding\r\n",
        b"Upgrade: h2c\r\n",
    ],
    *[b"Expect: 100-continue\r\n", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2", b"http://a", b"http://b/", b"#", b"*", b"204"],
]

names = st.one_of(
    st.text(TOKEN, min_size=1, max_size=8),
    st.sampled_from(["Connection", "TE", "Upgrade", "X-Berth-Owner", "Authorization", "x-api-key", "content_length"]),
).filter(lambda name: name.lower() not in ("host", "content-length", "transfer-encoding", "expect"))
values = st.one_of(
    st.lists(st.sampled_from([*range(0x20, 0x7F), 0x09, 0x80, 0xFF]), max_size=12).map(bytes),
    st.sampled_from([b"close", b"keep-alive, x", b"content-length", b"chunked"]),
)
headers = st.lists(st.tuples(names.map(str.encode), values), max_size=4)
bodies = st.one_of(st.binary(max_size=60), st.sampled_from(NASTY))
targets = st.text([chr(at) for at in range(0x21, 0x7F) if chr(at) != "#"], max_size=12).map(lambda text: "/" + text)


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    """`body` in chunks, with extensions and trailers."""
    out, at = b"", 0
    while at < len(body):
        size = draw(st.integers(1, len(body) - at))
        digits = draw(st.sampled_from([b"%x", b"%X", b"%03x"])) % size
        extension = draw(st.sampled_from([b"", b"", b";a=b", b';q="x y"']))
        out += digits + extension + b"\r\n" + body[at : at + size] + b"\r\n"
        at += size
    return out + b"0\r\n" + draw(st.sampled_from([b"", b"", b"X-Sum: 1\r\n", b"Content-Length: 9\r\n"])) + b"\r\n"


@st.composite
def framed(draw: st.DrawFn, body: bytes, codings: bool) -> tuple[bytes, bytes]:
    """A header that says how long a body is, and the body as it says."""
    if codings and draw(st.booleans()):
        line = draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED "]))
        return line, draw(chunked(body))
    return draw(st.sampled_from([b"Content-Length: %d", b"content-length: %d", b"CONTENT-LENGTH:00%d "])) % len(
        body
    ), body


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, tuple[str, str, bytes]]:
    """A right request, and its method, target and body."""
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"]))
    target = draw(targets)
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]))
    form = draw(st.sampled_from([b"%s", b"%s", b"http://a.b:80%s"])) % target.encode()
    lines = [name + b":" + value for name, value in draw(headers)]
    body = draw(bodies) if draw(st.booleans()) else b""
    sent = body
    if body or draw(st.booleans()):
        line, sent = draw(framed(body, version == b"HTTP/1.1"))
        lines.append(line)
    lines = [*draw(st.permutations([*lines, b"Host: a.b:80"]))]
    return b"\r\n".join([b"%s %s %s" % (method.encode(), form, version), *lines, b"", sent]), (method, target, body)


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, int, bytes]:
    """A right answer to another method than HEAD, its status and its body."""
    status = draw(st.sampled_from([200, 200, 200, 201, 404, 503]))
    body = draw(bodies)
    line, sent = draw(framed(body, True))
    lines = [b"date: x", b"server: uvicorn", line, b"content-type: text/event-stream; charset=utf-8"]
    if draw(st.booleans()):
        lines += [name + b":" + value for name, value in draw(headers)]
        lines = [*draw(st.permutations(lines))]
    else:
        # As vLLM and Berth's APIs write them: more headers come before what says that there are chunks.
        in_chunks = line[0] in b"Tt"
        if in_chunks or draw(st.booleans()):
            lines[2], lines[3] = lines[3], lines[2]
        at = 3 if in_chunks else 4
        lines[at:at] = draw(st.sampled_from([[], [b"vary: Origin"], [b"cache-control: no-store", b"vary: Origin"]]))
    reason = draw(st.sampled_from([b" OK", b" ", b"", b" \xff x"]))
    return b"\r\n".join([b"HTTP/1.1 %d%s" % (status, reason), *lines, b"", sent]), status, body


@st.composite
def tampered(draw: st.DrawFn, data: bytes) -> bytes:
    """`data`, somewhere else than it was right."""
    for _ in range(draw(st.integers(0, 3))):
        # Between the lines more often than within them.
        ends = [at for at in range(len(data)) if data[at : at + 1] in (b"\r", b"\n", b":", b" ")]
        at = draw(st.one_of(st.integers(0, len(data)), st.sampled_from(ends or [0])))
        gone = draw(st.sampled_from([0, 0, 1, 2]))
        put = draw(st.one_of(st.sampled_from(NASTY), st.binary(max_size=2)))
        data = data[:at] + put + data[at + gone :]
    return data


cuts = st.lists(st.integers(0, 400), max_size=6)
