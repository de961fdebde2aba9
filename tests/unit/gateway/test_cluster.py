"""What a watch delivers, whatever happens to it.

In: an API server of a few lines that fails as the test says; and a script in its place where it is about waiting.
Out: what is put and dropped, what is asked for, what is logged.  The real one: tests/apiserver/test_gateway_cluster.py.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from berth_gateway import cluster
from berth_gateway.cluster import Api, ApiError, Kind, Unreachable, Watch
from berth_gateway.connection import Connection
from tests.unit.gateway.api_server import ApiServer, Failure

Object = dict[str, Any]

THINGS = Kind("berth.dev", "v1", "things", "colour=red")
OTHERS = Kind("", "v1", "others")
PATH = "/apis/berth.dev/v1/things"
OTHER_PATH = "/api/v1/namespaces/home/others"


def thing(name: str, value: int = 0, **meta: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "a", **meta}, "value": value}


class Seen:
    """What one watch has delivered."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, int]] = []
        self._changed = asyncio.Event()

    def put(self, obj: Object) -> None:
        self.calls.append(("put", obj["metadata"]["name"], obj["value"]))
        self._changed.set()

    def drop(self, namespace: str, name: str) -> None:
        assert namespace == "a"
        self.calls.append(("drop", name, 0))
        self._changed.set()

    async def until(self, count: int) -> list[tuple[str, str, int]]:
        """All that was delivered, once there are so many."""
        async with asyncio.timeout(20):
            while len(self.calls) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.calls


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_DELAY_SECONDS", "MAX_DELAY_SECONDS", "FORBIDDEN_SECONDS", "NO_KIND_SECONDS"):
        monkeypatch.setattr(cluster, name, 0.01)


@pytest.fixture
async def server(_quick: None) -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        yield running


@contextlib.asynccontextmanager
async def following(server: ApiServer, *watched: tuple[Kind, str], token: Callable[[], str] = str) -> Any:
    """Watches of these kinds and namespaces; gives what each delivers, and ends them."""
    api = Api(Connection(server.url, None, token))
    found = [Seen() for _ in watched]
    tasks = [
        asyncio.create_task(Watch(api, *what, seen.put, seen.drop).run())
        for what, seen in zip(watched, found, strict=True)
    ]
    try:
        yield found if len(found) > 1 else found[0]
        assert not any(task.done() for task in tasks), "a watch has ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await api.close()


async def until(server: ApiServer, check: Callable[[], object]) -> None:
    """Until the server sees what is checked."""
    async with asyncio.timeout(20):
        while not check():
            await server.changed.wait()


async def test_all_pages_of_a_list_come_and_then_what_happens(server: ApiServer) -> None:
    for name in "abc":
        server.put(PATH, thing(name))
    async with following(server, (THINGS, "")) as seen:
        await seen.until(3)
        server.put(PATH, thing("b", 7))
        server.delete(PATH, "a", "a")
        assert await seen.until(5) == [
            ("put", "a", 0), ("put", "b", 0), ("put", "c", 0), ("put", "b", 7), ("drop", "a", 0)
        ]  # fmt: skip
    first, second, watch = server.asked
    assert {request.labels for request in server.asked} == {"colour=red"}
    assert [first.version, second.version, watch.version] == ["", "", "13"]


async def test_a_namespace_is_part_of_the_path_and_the_core_group_is_none(server: ApiServer) -> None:
    server.put(OTHER_PATH, thing("a"))
    async with following(server, (OTHERS, "home")) as seen:
        await seen.until(1)
    assert server.asked[0].path == OTHER_PATH


async def test_a_watch_is_synced_once_it_was_listed_also_when_there_is_nothing(server: ApiServer) -> None:
    server.failures[PATH] = [Failure(500), Failure(500)]
    api = Api(Connection(server.url, None, str))
    watch = Watch(api, THINGS, "", lambda obj: None, lambda namespace, name: None)
    running = asyncio.create_task(watch.run())
    await until(server, lambda: len(server.asked) == 1)
    assert not watch.synced.is_set()
    async with asyncio.timeout(20):
        await watch.synced.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await api.close()


