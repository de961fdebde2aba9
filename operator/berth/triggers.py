"""kopf as the source of ModelEndpoint events, in a thread and event loop of its own.

Its one handler hands events over, nothing else. Change handlers, timers, daemons, indices, peering and kopf's
finalizers and annotations are not used: they write to the user's object or lose events
(docs/adr/0001-kopf-as-event-source.md).

A thread of its own, because kopf ends with everything that shares its loop when a list or watch fails for good.
"""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import kopf
import structlog
from kopf._cogs.clients.errors import APIError
from kopf._cogs.structs.references import Insights
from kopf._core.engines.peering import Identity

from berth.api import names
from berth.kube.resources import ENDPOINTS

Event = dict[str, Any]

AGAIN_SECONDS = 2.0
UNRESOLVED_SECONDS = 10.0

log = structlog.get_logger()


class _NoDiff(kopf.DiffBaseStorage):
    """Only an event handler is registered: there is nothing to compare with, and copying objects for it costs most."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """Event handlers have no progress to store on objects."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


class _Backoffs:
    """Delays between attempts, without an end: kopf gives up when they run out."""

    def __iter__(self) -> Iterator[float]:
        delay = 0.5
        while True:
            yield delay * random.uniform(0.8, 1.2)  # noqa: S311
            delay = min(delay * 2, 12.0)


def settings() -> kopf.OperatorSettings:
    """kopf's settings, each for a measured reason."""
    found = kopf.OperatorSettings()
    found.persistence.diffbase_storage = _NoDiff()
    found.persistence.progress_storage = _NoProgress()
    # An operator with event handlers only strips this finalizer from objects: it must be nobody's.
    found.persistence.finalizer = f"unused.{names.GROUP}"
    found.networking.error_backoffs = _Backoffs()
    found.networking.request_timeout = 30
    found.networking.connect_timeout = 5
    found.watching.chunk_size = 500
    found.posting.enabled = False
    # kopf would kill the process this long after it ended by itself; here it is started again instead.
    found.process.ultimate_exiting_timeout = None
    return found


class EndpointWatch:
    """kopf, running until `stop`.

    take: called in `loop`'s thread with each event; its type is None for an object of a list.
    connect: gives the present credentials.
    """

    def __init__(
        self,
        connect: Callable[[], kopf.ConnectionInfo],
        loop: asyncio.AbstractEventLoop,
        take: Callable[[Event], None],
    ) -> None:
        self._registry = kopf.OperatorRegistry()
        self._own_loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run_thread, name="kopf", daemon=True)

        @kopf.on.event(ENDPOINTS.group, ENDPOINTS.version, ENDPOINTS.plural, registry=self._registry)
        async def hand_over(event: Any, **_: Any) -> None:
            """A failure here is logged and lost, and a returned value would land in status: only hand over."""
            loop.call_soon_threadsafe(take, {"type": event["type"], "object": dict(event["object"])})

        @kopf.on.login(registry=self._registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            return connect()

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End, and wait for the end this long. Blocks."""
        if self._thread.is_alive():
            self._own_loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(seconds)

    def _run_thread(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._own_loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        while not self._stop.is_set():
            insights = Insights()
            try:
                # Named, as kopf would look our uid up in passwd, where a container's uid need not be.
                identity = Identity(names.MANAGED_BY)
                await kopf.operator(
                    registry=self._registry,
                    settings=settings(),
                    identity=identity,
                    insights=insights,
                    standalone=True,
                    clusterwide=True,
                    stop_flag=asyncio.create_task(self._over(insights)),
                )
            except Exception as error:
                log.warning(
                    "watch_ended", resource=ENDPOINTS.plural, error=_told(error), again_in_seconds=AGAIN_SECONDS
                )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), AGAIN_SECONDS)

    async def _over(self, insights: Insights) -> None:
        """Until the end, or until kopf has not found our kind, which it would not look for again.

        It looks when the CRD changes, and the API server may list a new kind a moment after its last change.
        """
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), UNRESOLVED_SECONDS)
            if insights.ready_resources.is_set() and not insights.watched_resources:
                return


def _told(error: Exception) -> str:
    if isinstance(error, kopf.LoginError):
        return "401: the API server refuses our credentials; they are read again"
    if isinstance(error, APIError):
        return f"{error.status}: {error.message or error}"
    return repr(error)
