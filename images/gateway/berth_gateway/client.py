"""A connection of a client: takes its requests, one after the other."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, cast

import berth_apis
from berth_apis import http
from berth_gateway import destination, paths, refusing
from berth_gateway.exchange import Exchange
from berth_gateway.reading import BadRequest, Reader
from berth_gateway.table import Endpoint
from berth_gateway.upstream import HIGH_WATER_BYTES

if TYPE_CHECKING:
    from berth_gateway.relay import Relay

MOST_WAITING_BYTES = 64 * 1024
"""Of requests that a client sends before the answer to the one before has ended."""
COUNTED_BYTES = 1024 * 1024
"""What a body has beyond this counts against what all clients together may send."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_KEY = http.Failure(
    401,
    "A key of this gateway is needed: send one as x-api-key, as Authorization: Bearer, or as the user name of Basic.",
)


class Client(asyncio.Protocol):
    """One connection. port: of the endpoint whose Service brought it here; None for the URL that all share.

    exchange: the request under way, from its head on.  full: so much lies here unread that nothing more is answered.
    quiet_seconds, reading_seconds, unsent_bytes, unsent_seconds: of who looks at it.
    """

    __slots__ = (
        "_counted_bytes",
        "_failure",
        "_paused",
        "_port",
        "_reader",
        "_relay",
        "bound",
        "exchange",
        "full",
        "lingers",
        "quiet_seconds",
        "reading_seconds",
        "transport",
        "unsent_bytes",
        "unsent_seconds",
    )

    def __init__(self, relay: Relay, port: int | None) -> None:
        self._relay = relay
        self._port = port
        self._reader = Reader(relay.most_body_bytes)
        self._failure: http.Failure | None = None
        self._counted_bytes = 0
        self._paused = False
        self.exchange: Exchange | None = None
        self.bound: Endpoint | None = None
        """Whose Service led here when the connection was made: it is never another's later."""
        self.lingers = False
        """It has had its last answer, and may still be sending."""
        self.full = False
        self.quiet_seconds = self.reading_seconds = 0
        self.unsent_bytes = self.unsent_seconds = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._relay.clients.add(self)
        if self._port is not None:
            self.bound = self._relay.owner(self._port)

    def data_received(self, data: bytes) -> None:
        self.quiet_seconds = 0
        if self.lingers:
            return
        reader, exchange = self._reader, self.exchange
        try:
            reader.feed(data)
            # One whose reader does not take the answers to the ones before waits.
            if not self.full and (exchange is None or exchange.endpoint is None):
                self._advance()
        except BadRequest as bad:
            self._refuse_connection(bad)
            return
        if reader.asked is not None and (self.full or reader.waiting() > MOST_WAITING_BYTES):
            self._stop_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._relay.clients.discard(self)
        exchange = self.exchange
        if exchange is not None and exchange.endpoint is not None:
            exchange.leave()
        self.exchange = None
        self.count_body(0)
        self._reader.end()

    @property
    def is_reading(self) -> bool:
        """A request has begun to arrive."""
        return self._reader.asked is not None or self._reader.waiting() > 0

    def _advance(self) -> None:
        """As far as what has arrived allows; raises BadRequest."""
        asked = self._reader.asked
        if asked is None:
            return
        exchange = self.exchange
        if exchange is None:
            route = paths.route(asked.method, asked.path)
            exchange = self.exchange = Exchange(self._relay, self, asked, route)
            self._admit(exchange)
        if not self._reader.complete:
            self._wait_for_body(exchange)
            return
        if self._reader.received_bytes > COUNTED_BYTES:
            self.count_body(self._reader.received_bytes)
        exchange.body = self._reader.take_body()
        try:
            if self._failure is not None:
                raise http.Refused(self._failure)
            if self._port is None:
                destination.by_name(self._relay, exchange)
            else:
                destination.by_port(self._relay, exchange, self._port)
        except http.Refused as refusal:
            exchange.refuse(refusal.failure)

    def _admit(self, exchange: Exchange) -> None:
        """Who may not ask is told so before a long body is read."""
        self._failure = None
        if self._port is None and exchange.route.kind != paths.HEALTH:
            asked = exchange.asked
            caller = self._relay.access.caller(asked.headers, asked.credentials)
            if caller is None:
                self._failure = _NO_KEY
            else:
                exchange.caller = caller
        if exchange.asked.expects and not self._reader.complete and self._failure is None:
            self.transport.write(_CONTINUE)

    def _wait_for_body(self, exchange: Exchange) -> None:
        received = self._reader.received_bytes
        if self._failure is not None:
            # Only in the body some clients say how errors reach them.
            if received > paths.MOST_READ_BYTES or exchange.asked.expects:
                exchange.refuse(self._failure, close=True)
            return
        self.count_body(received)
        if self._counted_bytes and self._relay.body_bytes > self._relay.most_bodies_bytes:
            failure = http.Failure(503, "The gateway has too many long requests. Try again.", 5)
            exchange.refuse(failure, close=True)

    # How much it may send ahead, and how much lies here that it does not read.

    def pause_writing(self) -> None:
        """It reads more slowly than the pod answers, or than it asks."""
        self.full = True
        self.unsent_bytes = self.unsent_seconds = 0
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        self.full = False
        # What it could not send meanwhile is not its fault.
        self.quiet_seconds = self.reading_seconds = 0
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.transport.resume_reading()
        self._read_on()
        if self._reader.asked is not None:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _stop_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _read_on(self) -> None:
        """Unless too much lies here still."""
        if self._paused and not self.full and self._reader.waiting() <= MOST_WAITING_BYTES:
            self._paused = False
            self.transport.resume_reading()

    def has_left(self) -> bool:
        """Whether it has closed the connection, which nobody is told of as long as bytes wait for the other side."""
        if not self._paused or self.transport.is_closing():
            return self.transport.is_closing()
        poller = select.poll()
        poller.register(self.transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return bool(poller.poll(0))

    # Bodies.

    def count_body(self, size_bytes: int) -> None:
        """So much of a body lies here; 0: none does, or it is counted elsewhere."""
        counted = size_bytes - COUNTED_BYTES if size_bytes > COUNTED_BYTES else 0
        if counted != self._counted_bytes:
            self._relay.body_bytes += counted - self._counted_bytes
            self._counted_bytes = counted

    # The end of a request, or of all.

    def next(self, closes: bool) -> None:
        """A request has its answer: go on with the one that has arrived meanwhile, unless this was the last."""
        if closes:
            self._close()
            return
        # How long the answer took is not the client's silence.
        self.quiet_seconds = self.reading_seconds = 0
        self.count_body(0)
        try:
            self._reader.next()
        except BadRequest as bad:
            self._refuse_connection(bad)
            return
        if self._paused:
            self._read_on()
        if self._reader.asked is not None and not self.full:
            # Not from here: a client may have sent a thousand.
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        exchange = self.exchange
        if self.full or self.lingers or self.transport.is_closing():
            return
        if exchange is not None and exchange.endpoint is not None:
            return
        try:
            self._advance()
        except BadRequest as bad:
            self._refuse_connection(bad)

    def _refuse_connection(self, bad: BadRequest) -> None:
        """What is not understood ends the connection: nobody knows where the next request begins."""
        exchange = self.exchange
        if exchange is not None and exchange.endpoint is not None:
            # In the middle of an answer nothing can be said.
            exchange.leave()
            self.transport.abort()
            return
        self.exchange = None
        self._relay.counts.refused(str(bad.status))
        path = self._reader.asked.path if self._reader.asked is not None else "/"
        dialect, rest = berth_apis.claimant(path, refusing.ALL)
        answer = dialect.failure(http.Failure(bad.status, bad.message), http.Request("GET", rest, {}, {}, b""))
        self.transport.write(refusing.written(answer, False, True))
        self._close()

    def refuse_slow(self) -> None:
        """It has begun a request and does not finish it."""
        self._refuse_connection(BadRequest(408, "The request did not arrive in time."))

    def _close(self) -> None:
        """What was written is delivered first: closing while the client still sends would take it back."""
        self.count_body(0)
        has_sent_all = self._reader.complete and not self._reader.waiting() and not self._paused
        self._reader.end()
        if has_sent_all:
            self.transport.close()
            return
        self.lingers = True
        self.reading_seconds = 0
        if self._paused:
            # What it sends is read and forgotten.
            self._paused = False
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