@pytest.mark.parametrize("how", ["in the stream", "as status"])
async def test_after_410_a_list_tells_the_differences_and_no_more(server: ApiServer, how: str) -> None:
    for name in ("same", "changed", "gone", "new-uid"):
        server.put(PATH, thing(name))
    async with following(server, (THINGS, "")) as seen:
        await seen.until(4)
        await until(server, lambda: server.watching(PATH))
        server.failures[PATH] = [Failure(503)] * 3
        await server.stop()  # so that it does not see the events
        server.put(PATH, thing("changed", 1))
        server.delete(PATH, "a", "gone")
        server.delete(PATH, "a", "new-uid")
        server.put(PATH, thing("new-uid", 2, uid="another"))
        server.put(PATH, thing("new", 3))
        if how == "in the stream":
            server.expire()
        else:
            server.failures[PATH] = [Failure(410, "too old")]
        await server.start()
        calls = await seen.until(9)
        assert calls[4:8] == [("put", "changed", 1), ("drop", "new-uid", 0), ("put", "new-uid", 2), ("put", "new", 3)]
        assert calls[8:] == [("drop", "gone", 0)]


async def test_what_is_known_stays_while_the_api_server_is_away_and_the_gap_is_told_after_it(server: ApiServer) -> None:
    server.put(PATH, thing("a"))
    async with following(server, (THINGS, "")) as seen:
        await seen.until(1)
        await until(server, lambda: server.watching(PATH))
        await server.stop()
        server.put(PATH, thing("b"))
        server.delete(PATH, "a", "a")
        await server.start()
        assert await seen.until(3) == [("put", "a", 0), ("put", "b", 0), ("drop", "a", 0)]
    lists = [request for request in server.asked if not request.version]
    assert len(lists) == 1, "a lost connection is no reason to list again"


