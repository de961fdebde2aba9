"""The election, second by second, on a clock of the test's own.

In: an API server of a few lines that keeps one Lease with a resourceVersion; it can be away, or lose an answer.
Out: who may write when.  The same with real processes and a real API server: tests/apiserver/test_leadership.py.
"""

import asyncio
import copy
from collections.abc import Coroutine
from typing import Any

import pytest

from berth import errors
from berth.kube import lease as lease_module
from berth.kube.lease import Lease
from berth.kube.resources import Resource

Object = dict[str, Any]
DURATION = 8


class Server:
    """One Lease, with the API server's optimistic locking."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.lease: Object | None = None
        self.away = False
        self.loses_answers = False
        self.updates = 0

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        self._reach()
        return copy.deepcopy(self.lease)

    async def create(self, resource: Resource, manifest: Object) -> Object:
        self._reach()
        if self.lease is not None:
            raise errors.Conflict(409, "exists")
        return self._store({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "0"}})

    async def update(self, resource: Resource, manifest: Object) -> Object:
        self._reach()
        if self.lease is None:
            raise errors.NotFound(404, "gone")
        if manifest["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise errors.Conflict(409, "changed")
        return self._store(manifest)

    def _reach(self) -> None:
        if self.away:
            raise errors.Unreachable("away")

    def _store(self, manifest: Object) -> Object:
        self.updates += 1
        version = str(int(manifest["metadata"]["resourceVersion"]) + 1)
        self.lease = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}}
        if self.loses_answers:
            raise errors.Unreachable("lost")
        return copy.deepcopy(self.lease)

    @property
    def holder(self) -> str:
        return str((self.lease or {"spec": {}})["spec"].get("holderIdentity", ""))


class Candidate:
    """One process: its part in the election, moved on by `look`."""

    def __init__(self, server: Server, identity: str, duration: int = DURATION) -> None:
        self.began: list[float] = []
        self.lease = Lease(
            client=server,  # type: ignore[arg-type]
            namespace="n",
            identity=identity,
            duration_seconds=duration,
            clock=lambda: server.now,
            now=lambda: "2026-01-02T03:04:05.000000Z",
            on_leading=lambda: self.began.append(server.now),
        )

    def look(self) -> bool:
        """One look; whether it may write afterwards."""

        async def once() -> None:
            task = asyncio.ensure_future(self.lease.run())
            await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        run(once())
        return self.lease.may_write()


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


@pytest.fixture
def server() -> Server:
    return Server()


def test_the_first_takes_it_and_the_second_waits(server: Server) -> None:
    first, second = Candidate(server, "a"), Candidate(server, "b")
    assert first.look()
    assert not second.look()
    assert server.holder == "a"
    assert first.began == [1000.0]
    assert first.lease.leading.is_set() and not second.lease.leading.is_set()
    assert second.lease.holder == "a"


def test_a_renewal_entitles_for_less_than_the_lease(server: Server) -> None:
    first = Candidate(server, "a")
    first.look()
    server.now += DURATION * lease_module.RENEWED_FOR - 0.01
    assert first.lease.may_write()
    server.now += 0.02
    assert not first.lease.may_write()


def test_a_renewed_lease_is_not_taken_however_old_it_is(server: Server) -> None:
    first, second = Candidate(server, "a"), Candidate(server, "b")
    first.look()
    for _ in range(20):
        server.now += DURATION / 4
        assert first.look()
        assert not second.look()
    assert len(first.began) == 1


def test_an_unchanged_lease_is_taken_when_its_own_duration_is_over(server: Server) -> None:
    first, second = Candidate(server, "a"), Candidate(server, "b", duration=60)
    first.look()
    second.look()
    server.now += DURATION - 0.1
    assert not second.look()
    server.now += 0.2
    assert second.look()
    assert not first.lease.may_write()
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 2
    assert not first.look()
    assert not first.lease.leading.is_set()


def test_who_sees_it_late_waits_from_then_on(server: Server) -> None:
    """Clocks of two machines are never compared: only how long a record stays the same before our eyes."""
    Candidate(server, "a").look()
    server.now += 10 * DURATION
    second = Candidate(server, "b")
    assert not second.look()
    server.now += DURATION + 0.1
    assert second.look()


def test_a_leader_without_an_api_server_stops_and_goes_on_when_it_is_back(server: Server) -> None:
    first = Candidate(server, "a")
    first.look()
    server.away = True
    server.now += DURATION / 4
    assert first.look()
    server.now += DURATION
    assert not first.look()
    assert not first.lease.leading.is_set()
    server.away = False
    assert first.look()
    assert first.began == [1000.0, server.now]


def test_a_lost_answer_is_not_a_renewal_and_costs_nothing_else(server: Server) -> None:
    first = Candidate(server, "a")
    first.look()
    server.now += DURATION / 4
    server.loses_answers = True
    until = DURATION * lease_module.RENEWED_FOR
    assert first.look()
    server.loses_answers = False
    server.now = 1000.0 + until + 0.01
    assert not first.lease.may_write()
    assert first.look()
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 1


def test_of_two_at_once_one_gets_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (Candidate(server, name) for name in "abc")
    first.look()
    second.look(), third.look()
    server.now += DURATION + 0.1
    stale = copy.deepcopy(server.lease)
    assert second.look()

    async def late(*_: object) -> Object | None:
        return stale

    monkeypatch.setattr(server, "get", late)
    assert not third.look()
    assert server.holder == "b"


def test_a_leader_whose_lease_was_given_away_by_hand_stops_when_it_sees_it(server: Server) -> None:
    first, second = Candidate(server, "a"), Candidate(server, "b")
    first.look()
    assert server.lease is not None
    server.lease = {**server.lease, "spec": {}, "metadata": {**server.lease["metadata"], "resourceVersion": "7"}}
    assert second.look()
    first.look()  # its renewal conflicts
    assert not first.look()
    assert second.lease.may_write()


def test_a_released_lease_is_free_at_once(server: Server) -> None:
    first, second = Candidate(server, "a"), Candidate(server, "b")
    first.look()
    second.look()
    run(first.lease.release())
    assert not first.lease.may_write()
    assert server.holder == ""
    assert second.look()


def test_who_does_not_lead_releases_nothing(server: Server) -> None:
    first, second = Candidate(server, "a"), Candidate(server, "b")
    first.look()
    second.look()
    updates = server.updates
    run(second.lease.release())
    assert server.updates == updates


def test_a_deleted_lease_is_made_again(server: Server) -> None:
    first = Candidate(server, "a")
    first.look()
    server.lease = None
    assert first.look()  # a renewal fails, what it had is still good
    server.now += DURATION / 4
    assert first.look()
    assert server.holder == "a"
