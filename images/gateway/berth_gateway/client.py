"""A connection of a client: takes its requests, one after the other, and finds out whom each is for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import berth_apis
from berth_apis import http, scale_egp
from berth_gateway import models, paths, refusing
from berth_gateway.access import allows
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
ENDPOINT_KEY = b"x-berth-endpoint-key"

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_KEY = http.Failure(
    401,
    "A key of this gateway is needed: send one as x-api-key, as Authorization: Bearer, or as the user name of Basic.",
)


class Client(asyncio.Protocol):
    """One connection. port: of the endpoint whose Service brought it here; None for the URL that all share.

    exchange: the request under way, from its head on.  quiet_seconds, reading_seconds: counted by who looks at it.
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
        "lingers",
        "quiet_seconds",
        "reading_seconds",
        "transport",
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
        self.quiet_seconds = self.reading_seconds = 0

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
            if exchange is None or exchange.endpoint is None:
                self._advance()
            elif reader.waiting() > MOST_WAITING_BYTES and not self._paused:
                self._paused = True
                self.transport.pause_reading()
        except BadRequest as bad:
            self._refuse_connection(bad)

    def connection_lost(self, error: Exception | None) -> None:
        self._relay.clients.discard(self)
        self._uncount()
        exchange = self.exchange
        if exchange is not None and exchange.endpoint is not None:
            exchange.leave()
        self.exchange = None
        self._reader.end()

    def pause_writing(self) -> None:
        """The client reads more slowly than the pod answers."""
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.transport.resume_reading()

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
        self._uncount()
        self.reading_seconds = 0
        exchange.body = self._reader.body()
        try:
            if self._failure is not None:
                raise http.Refused(self._failure)
            if self._port is None:
                self._serve_named(exchange)
            else:
                self._serve_bound(exchange)
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
        counted = max(0, received - COUNTED_BYTES)
        self._relay.body_bytes += counted - self._counted_bytes
        self._counted_bytes = counted
        if counted and self._relay.body_bytes > self._relay.most_bodies_bytes:
            failure = http.Failure(503, "The gateway is receiving too many long requests. Try again.", 5)
            exchange.refuse(failure, close=True)

    def _uncount(self) -> None:
        self._relay.body_bytes -= self._counted_bytes
        self._counted_bytes = 0

    # Whom a request is for.

    def _serve_named(self, exchange: Exchange) -> None:
        """By the model's name. Raises Refused."""
        asked, relay, route = exchange.asked, self._relay, exchange.route
        if route.kind == paths.HEALTH:
            exchange.answer(refusing.plain(200, "ok\n"))
            return
        if route.kind == paths.LIST:
            api = route.dialect.NAME
            self._list(
                exchange,
                [
                    (name, found)
                    for name, found in relay.table.reachable()
                    if api in found.apis and allows(exchange.caller, found, name)
                ],
            )
            return
        if route.kind == paths.NONE:
            raise http.refused(f"The gateway serves no {asked.method} {asked.path[:100]}.", 404)
        content_type = _header(asked.headers, b"content-type") if route.where == paths.FORM else b""
        named = paths.model_of(route, asked.query, content_type, exchange.body)
        if named is None:
            raise http.refused("No model is named: set model to one of the names that the list of models has.")
        model = named.model
        endpoint = relay.table.find(model, vendor=route.dialect is scale_egp)
        if endpoint is None or not allows(exchange.caller, endpoint, model):
            raise paths.unknown_model(route, model)
        if route.dialect.NAME not in endpoint.apis:
            apis = ", ".join(sorted(endpoint.apis))
            raise http.refused(f"{model[:100]!r} is not served in this API: it is served in {apis}.", 404)
        # The key of this gateway is nobody else's.
        key = asked.credentials
        if not relay.access.open:
            own = _header(asked.headers, ENDPOINT_KEY) if endpoint.own_keys else b""
            key = b"authorization: Bearer " + own + b"\r\n" if own else b""
        exchange.named, exchange.body = named, named.body
        if model not in endpoint.names:
            rest = model.partition("/")[2]
            known = rest if rest in endpoint.names else endpoint.names[0]
            exchange.target, exchange.body = paths.forwarded(route, named, asked.target, known)
        exchange.dispatch(endpoint, key)

    def _serve_bound(self, exchange: Exchange) -> None:
        """By the port alone: what the request says of host and model is the endpoint's own to judge. Raises Refused."""
        assert self._port is not None
        owner, route = self._relay.owner(self._port), exchange.route
        if owner is None or owner is not self.bound:
            exchange.refuse(http.Failure(421, "This address belongs to another endpoint by now. Connect again."), True)
            return
        if not owner.ready:
            # A look must not wake it: load balancers look all the time.
            if route.kind == paths.HEALTH:
                exchange.answer(refusing.plain(200, "asleep\n"), close=True)
                return
            if route.kind == paths.LIST:
                self._list(exchange, [(name, owner) for name in owner.names])
                return
            if route.kind == paths.NONE and exchange.asked.method in ("GET", "HEAD"):
                raise http.Refused(self._relay.unready(owner))
        exchange.dispatch(owner, exchange.asked.credentials)

    def _list(self, exchange: Exchange, named: list[tuple[str, Endpoint]]) -> None:
        asked, route = exchange.asked, exchange.route
        request = http.Request(asked.method, route.rest, paths.query_of(asked.query), {}, exchange.body)
        exchange.answer(models.answer(route, request, named, self._relay.clock))

    # The end of a request, or of all.

    def next(self, closes: bool) -> None:
        """A request has its answer: go on with the one that has arrived meanwhile, unless this was the last."""
        if closes:
            self._close()
            return
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        try:
            self._reader.next()
            if self._reader.asked is not None:
                # Not from here: a client may have sent a thousand.
                asyncio.get_running_loop().call_soon(self._go_on)
        except BadRequest as bad:
            self._refuse_connection(bad)

    def _go_on(self) -> None:
        if self.transport.is_closing() or self.exchange is not None:
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
        self._uncount()
        if self._reader.complete and not self._reader.waiting():
            self.transport.close()
            return
        self.lingers = True
        self.reading_seconds = 0
        if self.transport.can_write_eof():
            self.transport.write_eof()


def _header(headers: tuple[tuple[bytes, bytes], ...], name: bytes) -> bytes:
    return next((value for found, value in headers if found == name), b"")
