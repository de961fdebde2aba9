"""A keyed queue: many events of one key are one pass, one pass per key at a time, failures come back later and later.

Semantics of client-go's workqueue: a key added while it is being worked on is worked on once more afterwards.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

from berth.api.names import Key

FIRST_DELAY_SECONDS = 0.05
MAX_DELAY_SECONDS = 60.0


class WorkQueue:
    """Keys that want a pass. `jitter` gives the factor for a retry's delay."""

    def __init__(self, jitter: Callable[[], float] = lambda: random.uniform(0.8, 1.2)) -> None:  # noqa: S311
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._dirty: set[Key] = set()
        self._busy: set[Key] = set()
        self._failures: Counter[Key] = Counter()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._held: set[Key] = set()
        self._jitter = jitter

    def add(self, key: Key) -> None:
        """Want a pass of `key` now, or when the API server will hear of it again."""
        if key in self._dirty or key in self._held:
            return
        self._dirty.add(key)
        if key not in self._busy:
            self._ready.put_nowait(key)

    def add_after(self, key: Key, delay_seconds: float) -> None:
        """Want a pass of `key` in a while; of several wishes the soonest counts."""
        if key in self._held:
            return
        loop = asyncio.get_running_loop()
        old = self._timers.get(key)
        due = loop.time() + delay_seconds
        if old is not None and not old.cancelled() and old.when() <= due:
            return
        if old is not None:
            old.cancel()
        self._timers[key] = loop.call_at(due, self._fire, key)

    def _fire(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._held.discard(key)
        self.add(key)

    async def get(self) -> Key:
        """The next key; the caller must call `done` for it."""
        key = await self._ready.get()
        self._dirty.discard(key)
        self._busy.add(key)
        if timer := self._timers.pop(key, None):
            timer.cancel()
        return key

    def done(self, key: Key) -> None:
        """The pass of `key` is over."""
        self._busy.discard(key)
        if key in self._dirty:
            self._ready.put_nowait(key)

    def retry(self, key: Key, at_least_seconds: float = 0.0) -> float:
        """The pass failed: want another after a growing delay, which is returned.

        at_least_seconds: the API server's own wish (Retry-After). No event shortens that.
        """
        self._failures[key] += 1
        growing: float = FIRST_DELAY_SECONDS * 2 ** min(self._failures[key] - 1, 16)
        delay = max(min(growing, MAX_DELAY_SECONDS) * self._jitter(), at_least_seconds)
        if at_least_seconds:
            self._dirty.discard(key)
            if timer := self._timers.pop(key, None):
                timer.cancel()
            self.add_after(key, delay)
            self._held.add(key)
        else:
            self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """The pass succeeded: the next failure starts with the shortest delay."""
        self._failures.pop(key, None)

    def __len__(self) -> int:
        return len(self._dirty)
