"""The workers: passes over endpoints, several at a time, while this process leads."""

import asyncio
import time

import structlog

from berth import errors
from berth.api.names import Key
from berth.reconcile import Reconciler
from berth.telemetry.metrics import Metrics
from berth.workqueue import WorkQueue

STUCK_PASS_SECONDS = 600.0

log = structlog.get_logger()


class Workers:
    """leading: set while passes may be made. Whoever sets it enqueues all endpoints."""

    def __init__(self, queue: WorkQueue, reconciler: Reconciler, metrics: Metrics, leading: asyncio.Event) -> None:
        self._queue = queue
        self._reconciler = reconciler
        self._metrics = metrics
        self._leading = leading
        self._stopping = False
        self._busy_since: dict[asyncio.Task[None], float] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, count: int) -> None:
        """Start this many workers."""
        self.tasks = [asyncio.create_task(self._work(), name=f"worker {number}") for number in range(count)]

    async def stop(self, seconds: float) -> None:
        """No new pass; those that run may end within `seconds`."""
        self._stopping = True
        for task in self.tasks:
            if task not in self._busy_since:
                task.cancel()
        if self._busy_since:
            await asyncio.wait(list(self._busy_since), timeout=seconds)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def stuck(self) -> str | None:
        """Why this process will never work again, or None."""
        oldest = min(self._busy_since.values(), default=None)
        age = time.monotonic() - oldest if oldest is not None else 0.0
        return f"a pass has been running for {age:.0f} s" if age > STUCK_PASS_SECONDS else None

    async def _work(self) -> None:
        me = asyncio.current_task()
        assert me is not None
        while not self._stopping:
            await self._leading.wait()
            key = await self._queue.get()
            if not self._leading.is_set():
                self._queue.done(key)
                continue
            started = self._busy_since[me] = time.monotonic()
            with structlog.contextvars.bound_contextvars(endpoint=str(key)):
                try:
                    result = await self._pass(key)
                finally:
                    self._metrics.reconcile_seconds.observe(time.monotonic() - started)
                    del self._busy_since[me]
                    self._queue.done(key)
            self._metrics.reconciles.labels(result).inc()

    async def _pass(self, key: Key) -> str:
        """One pass and what follows from it. The only place that catches all."""
        try:
            again = await self._reconciler.reconcile(key)
        except errors.NotLeading:
            # A renewal may only be late: nobody then says that we lead again, and so nobody enqueues this key.
            self._queue.retry(key)
            return "fenced"
        except (errors.ApiError, errors.Unreachable) as error:
            wish = getattr(error, "retry_after_seconds", None) or 0.0
            delay = self._queue.retry(key, wish)
            log.warning("reconcile_postponed", error=str(error), delay_seconds=round(delay, 2))
            return "retry"
        except Exception:
            self._queue.retry(key)
            log.exception("reconcile_failed")
            return "error"
        self._queue.forget(key)
        if again is not None:
            self._queue.add_after(key, again)
        return "ok"
