"""A connection to a pod: sends one request after the other and relays the bytes of each answer as they come.

Nothing is done per event of a stream but to follow the chunk sizes, which tell where the answer ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from berth_gateway import http1
from berth_gateway.table import Pod

if TYPE_CHECKING:
    from berth_gateway.exchange import Exchange

IDLE_SECONDS = 4.0
"""How long a connection is kept for another request. A pod that drains closes those without one after five seconds."""
HIGH_WATER_BYTES = 64 * 1024

_HEAD = -3
"""The answer's head has not come whole."""
_REFUSAL = -4
"""A short answer that is read whole first: it may mean to ask another pod, or becomes an event of a stream."""
MOST_REFUSAL_BYTES = 64 * 1024
_MAY_DRAIN = (500, 503)
_TAIL_READS = 4


class Upstream(asyncio.Protocol):
    """One connection. exchange: of the request being answered; None while it is idle, or told to close.

    now: monotonic seconds.
    """

    __slots__ = (
        "_between",
        "_buffer",
        "_chunked",
        "_head",
        "_left",
        "_now",
        "_pieces",
        "exchange",
        "idle_since",
        "pod",
        "quiet_seconds",
        "tail",
        "transport",
    )

    def __init__(self, pod: Pod, now: Callable[[], float]) -> None:
        self.pod = pod
        self._now = now
        self.exchange: Exchange | None = None
        self.idle_since = 0.0
        self.quiet_seconds = 0
        self.tail: deque[bytes] = deque(maxlen=_TAIL_READS)
        """The last reads of an answer: where its usage stands."""
        self._buffer = b""
        self._left = _HEAD
        self._chunked: http1.Chunked | None = None
        self._between = False
        """The next byte of an answer that is passed on as it comes begins a chunk."""
        self._pieces: list[bytes] | None = None
        self._head: http1.Head | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)

    def ask(self, exchange: Exchange, request: bytes) -> None:
        """Send a request; its answer goes to `exchange`."""
        self.exchange = exchange
        self.quiet_seconds = 0
        self._left, self._buffer = _HEAD, b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:  # nobody has asked for anything
            self.transport.abort()
            return
        self.quiet_seconds = 0
        if self._between:
            size_line = http1.SIZE_LINES.get(len(data))
            if size_line is not None and data[: len(size_line)] == size_line and data[-2:] == b"\r\n":
                # One whole chunk: an event. What is called or touched here, each of many streams has to pay for.
                self.tail.append(data)
                exchange.sent_bytes += len(data)
                exchange.client.transport.write(data)
                return
        left = self._left
        try:
            if left == http1.CHUNKED:
                assert self._chunked is not None
                if self._pieces is not None:
                    self._pass_on_plainly(exchange, data)
                    return
                end = self._chunked.feed(data)
                self._between = self._chunked.between
                self.tail.append(data)
                if end < 0:
                    exchange.pass_on(data)
                    return
                exchange.pass_on(data if end == len(data) else data[:end])
                self._end(end == len(data))
            elif left > 0:
                self.tail.append(data)
                if len(data) < left:
                    self._left = left - len(data)
                    exchange.pass_on(data)
                else:
                    exchange.pass_on(data if len(data) == left else data[:left])
                    self._end(len(data) == left)
            elif left == http1.UNTIL_CLOSE:
                self.tail.append(data)
                exchange.pass_on(data)
            elif left == _HEAD:
                self._read_head(exchange, data)
            else:
                self._buffer += data
                self._read_refusal(exchange)
        except http1.BadAnswer as error:
            self._fail(f"a pod's answer is not understood: {error}")

    def _pass_on_plainly(self, exchange: Exchange, data: bytes) -> None:
        """What is in the chunks, for a client that does not know of chunks."""
        assert self._chunked is not None
        assert self._pieces is not None
        end = self._chunked.feed(data, self._pieces)
        plain = b"".join(self._pieces)
        self._pieces.clear()
        self.tail.append(plain)
        if plain:
            exchange.pass_on(plain)
        if end >= 0:
            self._end(end == len(data))

    def _read_head(self, exchange: Exchange, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        start = 0
        while True:
            found = http1.read_head(buffer, start, exchange.asked.method == "HEAD")
            if found is None:
                self._buffer = buffer[start:]
                return
            head, start = found
            if head.status >= 200:
                break
            if head.status == 101:
                raise http1.BadAnswer("it changes the protocol")
        self._head = head
        rest = buffer[start:] if start < len(buffer) else b""
        self._buffer = b""
        self.tail.clear()
        status = head.status
        if status != 200 and (status in _MAY_DRAIN or exchange.told_at) and 0 < head.length <= MOST_REFUSAL_BYTES:
            self._left, self._buffer = _REFUSAL, rest
            self._read_refusal(exchange)
            return
        self._answer(exchange, head, rest)

    def _read_refusal(self, exchange: Exchange) -> None:
        head = self._head
        assert head is not None
        if len(self._buffer) < head.length:
            return
        body, self._buffer = self._buffer, b""
        if head.status in _MAY_DRAIN and exchange.is_refused_by_drain(body[: head.length]):
            self._release(head.keep_alive and len(body) == head.length)
            exchange.ask_another("drain", head, body[: head.length])
            return
        self._answer(exchange, head, body)

    def _answer(self, exchange: Exchange, head: http1.Head, rest: bytes) -> None:
        """Tell the client what has come. Everything that may end the answer comes last."""
        length = head.length
        if rest:
            self.tail.append(rest)
        if length == http1.CHUNKED:
            self._left = http1.CHUNKED
            self._chunked = http1.Chunked()
            if exchange.asked.version == "1.0":
                self._pieces = []
                exchange.begin_answer(http1.without_chunks(head), b"")
                if rest and self.exchange is exchange:
                    self._pass_on_plainly(exchange, rest)
                return
            end = self._chunked.feed(rest) if rest else -1
            self._between = self._chunked.between
        elif length == http1.UNTIL_CLOSE:
            self._left, end = http1.UNTIL_CLOSE, -1
        else:
            end = length if len(rest) >= length else -1
            self._left = length - len(rest)
        exchange.begin_answer(head, rest if end < 0 or end == len(rest) else rest[:end])
        if end >= 0 and self.exchange is exchange:
            self._end(end == len(rest))

    def _end(self, clean: bool) -> None:
        """The answer is whole. clean: no byte came after it."""
        exchange, head = self.exchange, self._head
        assert exchange is not None
        assert head is not None
        self._release(clean and head.keep_alive and self._left != http1.UNTIL_CLOSE)
        exchange.end_answer(b"".join(self.tail))

    def _release(self, reusable: bool) -> None:
        self.exchange = None
        self._chunked = self._pieces = None
        self._between = False
        transport = self.transport
        # A pod may answer before it has read the whole request: the rest would stand before the next one.
        if reusable and self.pod.ready and not transport.is_closing() and not transport.get_write_buffer_size():
            transport.resume_reading()
            self.idle_since = self._now()
            self.pod.idle.append(self)
        else:
            # Not `close`, which waits for a pod that does not read.
            transport.abort()

    def leave(self) -> None:
        """The client has left: the pod frees what its request holds when the connection goes."""
        self.exchange = None
        self.transport.abort()

    def _fail(self, why: str) -> None:
        exchange, self.exchange = self.exchange, None
        self.transport.abort()
        if exchange is not None:
            exchange.lose_answer(why)

    def connection_lost(self, error: Exception | None) -> None:
        exchange = self.exchange
        if exchange is None:
            if self in self.pod.idle:
                self.pod.idle.remove(self)
            return
        if self._left == http1.UNTIL_CLOSE and error is None:
            self.exchange = None
            exchange.end_answer(b"".join(self.tail))
            return
        self._fail("the pod closed the connection")

    def pause_writing(self) -> None:
        """A request is whole in memory before it is sent: there is nobody to slow down."""
