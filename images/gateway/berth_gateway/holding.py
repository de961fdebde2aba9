"""Requests that wait for a pod: how many, in what order they go on, and what their clients are told meanwhile.

First come, first served, per endpoint. Time is monotonic seconds. The state is changed by one thread. An item is
whatever stands for a request: hashable, and held once at a time. Each gateway process counts for itself: a pod that has
become ready gets its first requests from each of them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from berth_gateway.table import Endpoint

COMMENT_SECONDS = 5.0
"""How often a client whose stream takes comments is told that its request still waits."""
MOST_COMMENT_CHARACTERS = 200

MOST_RETRY_SECONDS = 600
# Where no start was measured yet: a start with the weights on the node takes about as long.
_UNMEASURED_RETRY_SECONDS = 30
# Ready pods take up those that wait: a place is free sooner than a start would take.
_READY_RETRY_SECONDS = 5
# Of a start that takes longer than the last one: when to ask again, as a share of it.
_LATE_SHARE = 4

_MIB = 1024 * 1024


class Limits(NamedTuple):
    """What is held at most, of one endpoint and of all. bytes: of bodies.  seconds: from the request's arrival."""

    per_endpoint: int = 1000
    in_all: int = 5000
    bytes_per_endpoint: int = 256 * _MIB
    bytes_in_all: int = 1024 * _MIB
    seconds: float = 900.0


class Full(Exception):
    """No more is held. message: for the client."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class Held:
    """Those of one endpoint, false when there are none; what `endpoint.held` is once one was held.

    waiting: item -> (since, bytes), the next to go first.  began: since when there has been one without a break.
    answered: requests that ready pods have ended well meanwhile.  pods: the ready ones that this counts for.
    """

    __slots__ = ("answered", "began", "bytes", "pods", "waiting")

    def __init__(self) -> None:
        self.waiting: OrderedDict[Any, tuple[float, int]] = OrderedDict()
        self.bytes = 0
        self.began = 0.0
        self.answered = 0
        self.pods: frozenset[Any] = frozenset()

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def since(self) -> float | None:
        """Since when the one waits that has waited longest."""
        return next(iter(self.waiting.values()))[0] if self.waiting else None


class Holds:
    """Those of all endpoints.

    version: grows with every change; on_change: called after it.  endpoints: those with requests held.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.count = 0
        self.bytes = 0
        self.version = 0
        self.endpoints: dict[Endpoint, Held] = {}
        self.on_change: Callable[[], None] = lambda: None

    def add(self, endpoint: Endpoint, item: Any, size_bytes: int, now: float, since: float | None = None) -> None:
        """Hold a request behind those of its endpoint. Raises Full.

        since: of one that was released and got no answer, when it was held first: it is the next to go.
        """
        held = endpoint.held
        if held is None:
            held = endpoint.held = Held()
        if item in held.waiting:
            raise ValueError("the request is held already")
        self._check(endpoint, held, size_bytes, now)
        if not held.waiting:
            held.began, held.answered = now if since is None else since, 0
            self.endpoints[endpoint] = held
        first = held.since
        if since is None:
            held.waiting[item] = (now, size_bytes)
        else:
            # Never later than the one behind it, so that times are in order and the first is overdue first.
            held.waiting[item] = (since if first is None else min(since, first), size_bytes)
            held.waiting.move_to_end(item, last=False)
        held.bytes += size_bytes
        self.count += 1
        self.bytes += size_bytes
        self._changed()

    def _check(self, endpoint: Endpoint, held: Held, size_bytes: int, now: float) -> None:
        limits, name = self.limits, f"{endpoint.namespace}/{endpoint.name}"
        if len(held.waiting) >= limits.per_endpoint:
            why = f"{limits.per_endpoint} requests wait for {name} already, and the gateway holds no more for it."
        elif held.bytes + size_bytes > limits.bytes_per_endpoint:
            why = (
                f"The requests that wait for {name} have {held.bytes} bytes already; with the {size_bytes} of this one"
                f" they would have more than the {limits.bytes_per_endpoint} that the gateway holds for it."
            )
        elif self.count >= limits.in_all:
            why = f"{limits.in_all} requests wait at the gateway already, and it holds no more; this one is for {name}."
        elif self.bytes + size_bytes > limits.bytes_in_all:
            why = (
                f"The requests that wait at the gateway have {self.bytes} bytes already; with the {size_bytes} of this"
                f" one for {name} they would have more than the {limits.bytes_in_all} that it holds."
            )
        else:
            return
        seconds = retry_after(endpoint, now)
        raise Full(f"{why} Send the request again in {seconds} s.", seconds)

    def remove(self, endpoint: Endpoint, item: Any) -> bool:
        """Its client left. False: it was not held."""
        held = endpoint.held
        if not held or item not in held.waiting:
            return False
        self._drop(endpoint, held, held.waiting.pop(item)[1])
        self._changed()
        return True

    def release(self, endpoint: Endpoint, room: int) -> list[Any]:
        """Those that go on now, `room` at most, the first first. They are not held any more."""
        return self._pop(endpoint, room)

    def overdue(self, now: float) -> list[tuple[Endpoint, Any]]:
        """Those that have waited for as long as one may. They are not held any more."""
        found: list[tuple[Endpoint, Any]] = []
        due = now - self.limits.seconds
        for endpoint, held in list(self.endpoints.items()):
            late = 0
            for since, _ in held.waiting.values():
                if since > due:
                    break
                late += 1
            found += [(endpoint, item) for item in self._pop(endpoint, late)]
        return found

    def answered(self, endpoint: Endpoint) -> None:
        """A ready pod has ended an answer well while others wait: it may get more than before."""
        if endpoint.held:
            endpoint.held.answered += 1

    def _pop(self, endpoint: Endpoint, most: int) -> list[Any]:
        found: list[Any] = []
        held = endpoint.held
        while held and len(found) < most:
            item, (_, size_bytes) = held.waiting.popitem(last=False)
            self._drop(endpoint, held, size_bytes)
            found.append(item)
        if found:
            self._changed()
        return found

    def _drop(self, endpoint: Endpoint, held: Held, size_bytes: int) -> None:
        held.bytes -= size_bytes
        self.count -= 1
        self.bytes -= size_bytes
        if not held.waiting:
            del self.endpoints[endpoint]

    def _changed(self) -> None:
        self.version += 1
        self.on_change()


