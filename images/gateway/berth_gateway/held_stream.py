"""A stream that has begun while its request still waits: the head, a comment, a failure, the end. Pure."""

from __future__ import annotations

from types import ModuleType

from berth_apis import http, llm_engine

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-store\r\n"
    b"transfer-encoding: chunked\r\n"
)
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def failed(dialect: ModuleType, failure: http.Failure, now: float) -> bytes:
    """The event that tells a failure after 200, as the API's own streams do. now: seconds since 1970."""
    if dialect is llm_engine:
        return chunk(llm_engine.stream_failure(failure, now))
    answer = dialect.failure(failure, http.Request("POST", "/", {}, {}, b""))
    return chunk(b"data: " + answer.body + b"\n\ndata: [DONE]\n\n")
