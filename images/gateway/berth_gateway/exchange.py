"""One request from its head to the last byte of its answer.

admitted ─▶ dispatched ─▶ [held] ─▶ [connecting] ─▶ asked ─▶ answered ─▶ ended
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from berth_apis import engine, http
from berth_gateway import choice, held_stream, http1, paths, refusing
from berth_gateway.access import ANYBODY, Caller
from berth_gateway.holding import Full, takes_comments
from berth_gateway.reading import Asked
from berth_gateway.table import Endpoint, Pod
from berth_gateway.upstream import HIGH_WATER_BYTES, Upstream

if TYPE_CHECKING:
    from berth_gateway.client import Client
    from berth_gateway.relay import Relay

MOST_ATTEMPTS = 4

# What is held beside a body.
_HEAD_BYTES = 1024
_WITH_BODY = ("POST", "PUT", "PATCH")
# What this side lacks for a connection, which is no pod's failure.
_LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
_DRAINING = (engine.DRAINING_MARK.encode(), engine.DRAINING.message.encode())


class Exchange:
    """asked, route, caller: of the request.  since: when it came.  target, body: as they are sent on.

    endpoint: once it is dispatched.  code: the status that the client was told, 0 before that.  closes: the answer has
    said that the connection ends with it.
    """

    __slots__ = (
        "_key",
        "_relay",
        "_task",
        "_tried",
        "asked",
        "attempts",
        "body",
        "caller",
        "client",
        "closes",
        "code",
        "endpoint",
        "first_byte_at",
        "held_at",
        "held_seconds",
        "held_since",
        "named",
        "pod",
        "pod_name",
        "route",
        "sent_bytes",
        "since",
        "target",
        "told_at",
        "upstream",
        "wants_comments",
    )

    def __init__(self, relay: Relay, client: Client, asked: Asked, route: paths.Route) -> None:
        self._relay = relay
        self.client = client
        self.asked = asked
        self.target = asked.target
        self.route = route
        self.caller: Caller = ANYBODY
        self.since = relay.now()
        self.body = b""
        self.named: paths.Named | None = None
        self.endpoint: Endpoint | None = None
        self._key = b""
        self._tried: tuple[Pod, ...] = ()
        self._task: asyncio.Task[None] | None = None
        self.attempts = 0
        self.pod: Pod | None = None
        self.pod_name = ""
        self.upstream: Upstream | None = None
        self.held_at = self.held_since = self.held_seconds = self.told_at = self.first_byte_at = 0.0
        self.wants_comments = self.closes = False
        self.code = self.sent_bytes = 0

    # Which pod, when.

    def dispatch(self, endpoint: Endpoint, key: bytes) -> None:
        """To a pod, or into the queue of those that wait for one. key: header lines that the pod's own keys are for."""
        self.endpoint = endpoint
        self._key = key
        self._relay.under_way.add(self)
        if endpoint.held:
            self._hold(endpoint)
        else:
            self.send()

    def send(self) -> None:
        """To a pod now. Called once more for a request that was held."""
        endpoint, relay = self.endpoint, self._relay
        assert endpoint is not None
        now = relay.now()
        if self.held_at:
            self._leave_queue(now)
            self.client.count_body(len(self.body))
        affinity = None
        if len(endpoint.ready) > 1:
            affinity = choice.affinity_of(self.asked.session, self.named)
        pod = choice.choose(endpoint, affinity, now, self._tried)
        if pod is None:
            self._go_without(endpoint, relay.unready(endpoint))
            return
        self.pod, self.pod_name = pod, pod.name
        pod.in_flight += 1
        self.attempts += 1
        upstream = relay.idle(pod, now)
        if upstream is not None:
            self._ask(upstream)
        else:
            self._task = asyncio.get_running_loop().create_task(self._connect(pod))

    def _go_without(self, endpoint: Endpoint, failure: http.Failure) -> None:
        if endpoint.holds_requests and endpoint.wanted and not endpoint.failure:
            # What is known of its pods is a moment old: it may just fall asleep.
            self.attempts, self._tried = 0, ()
            self._hold(endpoint)
        else:
            self.refuse(failure)

    def _hold(self, endpoint: Endpoint) -> None:
        relay = self._relay
        now = relay.now()
        try:
            # One that was held before goes first again.
            relay.holds.add(endpoint, self, len(self.body) + _HEAD_BYTES, now, self.held_since or None)
        except Full as full:
            self.refuse(http.Failure(503, full.message, full.retry_after_seconds))
            return
        if not self.held_since:
            self.held_since = now
            streams = takes_comments(self.route.dialect.NAME, self.route.rest, self.body)
            self.wants_comments = streams and self.asked.version != "1.0"
        self.held_at = now
        # Now among those that wait.
        self.client.count_body(0)

    def _leave_queue(self, now: float) -> None:
        self.held_seconds += now - self.held_at
        self.held_at = 0.0

    async def _connect(self, pod: Pod) -> None:
        try:
            upstream = await self._relay.connect(pod)
            if upstream.transport.is_closing():  # ended again before anything was sent
                raise ConnectionResetError
        except (OSError, TimeoutError) as error:
            self._task = None
            assert self.endpoint is not None
            if error.errno not in _LACKS:
                self._relay.failed(self.endpoint, pod)
            self.ask_another("connect", None, b"")
            return
        self._task = None
        self._ask(upstream)

    def _ask(self, upstream: Upstream) -> None:
        asked, body, pod = self.asked, self.body, upstream.pod
        self.upstream = upstream
        # Whatever the client speaks: pods close the connection of an HTTP/1.0 request without saying so.
        line = f"{asked.method} {self.target} HTTP/1.1\r\nhost: {pod.host}:{pod.port}\r\n"
        length = b"content-length: %d\r\n\r\n" % len(body) if body or asked.method in _WITH_BODY else b"\r\n"
        upstream.ask(self, b"".join((line.encode("latin-1"), asked.forward, self._key, length, body)))
        if self.client.full:
            upstream.transport.pause_reading()

    def ask_another(self, why: str, head: http1.Head | None, body: bytes) -> None:
        """The pod cannot be reached, or takes no more requests: nothing of the request was done.

        head, body: its refusal, which is passed on when there is no other pod.
        """
        endpoint, pod, relay = self.endpoint, self.pod, self._relay
        assert endpoint is not None
        assert pod is not None
        pod.in_flight -= 1
        self.pod = self.upstream = None
        relay.counts.retried(why)
        self._tried = (*self._tried, pod)
        if self.attempts < MOST_ATTEMPTS and any(other not in self._tried for other in endpoint.ready):
            self.send()
        elif head is not None and not endpoint.holds_requests:
            self.begin_answer(head, body)
            # An event of a stream has ended it already.
            if self.client.exchange is self:
                self.end_answer(b"")
        else:
            what = f"{endpoint.namespace}/{endpoint.name}"
            self._go_without(endpoint, http.Failure(503, f"No pod of {what} takes connections. Try again.", 5))

    @staticmethod
    def is_refused_by_drain(body: bytes) -> bool:
        """Whether this answer says that the pod takes no more requests."""
        return any(mark in body for mark in _DRAINING)

    # The answer.

    def begin_answer(self, head: http1.Head, rest: bytes) -> None:
        """The head has come. rest: what has come of the body."""
        self.first_byte_at = self._relay.now()
        # From here on no other pod is asked.
        self.body, self.named = b"", None
        self.client.count_body(0)
        if self.told_at:
            self._begin_in_stream(head, rest)
            return
        self.code = head.status
        line = b"\r\n"
        if self._decide_end(head.length == http1.UNTIL_CLOSE):
            line = b"connection: close\r\n\r\n"
        elif self.asked.version == "1.0":
            line = b"connection: keep-alive\r\n\r\n"
        self.sent_bytes += len(rest)
        self.client.transport.write(b"".join((head.head, line, rest)))

    def _begin_in_stream(self, head: http1.Head, rest: bytes) -> None:
        """The client was told 200 and a stream while it waited."""
        if head.status == 200 and head.event_stream and head.length == http1.CHUNKED:
            self.pass_on(rest)
            return
        failure = http.Failure(head.status, f"The engine answered with status {head.status}.")
        if 0 < head.length <= len(rest):
            failure = engine.failure_of(http.Reply(head.status, rest))
        self._let_go_of_pod()
        self.refuse(failure)

    def pass_on(self, data: bytes) -> None:
        """Bytes of the answer's body, framing and all."""
        self.sent_bytes += len(data)
        self.client.transport.write(data)

    def end_answer(self, tail: bytes) -> None:
        """The answer is whole. tail: its last bytes."""
        endpoint, pod = self.endpoint, self.pod
        self.upstream = self.pod = None
        if pod is not None:
            pod.in_flight -= 1
            choice.worked(pod)
            if endpoint is not None and endpoint.held:
                self._relay.holds.answered(endpoint)
        self._end(tail)

    def lose_answer(self, why: str) -> None:
        """The pod's connection has ended too early."""
        endpoint, pod = self.endpoint, self.pod
        assert endpoint is not None
        self.upstream = self.pod = None
        if pod is not None:
            pod.in_flight -= 1
            self._relay.failed(endpoint, pod)
        # Not `code`: a client that was told to wait has one, and can be told of a failure all the same.
        if self.first_byte_at:
            self._cut(502)
        else:
            what = f"{endpoint.namespace}/{endpoint.name}"
            self.refuse(http.Failure(502, f"A pod of {what} gave no answer: {why}. Try again."))

    def time_out(self, why: str) -> None:
        """The pod took too long."""
        self._let_go_of_pod()
        if self.first_byte_at:
            self._cut(504)
        else:
            self.refuse(http.Failure(504, why))

    def _cut(self, code: int) -> None:
        """All that tells a client that an answer is not whole is its connection."""
        self.code = code
        self._finish(b"")
        self.client.transport.abort()

    # While it waits.

    def tell(self, comment: bytes, now: float) -> None:
        """One more word for a client that waits for a stream; the first one says 200."""
        transport = self.client.transport
        if transport.get_write_buffer_size() > HIGH_WATER_BYTES:
            return
        out = held_stream.chunk(comment)
        if not self.told_at:
            self.code = 200
            out = held_stream.HEAD + (b"connection: close\r\n\r\n" if self._decide_end() else b"\r\n") + out
        self.told_at = now
        transport.write(out)

    def fail_held(self, failure: http.Failure) -> None:
        """It has waited in vain, and is not held any more."""
        self._leave_queue(self._relay.now())
        self.refuse(failure)

    # The end.

    def _decide_end(self, must: bool = False) -> bool:
        """Whether the connection ends with this answer, which has to say so.

        One that came through an endpoint's own Service does: the next one is to lead to the pods.
        """
        through_service = self.endpoint is not None and self.endpoint is self.client.bound
        self.closes = must or not self.asked.keep_alive or self._relay.closing or through_service
        return self.closes

    def answer(self, answer: http.Answer, close: bool = False) -> None:
        """One of the gateway's own."""
        self.code = answer.status
        self.sent_bytes += len(answer.body)
        self.client.transport.write(refusing.written(answer, self.asked.method == "HEAD", self._decide_end(close)))
        self._end(b"")

    def refuse(self, failure: http.Failure, close: bool = False) -> None:
        """Say why not, in the shape of the API that was asked."""
        self._relay.counts.refused(str(failure.status))
        dialect = self.route.dialect
        if self.told_at:
            self.code = failure.status
            self.client.transport.write(held_stream.failed(dialect, failure, self._relay.clock()) + held_stream.END)
            self._end(b"")
            return
        # Without the headers, which may have a key in them.
        asked, body = self.asked, paths.for_refusal(self.body)
        query = paths.query_of(asked.query)
        answer = dialect.failure(failure, http.Request(asked.method, self.route.rest, query, {}, body))
        if failure.status == 401:
            answer = refusing.with_header(answer, "WWW-Authenticate", "Bearer")
        self.answer(answer, close)

    def leave(self) -> None:
        """The client has left."""
        self._let_go_of_pod()
        self._finish(b"")

    def _let_go_of_pod(self) -> None:
        endpoint, upstream, pod, task = self.endpoint, self.upstream, self.pod, self._task
        self.upstream = self.pod = self._task = None
        if self.held_at and endpoint is not None:
            self._relay.holds.remove(endpoint, self)
            self._leave_queue(self._relay.now())
        if task is not None:
            task.cancel()
        if upstream is not None:
            upstream.leave()
        if pod is not None:
            pod.in_flight -= 1

    def _end(self, tail: bytes) -> None:
        self._finish(tail)
        self.client.next(self.closes)

    def _finish(self, tail: bytes) -> None:
        endpoint = self.endpoint
        self._relay.ended(self, tail)
        self.client.exchange = None
        if endpoint is not None and endpoint.held:
            self._relay.let_go(endpoint)
