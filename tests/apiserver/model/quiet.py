"""When all is quiet, and that it stays so: decided by what is true and by who writes, not by a time that has passed."""

import time
from collections.abc import Callable
from typing import ClassVar

from berth.settings import Settings
from tests.apiserver.model.book import Book
from tests.apiserver.model.cluster import Audit, Cluster, Kubelet, Object, Snapshot, Write
from tests.apiserver.model.operated import Operated
from tests.apiserver.model.truth import History, complaints
from tests.apiserver.operators import SYSTEM_NAMESPACE
from tests.waiting import eventually

# Far above what anything takes, far below the resync that would repair what was forgotten.
QUIET_SECONDS = 120.0
PLATFORM = Settings().platform()
BERTH = f"system:serviceaccount:{SYSTEM_NAMESPACE}:berth"
ADMIN = "berth-local-admin"


class Quiet:
    """touch: makes Berth look at an endpoint, by name, without a change of its spec."""

    waits: ClassVar[list[float]] = []  # seconds, of all examples

    def __init__(
        self,
        cluster: Cluster,
        audit: Audit,
        operated: Operated,
        kubelet: Kubelet,
        book: Book,
        touch: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._audit = audit
        self._operated = operated
        self._kubelet = kubelet
        self._book = book
        self._touch = touch
        self._history = History()
        self._history_from = cluster.endpoints_version()
        self._never: list[str] = []
        self._alone = False  # nobody but Berth wrote in the round before

    @classmethod
    def waits_told(cls) -> str:
        """How long quiet took."""
        ordered = sorted(cls.waits)
        return f"{len(ordered)}, median {ordered[len(ordered) // 2]:.1f} s, longest {ordered[-1]:.1f} s"

    def settle(self, healthy: bool) -> list[str]:
        """Wait until all is true and nobody writes; what is wrong if that does not come.

        healthy: pods come up, and leave, as in a cluster that works.
        """
        started = time.monotonic()
        self._alone = False
        while True:
            if healthy:
                self._kubelet.serve()
            shot = self._cluster.snapshot()
            wrong = self._wrong(shot, healthy) or self._restless(healthy)
            waited = time.monotonic() - started
            if self._never or (wrong and waited > QUIET_SECONDS):
                return self._never or wrong
            if not wrong:
                break
        self.waits.append(waited)
        self._book.quiet(shot)
        return []

    def restart(self) -> list[str]:
        """After quiet the operator ends and begins, looks at every endpoint, and writes nothing."""
        self._audit.writes()
        self._operated.stop(kill=False)
        self._operated.start()
        count = len(self._book.endpoints)
        eventually(lambda: self._operated.passes() >= count, QUIET_SECONDS, "a pass over every endpoint")
        self._still_written([])
        return self._never

    def _wrong(self, shot: Snapshot, healthy: bool) -> list[str]:
        return complaints(shot, self._book, self._kubelet.reported, healthy, PLATFORM, self._cluster)

    def _restless(self, healthy: bool) -> list[str]:
        """What is still going on: a pass over every endpoint and a second without a write by anybody end it."""
        passes = self._operated.passes()
        if passes < 0:
            return ["endpoints wait for a pass"]
        time.sleep(0.1)  # what the snapshot shows is in the audit log by then
        self._alone &= not others(self._audit.writes())
        for name in self._book.endpoints:
            self._touch(name)
        events = self._cluster.endpoints_since(self._history_from, 1)
        if events:
            self._history_from = events[-1]["object"]["metadata"]["resourceVersion"]
        self._never += self._history.complaints(events)
        if self._operated.passes() < passes + len(self._book.endpoints):
            return ["the operator has not looked at every endpoint that was touched"]
        return self._still_written(events) or self._wrong(self._cluster.snapshot(), healthy)

    def _still_written(self, events: list[Object]) -> list[str]:
        """Others may write for a while, and Berth once more after them; when all is true it must not.

        events: those of endpoints since it was looked at last, to tell what a needless write changed.
        """
        writes = self._audit.writes()
        ours = [write for write in writes if write.user == BERTH]
        alone, self._alone = self._alone, not others(writes)
        if ours and alone and self._alone:
            states = [(event["object"]["metadata"]["name"], event["object"].get("status")) for event in events]
            self._never.append(f"Berth writes though all is true already: {ours}, {states}")
        return [f"still written: {writes}"] if ours or not self._alone else []


def others(writes: list[Write]) -> list[Write]:
    """What neither Berth nor the test wrote."""
    return [write for write in writes if write.user not in (BERTH, ADMIN)]
