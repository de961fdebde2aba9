"""Which of several operators may write: a Lease, held by one, watched by the others.

Semantics of client-go's leader election: clocks of two machines are never compared. A holder counts as gone when its
record has not changed for as long as the record says, measured on our own monotonic clock from when we first saw it.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from berth import errors
from berth.api import names
from berth.kube.client import Client
from berth.kube.resources import LEASES

Object = dict[str, Any]

# Of the Lease's duration: how long a renewal entitles to write, how often the holder renews, how often others look.
# What is left between the first and the whole is for a write that was sent at the last moment.
RENEWED_FOR = 5 / 8
RENEW_EVERY = 1 / 4
LOOK_EVERY = 1 / 8

log = structlog.get_logger()


class Lease:
    """One operator's part in the election. `leading` is set while it may write; `answered_at`: last word of the server.

    client: without a fence, its timeout at most half of `RENEWED_FOR`.  identity: unique per process.
    clock: monotonic seconds.  now: RFC 3339 time of day in microseconds, for people who read the Lease.
    on_leading: called each time this process begins to lead.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        identity: str,
        duration_seconds: int,
        clock: Callable[[], float],
        now: Callable[[], str],
        on_leading: Callable[[], None],
    ) -> None:
        self.leading = asyncio.Event()
        self.holder = ""
        self.answered_at = clock()
        self._client = client
        self._namespace = namespace
        self._identity = identity
        self._duration_seconds = duration_seconds
        self._clock = clock
        self._now = now
        self._on_leading = on_leading
        self._record: Object | None = None
        self._seen = ("", 0.0)
        self._valid_until = float("-inf")

    def may_write(self) -> bool:
        """The fence: nobody else can have taken the Lease yet. A test of the clock alone, made before every write."""
        return self._clock() < self._valid_until

    async def run(self) -> None:
        """Take part, for ever. Losing the Lease ends nothing: passes stop at the fence, and the cache stays warm."""
        while True:
            started = self._clock()
            await self._try()
            if self.may_write() != self.leading.is_set():
                self._turn()
            every = RENEW_EVERY if self.leading.is_set() else LOOK_EVERY
            await asyncio.sleep(max(0.0, started + every * self._duration_seconds - self._clock()))

    async def release(self) -> None:
        """Let another one lead at once. Called when no pass runs any more."""
        if not self.leading.is_set() or self._record is None:
            return
        self.leading.clear()
        self._valid_until = float("-inf")
        freed = {**self._record["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._now()}
        try:
            await self._client.update(LEASES, {**self._record, "spec": freed})
            log.info("lease_released")
        except (errors.ApiError, errors.Unreachable) as error:
            log.warning("lease_not_released", error=str(error), others_wait_seconds=self._duration_seconds)

    def _turn(self) -> None:
        if self.may_write():
            self._on_leading()
            self.leading.set()
            log.info("leading", identity=self._identity)
        else:
            self.leading.clear()
            log.warning("leading_lost", identity=self._identity, holder=self.holder)

    async def _try(self) -> None:
        """Renew, or take over what nobody holds. Everything that goes wrong means: not renewed."""
        try:
            if self._record is None or not self.may_write():
                self._record = await self._look()
            await self._write(self._record)
        except _Held:
            self._valid_until = float("-inf")
        except errors.Conflict:
            self._record = None
        except (errors.ApiError, errors.Unreachable) as error:
            log.debug("lease_not_renewed", error=str(error))
            self._record = None
        else:
            self._count_answer()

    async def _look(self) -> Object | None:
        """The Lease if it is ours to take, None if there is none. Raises _Held."""
        record = await self._client.get(LEASES, self._namespace, names.LEASE)
        self._count_answer()
        if record is None:
            return None
        version, spec = record["metadata"]["resourceVersion"], record.get("spec") or {}
        if version != self._seen[0]:
            self._seen = (version, self._clock())
        self.holder = spec.get("holderIdentity") or ""
        expires = self._seen[1] + float(spec.get("leaseDurationSeconds") or self._duration_seconds)
        if self.holder not in ("", self._identity) and self._clock() < expires:
            raise _Held
        return record

    async def _write(self, record: Object | None) -> None:
        sent_at = self._clock()  # before the request: a late answer entitles to less
        if record is None:
            fresh = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "spec": self._spec({})}
            fresh["metadata"] = {"namespace": self._namespace, "name": names.LEASE}
            self._record = await self._client.create(LEASES, fresh)
        else:
            self._record = await self._client.update(LEASES, {**record, "spec": self._spec(record.get("spec") or {})})
        self.holder = self._identity
        self._valid_until = sent_at + RENEWED_FOR * self._duration_seconds

    def _spec(self, old: Object) -> Object:
        now = self._now()
        mine = old.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._duration_seconds,
            "renewTime": now,
            "acquireTime": old.get("acquireTime") or now if mine else now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (not mine),
        }

    def _count_answer(self) -> None:
        self.answered_at = self._clock()


class _Held(Exception):
    """Another operator holds the Lease."""
