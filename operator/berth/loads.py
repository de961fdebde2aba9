"""Asks the launchers of many pods for their load, at a cost that pods that do not answer cannot raise."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

Object = dict[str, Any]
FetchLoad = Callable[[str], Awaitable[Object | None]]

AT_ONCE = 64
SILENT_SECONDS = 15.0
"""Each pod that does not answer costs a timeout: it is asked again after so long."""


class Loads:
    """fetch: the load that the launcher at a pod IP tells, None without one.  clock: monotonic seconds."""

    def __init__(self, fetch: FetchLoad, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._asking = asyncio.Semaphore(AT_ONCE)
        self._silent: dict[str, float] = {}

    async def ask(self, pods: Collection[Object]) -> dict[str, Object]:
        """Answers by pod name."""
        known = [(pod["metadata"], ip) for pod in pods if (ip := pod["status"].get("podIP"))]
        found = await asyncio.gather(*(self._one(meta["uid"], ip) for meta, ip in known))
        return {meta["name"]: answer for (meta, _), answer in zip(known, found, strict=True) if answer is not None}

    async def _one(self, uid: str, ip: str) -> Object | None:
        if self._clock() < self._silent.get(uid, 0.0):
            return None
        async with self._asking:
            answer = await self._fetch(ip)
        if answer is None:
            self._silent[uid] = self._clock() + SILENT_SECONDS
        else:
            self._silent.pop(uid, None)
        return answer

    def forget_old(self) -> None:
        """Pods that are gone by now, or may be asked again."""
        now = self._clock()
        self._silent = {uid: due for uid, due in self._silent.items() if due > now}
