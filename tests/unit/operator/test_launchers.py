"""A launcher's answer is not trusted, and launchers are asked seldom. Input: pods and a clock that the test moves."""

from typing import Any

import pytest

from berth.api.names import Key
from berth.kube.launchers import LOAD, Launchers, read_load, read_progress

KEY = Key("team-a", "demo")
NOTHING = {
    "phase": "unknown",
    "bytes": None,
    "total": None,
    "bytes_per_second": None,
    "seconds_left": None,
    "revision": None,
    "engine": {"version": None},
    "message": "",
}


@pytest.mark.parametrize(
    ("told", "expect"),
    [
        ("text", None),
        ({"v": 2, "phase": "Serving"}, None),
        ({"v": 1}, NOTHING),
        ({"v": 1, "engine": "text", "phase": ["x"], "bytes": "1", "total": {}, "message": 7, "revision": 7}, NOTHING),
        ({"v": 1, "engine": {"version": 7}, "phase": "x" * 65, "bytes": -1, "seconds_left": 1e300}, NOTHING),
        ({"v": 1, "phase": "<b>", "revision": "c0ffee\n"}, NOTHING),
        ({"v": 1, "message": " two\nlines "}, NOTHING | {"message": "two lines"}),
        ({"v": 1, "message": "x" * 5000}, NOTHING | {"message": "x" * 200}),
        (
            {"v": 1, "phase": "Downloading", "bytes": 1, "total": 2, "bytes_per_second": 3, "seconds_left": 0.5,
             "revision": "c0ffee", "engine": {"version": "0.32.0+cpu"}, "message": "m", "more": 1},
            {"phase": "Downloading", "bytes": 1, "total": 2, "bytes_per_second": 3, "seconds_left": 0.5,
             "revision": "c0ffee", "engine": {"version": "0.32.0+cpu"}, "message": "m"},
        ),
    ],
)  # fmt: skip
def test_of_an_answer_only_fields_of_the_right_type_are_used(told: Any, expect: Any) -> None:
    assert read_progress(told) == expect


@pytest.mark.parametrize(
    ("told", "expect"),
    [
        ([], None),
        ({"v": 2, "running": 1}, None),
        ({"v": 1}, {}),
        ({"v": 1, "running": 3, "waiting": "1", "tokens": -1, "max_num_seqs": 1e300}, {"running": 3}),
        ({"v": 1, "running": 1.0, "waiting": 2, "deferred": 0, "more": 1}, {"running": 1, "waiting": 2, "deferred": 0}),
    ],
)
def test_of_a_load_only_amounts_are_used(told: Any, expect: Any) -> None:
    assert read_load(told) == (None if expect is None else dict.fromkeys(LOAD) | expect)


class Pods:
    """Pods on addresses, whose launchers count; `now` is the clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[str] = []
        self.silent: set[str] = set()
        self.launchers = Launchers(self._fetch, lambda: self.now)

    async def _fetch(self, ip: str) -> dict[str, Any] | None:
        self.asked.append(ip)
        return None if ip in self.silent else {"phase": "Downloading", "bytes": len(self.asked)}

    async def look(self, *names: str) -> dict[str, Any]:
        pods = [{"metadata": {"name": name}, "status": {"phase": "Running", "podIP": f"ip-{name}"}} for name in names]
        return await self.launchers.progress(KEY, pods)


async def test_passes_within_ten_seconds_see_the_same_answer() -> None:
    pods = Pods()
    first = await pods.look("a")
    for seconds in range(1, 10):
        pods.now = 100.0 + seconds
        assert await pods.look("a") == first
        assert pods.launchers.due_seconds(KEY) == 10 - seconds
    assert pods.asked == ["ip-a"]
    pods.now = 110.0
    assert await pods.look("a") != first


async def test_all_pods_of_an_endpoint_are_asked_at_the_same_time() -> None:
    pods = Pods()
    await pods.look("a")
    pods.now += 5
    assert set(await pods.look("a", "b")) == {"a"}, "a pod that came in between waits for the next round"
    pods.now += 5
    assert set(await pods.look("a", "b")) == {"a", "b"}
    assert pods.asked == ["ip-a", "ip-a", "ip-b"]


async def test_silence_too_is_remembered() -> None:
    pods = Pods()
    pods.silent.add("ip-a")
    assert await pods.look("a") == await pods.look("a") == {}
    assert pods.asked == ["ip-a"]


async def test_pods_that_do_not_run_are_not_asked_and_nothing_is_kept() -> None:
    pods = Pods()
    pending = {"metadata": {"name": "a"}, "status": {"phase": "Pending"}}
    assert await pods.launchers.progress(KEY, [pending]) == {}
    assert pods.launchers.due_seconds(KEY) == 0
    await pods.look("a")
    await pods.look()
    assert pods.launchers.due_seconds(KEY) == 0
    assert pods.asked == ["ip-a"]
