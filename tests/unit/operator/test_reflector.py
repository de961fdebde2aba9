"""What follows from each thing that a watch can do.

In: a client that lists and streams what the test says, and fails as the test says.  Out: cache, lists, watches, waits.
Against a real API server, with a proxy that injects the faults: tests/apiserver/faults.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from berth import errors
from berth.api.names import Key
from berth.kube import reflector as module
from berth.kube.cache import Cache
from berth.kube.reflector import Reflector
from berth.kube.resources import PODS
from tests.builders import pod

Object = dict[str, Any]


def seen(name: str, version: int, **meta: Any) -> Object:
    found = pod(name)
    found["metadata"] |= {"resourceVersion": str(version), "namespace": "team-a", "uid": f"uid-{name}", **meta}
    return found


class Script:
    """Plays one stream after the other; when they are over, the reflector is ended."""

    def __init__(self, *streams: list[Object | Exception], lists: list[tuple[list[Object], str]] | None = None) -> None:
        self.streams = list(streams)
        self.lists = lists or []
        self.asked: list[str] = []

    async def list(self, resource: object, *, labels: str, keep: object) -> tuple[list[Object], str]:
        self.asked.append("list")
        return self.lists.pop(0)

    async def watch(self, resource: object, version: str, labels: str) -> AsyncIterator[Object]:
        self.asked.append(version)
        if not self.streams:
            raise asyncio.CancelledError
        for item in self.streams.pop(0):
            if isinstance(item, Exception):
                raise item
            yield item


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the reflector waited for, in seconds."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    monkeypatch.setattr(module.random, "uniform", lambda *_: 1.0)
    return found


def play(script: Script) -> tuple[Cache, list[Key]]:
    cache, woken = Cache(), list[Key]()
    reflector = Reflector(script, PODS, cache, woken.append)  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(reflector.run("5"))
    return cache, woken


def event(kind: str, obj: Object) -> Object:
    return {"type": kind, "object": obj}


def test_events_go_into_the_cache_and_the_next_watch_goes_on_from_the_last(waits: list[float]) -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "9"}})
    script = Script([event("ADDED", seen("a", 6)), event("MODIFIED", seen("a", 7)), bookmark])
    cache, woken = play(script)
    assert script.asked == ["5", "9"]
    assert [item["metadata"]["resourceVersion"] for item in cache.of(PODS, Key("team-a", "demo"))] == ["7"]
    assert woken == [Key("team-a", "demo")]  # the second differs in nothing but bookkeeping
    assert waits == [0.0]


def test_a_deleted_object_leaves_the_cache(waits: list[float]) -> None:
    cache, woken = play(Script([event("ADDED", seen("a", 6)), event("DELETED", seen("a", 8))]))
    assert cache.count(PODS) == 0
    assert len(woken) == 2


@pytest.mark.parametrize(
    "expired",
    [
        errors.Gone(410, "too old"),
        event("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"}),
        errors.NotFound(404, "the kind is away"),
    ],
    ids=["as status", "in the stream", "no such kind"],
)
def test_after_an_error_of_the_api_server_a_list_finds_what_is_gone(expired: Any, waits: list[float]) -> None:
    script = Script(
        [event("ADDED", seen("a", 6)), event("ADDED", seen("b", 7)), expired], lists=[([seen("b", 7)], "20")]
    )
    cache, woken = play(script)
    assert script.asked == ["5", "list", "20"]
    assert [item["metadata"]["name"] for item in cache.of(PODS, Key("team-a", "demo"))] == ["b"]
    assert len(woken) == 3


def test_a_lost_connection_is_taken_up_where_it_was(waits: list[float]) -> None:
    refused, busy = errors.Unreachable("refused"), errors.Busy(503, "not ready")
    script = Script([event("ADDED", seen("a", 6)), errors.Unreachable("reset")], [refused], [busy])
    play(script)
    assert script.asked == ["5", "6", "6", "6"]


def test_streams_that_end_without_a_word_are_asked_for_less_and_less_often(waits: list[float]) -> None:
    play(Script(*[[] for _ in range(8)], [event("ADDED", seen("a", 6))]))
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 12.0, 12.0, 0.0]


def test_both_endpoints_of_an_object_that_changes_hands_are_woken(waits: list[float]) -> None:
    moved = seen("a", 7, labels={**seen("a", 6)["metadata"]["labels"], "berth.dev/endpoint": "other"})
    _, woken = play(Script([event("ADDED", seen("a", 6)), event("MODIFIED", moved)]))
    assert sorted(woken) == [Key("team-a", "demo"), Key("team-a", "demo"), Key("team-a", "other")]