def room(endpoint: Endpoint, now: float) -> int:
    """How many held requests may go on now.

    Each ready pod takes up to the target first, and none takes them as a burst: then one more for each answer that has
    ended well, shared by the pods, so that what they take at most doubles in the time of an answer. Without this growth
    an endpoint whose clients are more than its target would hold some for ever, which it would not had it never slept.
    It begins again when a pod comes or goes, so a new one does not get what the others have grown to.
    """
    held: Held | None = endpoint.held
    if not held:
        return 0
    pods = [pod for pod in endpoint.ready if pod.ejected_until <= now]
    if not pods:
        return 0
    known = frozenset(pods)
    if known != held.pods:
        held.pods, held.answered = known, 0
    level = max(1, math.ceil(endpoint.target)) + held.answered // len(pods)
    return sum(level - pod.in_flight for pod in pods if pod.in_flight < level)


def estimate_seconds(endpoint: Endpoint, since: float, now: float) -> int | None:
    """Until a pod is ready if this start, begun at `since`, is like the last: at least 1. None: none was measured."""
    if endpoint.start_seconds is None:
        return None
    return max(1, math.ceil(_left_seconds(endpoint.start_seconds, since, now)))


def retry_after(endpoint: Endpoint, now: float) -> int:
    """Seconds after which a client that is refused shall come again: 1 … 600."""
    start = endpoint.start_seconds
    if endpoint.ready:
        return _READY_RETRY_SECONDS
    if start is None:
        return _UNMEASURED_RETRY_SECONDS
    left = _left_seconds(start, _began(endpoint, now), now)
    if left <= 0:
        left = start / _LATE_SHARE
    return min(MOST_RETRY_SECONDS, max(1, math.ceil(left)))


def comment(endpoint: Endpoint, now: float) -> bytes:
    """One SSE comment that tells a waiting client what it waits for."""
    name, start, since = f"{endpoint.namespace}/{endpoint.name}", endpoint.start_seconds, _began(endpoint, now)
    if endpoint.ready:
        return _line(f": {name} is ready", "; requests that came earlier go first")
    if start is None:
        after = ", no start was measured yet"
    elif start and _left_seconds(start, since, now) <= 0:
        after = f", longer than the {math.ceil(start)} s of the last start"
    else:
        after = f", about {estimate_seconds(endpoint, since, now)} s"
    return _line(f": waking {name}{f': {endpoint.waking}' if endpoint.waking else ''}", after)


def _left_seconds(start: float, since: float, now: float) -> float:
    """Of a start that takes as long as the last one did; not above 0: it takes longer."""
    return start - max(0.0, now - since)


def _began(endpoint: Endpoint, now: float) -> float:
    """When somebody began to wait for it, which wakes it."""
    return endpoint.held.began if endpoint.held else now


def _line(text: str, after: str) -> bytes:
    # ASCII only: clients that take the stream for Latin-1, or split lines as Unicode does, find line ends in others.
    plain = " ".join("".join(c if " " <= c <= "~" else " " if c.isspace() else "?" for c in text).split())
    most = MOST_COMMENT_CHARACTERS - len(after)
    if len(plain) > most:
        plain = plain[: most - 3] + "..."
    return f"{plain}{after}\n\n".encode("ascii")


# By API and path below its prefix: whether the body has to ask for the stream. Other APIs have clients that take a
# comment for a broken event.
_STREAMS = {
    ("OpenAI", "/v1/completions"): True,
    ("OpenAI", "/v1/chat/completions"): True,
    ("LLMEngine", "/v1/llm/completions-stream"): False,
}


def takes_comments(api: str, path: str, body: bytes | dict[str, Any]) -> bool:
    """Whether a request is answered with a stream whose readers skip comments. path: below the API's prefix."""
    asks = _STREAMS.get((api, path))
    if not asks:
        return asks is False
    if isinstance(body, bytes):
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError:
            return False
    return isinstance(body, dict) and body.get("stream") is True