async def test_a_silent_stream_is_left_for_another_one(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SILENT_SECONDS", 0.05)
    server.put(PATH, thing("a"))
    async with following(server, (THINGS, "")) as seen:
        await seen.until(1)
        await until(server, lambda: len(server.asked) >= 4)
        monkeypatch.setattr(cluster, "SILENT_SECONDS", 60.0)
        server.put(PATH, thing("b"))
        assert await seen.until(2) == [("put", "a", 0), ("put", "b", 0)]


async def test_an_event_cut_in_two_is_whole_again(server: ApiServer) -> None:
    def line(name: str, version: int) -> bytes:
        obj = thing(name, 5, uid="u", resourceVersion=str(version))
        return json.dumps({"type": "ADDED", "object": obj}).encode() + b"\n"

    async with following(server, (THINGS, "")) as seen:
        await until(server, lambda: server.watching(PATH))
        server.send(PATH, line("a", 11) + line("b", 12)[:20])
        assert await seen.until(1) == [("put", "a", 5)]
        server.send(PATH, line("b", 12)[20:])
        assert await seen.until(2) == [("put", "a", 5), ("put", "b", 5)]


async def test_a_stream_that_breaks_within_an_event_is_taken_up_before_it(server: ApiServer) -> None:
    async with following(server, (THINGS, "")) as seen:
        await until(server, lambda: server.watching(PATH))
        server.send(PATH, b'{"type":"ADDED","object":{"meta')
        server.end_streams()
        await until(server, lambda: not server.watching(PATH))
        server.put(PATH, thing("a", 5))
        assert await seen.until(1) == [("put", "a", 5)]


async def test_a_missing_permission_is_said_once_and_ends_nothing_else(server: ApiServer) -> None:
    server.always[PATH] = Failure(403, 'things.berth.dev is forbidden: User "me" cannot list')
    with capture_logs() as logs:
        async with following(server, (THINGS, ""), (OTHERS, "home")) as (things, others):
            await until(server, lambda: sum(request.path == PATH for request in server.asked) >= 5)
            server.put(OTHER_PATH, thing("a"))
            await others.until(1)
            assert not things.calls
            server.put(PATH, thing("b"))
            del server.always[PATH]
            await things.until(1)
            server.always[PATH] = Failure(403)
            server.end_streams()
            before = len(server.asked)
            await until(server, lambda: sum(request.path == PATH for request in server.asked[before:]) >= 3)
    said = [entry["permission"] for entry in logs if entry["event"] == "permission_missing"]
    assert said == ["list things.berth.dev in all namespaces", "watch things.berth.dev in all namespaces"]
    assert "cannot list" in logs[0]["error"]
    assert "roles" in logs[0]["mend"]


async def test_a_kind_that_is_not_there_yet_is_said_once_and_waited_for(server: ApiServer) -> None:
    server.failures[PATH] = [Failure(404)] * 4
    server.put(PATH, thing("a"))
    with capture_logs() as logs:
        async with following(server, (THINGS, "")) as seen:
            await seen.until(1)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["kind_missing"]


async def test_after_401_the_token_is_read_anew(server: ApiServer) -> None:
    tokens = iter(["old", "new"])
    server.failures[PATH] = [Failure(401)]
    server.put(PATH, thing("a"))
    async with following(server, (THINGS, ""), token=lambda: next(tokens)) as seen:
        await seen.until(1)
        await until(server, lambda: server.watching(PATH))
    assert [request.authorization for request in server.asked] == ["Bearer old", "Bearer new", "Bearer new"]


async def test_the_token_is_read_anew_each_minute_and_the_old_one_serves_while_it_cannot_be(server: ApiServer) -> None:
    now, token = 0.0, "first"

    def read() -> str:
        if not token:
            raise OSError("being replaced")
        return token

    api = Api(Connection(server.url, None, read), clock=lambda: now)

    async def lists() -> str:
        async for _ in api.pages(THINGS, ""):
            pass
        return server.asked[-1].authorization

    assert await lists() == "Bearer first"
    token = "second"
    now = 59.0
    assert await lists() == "Bearer first"
    now = 61.0
    assert await lists() == "Bearer second"
    token = ""
    now = 130.0
    assert await lists() == "Bearer second"
    await api.close()


async def test_an_object_that_is_not_understood_hides_no_other_and_none_of_its_text_is_logged(
    server: ApiServer,
) -> None:
    server.put(PATH, thing("bad"))
    server.put(PATH, thing("good"))
    seen = Seen()

    def put(obj: Object) -> None:
        if obj["metadata"]["name"] == "bad":
            raise ValueError("its secret text")
        seen.put(obj)

    api = Api(Connection(server.url, None, str))
    with capture_logs() as logs:
        running = asyncio.create_task(Watch(api, THINGS, "", put, seen.drop).run())
        assert await seen.until(1) == [("put", "good", 0)]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await api.close()
    (entry,) = [entry for entry in logs if entry["event"] == "object_not_understood"]
    assert (entry["object"], entry["error"]) == ("a/bad", "ValueError")
    assert entry["at"].startswith("test_an_object_that_is_not_understood")
    assert "secret" not in str(entry)


class Script:
    """In the place of Api: plays one stream after the other; when they are over, the watch is ended."""

    def __init__(self, *streams: list[Object | Exception]) -> None:
        self.streams = list(streams)
        self.asked: list[str] = []

    async def pages(self, kind: Kind, namespace: str) -> AsyncIterator[tuple[list[Object], str]]:
        self.asked.append("list")
        yield [], "5"

    async def watch(self, kind: Kind, namespace: str, version: str) -> AsyncIterator[Object]:
        self.asked.append(version)
        if not self.streams:
            raise asyncio.CancelledError
        for item in self.streams.pop(0):
            if isinstance(item, Exception):
                raise item
            yield item


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the watch waited for, in seconds, without the jitter."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(cluster.asyncio, "sleep", sleep)
    monkeypatch.setattr(cluster.random, "uniform", lambda *_: 1.0)
    return found


def play(script: Script) -> None:
    async def run() -> None:
        await Watch(script, THINGS, "", lambda obj: None, lambda *name: None).run()  # type: ignore[arg-type]

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())


def bookmark(version: int) -> Object:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}


def test_streams_that_end_without_a_word_are_asked_for_less_and_less_often(waits: list[float]) -> None:
    script = Script(*[[] for _ in range(8)], [bookmark(9)])
    play(script)
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 12.0, 12.0, 0.0]
    assert script.asked == ["list", *["5"] * 9, "9"]


def test_a_wish_to_be_asked_later_is_followed_and_the_version_kept(waits: list[float]) -> None:
    script = Script([bookmark(9)], [ApiError("watch", 429, "busy", 7.0)], [Unreachable("reset")])
    play(script)
    assert waits == [0.0, 7.0, 1.0]
    assert script.asked == ["list", "5", "9", "9", "9"]


def test_a_missing_permission_is_asked_for_slowly(waits: list[float]) -> None:
    play(Script([ApiError("watch", 403, "no")], [ApiError("watch", 403, "no")]))
    assert waits == [30.0, 30.0]


def test_an_interruption_is_told_when_it_lasts_and_when_it_is_over(waits: list[float]) -> None:
    with capture_logs() as logs:
        play(Script(*[[Unreachable("refused")] for _ in range(5)], [bookmark(9)]))
    assert [entry["event"] for entry in logs] == ["watch_interrupted", "watch_resumed"]
