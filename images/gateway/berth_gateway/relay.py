"""The relay: its ports, the connections to pods that it keeps, those that wait, and a look a second at all of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from functools import partial

import structlog

from berth_apis import http
from berth_gateway import choice, holding
from berth_gateway.access import Access
from berth_gateway.client import Client
from berth_gateway.counts import Counts, tokens_in
from berth_gateway.exchange import Exchange
from berth_gateway.holding import Holds
from berth_gateway.log import AccessLog
from berth_gateway.looks import look_at_connection, look_at_exchange
from berth_gateway.settings import Settings
from berth_gateway.table import Endpoint, Pod, Table
from berth_gateway.upstream import IDLE_SECONDS, Upstream

log = structlog.get_logger()

LOOK_SECONDS = 1.0
FLUSH_SECONDS = 0.25
BACKLOG = 1024


class Relay:
    """now: monotonic seconds.  clock: seconds since 1970."""

    def __init__(
        self,
        table: Table,
        access: Access,
        holds: Holds,
        counts: Counts,
        log: AccessLog,
        settings: Settings,
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self.table = table
        self.access = access
        self.holds = holds
        self.counts = counts
        self.log = log
        self.settings = settings
        self.now = now
        self.clock = clock
        self.most_body_bytes = settings.most_body_bytes
        self.most_bodies_bytes = settings.most_bodies_bytes
        self.body_bytes = 0
        """Of requests that arrive, or that a pod has not begun to answer; without the first of each."""
        self.clients: set[Client] = set()
        self.under_way: set[Exchange] = set()
        self.closing = False
        self._connected: set[Pod] = set()
        """Those that may have kept connections, also when nobody knows the pod any more."""
        self._owners: dict[int, Endpoint] = {}
        self._servers: list[asyncio.Server] = []
        self._looking: asyncio.Task[None] | None = None
        table.on_ready = self.changed

    # Ports.

    async def listen(self) -> None:
        """Binds all ports. Raises OSError."""
        first, count = self.settings.first_endpoint_port, self.settings.endpoint_ports
        await self._listen(self.settings.port, None)
        for port in range(first, first + count):
            await self._listen(port, port)
        self._looking = asyncio.create_task(self._look_always())

    async def _listen(self, port: int, endpoint_port: int | None) -> None:
        loop = asyncio.get_running_loop()
        listening = _bound(port)
        self._servers.append(
            await loop.create_server(partial(Client, self, endpoint_port), sock=listening, backlog=BACKLOG)
        )

    @property
    def ports(self) -> list[int]:
        """Those that are bound: the shared one first."""
        return [server.sockets[0].getsockname()[1] for server in self._servers]

    def stop_accepting(self) -> None:
        """No more connections; those that are there go on."""
        for server in self._servers:
            server.close()

    def close_idle(self) -> None:
        """Ends the connections without a request."""
        for client in tuple(self.clients):
            if client.exchange is None and not client.is_reading and not client.lingers:
                client.transport.close()

    async def finished(self) -> None:
        """Until nobody is being answered."""
        while self.under_way or self.clients:
            self.close_idle()
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """Ends everything at once."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        self.stop_accepting()
        for client in tuple(self.clients):
            client.transport.abort()
        self.log.flush()

    @property
    def in_flight(self) -> int:
        """Requests that are held or being answered."""
        return len(self.under_way)

    # Endpoints.

    def owner(self, port: int) -> Endpoint | None:
        """Whose Service leads to this port, or led there last: the nodes' rules follow the slice a moment later."""
        found = self.table.by_port(port)
        if found is not None:
            self._owners[port] = found
            return found
        return self._owners.get(port)

    def unready(self, endpoint: Endpoint) -> http.Failure:
        """Why nobody answers for an endpoint."""
        what = f"{endpoint.namespace}/{endpoint.name}"
        if not endpoint.wanted:
            return http.Failure(503, f"{what} is suspended: it has no pods.", 60)
        if endpoint.failure:
            return http.Failure(503, f"{what} cannot serve: {endpoint.failure}", 60)
        seconds = holding.retry_after(endpoint, self.now())
        waking = f": {endpoint.waking}" if endpoint.waking else ""
        return http.Failure(503, f"{what} has no ready pod{waking}. Try again.", seconds)

    def changed(self, endpoint: Endpoint) -> None:
        """It has got a ready pod, fails, or is gone."""
        for port, owner in tuple(self._owners.items()):
            if owner is endpoint and not endpoint.wanted:
                del self._owners[port]
        held = endpoint.held
        if held and (endpoint.failure or not endpoint.wanted):
            failure = self.unready(endpoint)
            for exchange in self.holds.release(endpoint, len(held)):
                exchange.fail_held(failure)
        elif held:
            self.let_go(endpoint)

    # Those that wait.

    def let_go(self, endpoint: Endpoint) -> None:
        """As many of those that wait as there is room for now."""
        if not endpoint.ready:
            return
        room = holding.room(endpoint, self.now())
        if room > 0:
            for exchange in self.holds.release(endpoint, room):
                exchange.send()

    # Connections to pods.

    def idle(self, pod: Pod, now: float) -> Upstream | None:
        """A connection that is kept and surely not about to be closed by the pod."""
        kept = pod.idle
        while kept:
            upstream: Upstream = kept.pop()
            if now - upstream.idle_since < IDLE_SECONDS and not upstream.transport.is_closing():
                return upstream
            upstream.transport.close()
        return None

    async def connect(self, pod: Pod) -> Upstream:
        """Raises OSError or TimeoutError."""
        self._connected.add(pod)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.settings.connect_seconds):
            _, upstream = await loop.create_connection(partial(Upstream, pod, self.now), pod.host, pod.port)
        return upstream

    def failed(self, endpoint: Endpoint, pod: Pod) -> None:
        """A pod takes no connection, or has ended one too early."""
        if choice.failed(endpoint, pod, self.now()):
            self.counts.ejected()

    # What is counted.

    def ended(self, exchange: Exchange, tail: bytes) -> None:
        """A request is over, whatever became of it. tail: the last bytes of a whole answer."""
        self.under_way.discard(exchange)
        endpoint, asked, now = exchange.endpoint, exchange.asked, self.now()
        namespace = name = ""
        if endpoint is not None:
            endpoint.requests += 1
            namespace, name = endpoint.namespace, endpoint.name
        api, owner, first = exchange.route.dialect.NAME, exchange.caller.owner, exchange.first_byte_at
        first_byte_seconds = first - exchange.since if first else None
        self.counts.ended(endpoint, owner, api, exchange.code, first_byte_seconds, tokens_in(tail) if tail else None)
        self.log.line(
            time=self.clock(),
            namespace=namespace,
            endpoint=name,
            owner=owner,
            api=api,
            method=asked.method,
            path=asked.path,
            status=exchange.code,
            seconds=now - exchange.since,
            first_byte_seconds=first_byte_seconds,
            held_seconds=exchange.held_seconds,
            answer_bytes=exchange.sent_bytes,
            retries=max(0, exchange.attempts - 1),
            pod=exchange.pod_name,
            traceparent=asked.traceparent,
        )

    # One look a second.

    async def _look_always(self) -> None:
        last = self.now()
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            _safely(self.log.flush)
            now = self.now()
            if now - last >= LOOK_SECONDS:
                last = now
                _safely(self.look, now)

    def look(self, now: float) -> None:
        """At everything that may have lasted too long."""
        for client in tuple(self.clients):
            _safely(look_at_connection, client, self.settings)
        for exchange in tuple(self.under_way):
            _safely(look_at_exchange, exchange, now, self.settings)
        for endpoint in tuple(self.holds.endpoints):
            _safely(self.let_go, endpoint)
        for pod in tuple(self._connected):
            _safely(self._close_old, pod, now)
        for endpoint, exchange in self.holds.overdue(now):
            _safely(self._give_up, endpoint, exchange)

    def _give_up(self, endpoint: Endpoint, exchange: Exchange) -> None:
        exchange.fail_held(self.unready(endpoint))

    def _close_old(self, pod: Pod, now: float) -> None:
        # The one used last is the last of the list.
        while pod.idle and now - pod.idle[0].idle_since >= IDLE_SECONDS - LOOK_SECONDS:
            pod.idle.pop(0).transport.close()
        if not pod.idle and not pod.in_flight:
            self._connected.discard(pod)


def _safely(look: Callable[..., object], *args: object) -> None:
    """What is wrong with one must not end the looks at all others."""
    try:
        look(*args)
    except Exception:
        log.exception("look_failed")


def _bound(port: int) -> socket.socket:
    """A socket that takes both families where there are both."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listening.bind(("", port))
    listening.setblocking(False)
    return listening
