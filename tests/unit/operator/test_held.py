"""Long polls of the gateways: what each tells, and whether all that is needed is known.

In: answers, a clock that the test moves.  Out: what is known of an endpoint, of which one news was told.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from berth.decide.look import Told
from berth.held import AGAIN_SECONDS, NEW_SECONDS, PAUSE_SECONDS, SILENT_SECONDS, Answer, Held, ask, read

A, B = "10.0.0.1:9090", "10.0.0.2:9090"


class Gateways:
    """Each answers when its version is another one than was asked for; None: it does not answer at all."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.told: dict[str, dict[str, dict[str, float]] | None] = {A: {}, B: {}}
        self.versions = {A: 1, B: 1}
        self.asked: list[tuple[str, int | None]] = []
        self.changed: list[str] = []
        self._news = asyncio.Condition()
        self.held = Held(self._ask, self.changed.append, lambda: self.now)

    async def _ask(self, at: str, version: int | None) -> Answer | None:
        self.asked.append((at, version))
        async with self._news:
            self._news.notify_all()
            await self._news.wait_for(lambda: self.told[at] is None or self.versions[at] != version)
        told = self.told[at]
        return None if told is None else Answer(self.versions[at], told)

    async def tells(self, at: str, told: dict[str, dict[str, float]] | None) -> None:
        """A new answer, and wait until it was heard."""
        async with self._news:
            before = len(self.asked)
            self.told[at] = told
            self.versions[at] += 1
            self._news.notify_all()
            async with asyncio.timeout(10):
                await self._news.wait_for(lambda: any(each == at for each, _ in self.asked[before:]))

    async def follow(self, **ready: bool) -> None:
        """Wait until each one has been heard and is asked for the next time."""
        wanted = {{"a": A, "b": B}[name]: value for name, value in ready.items()}
        self.held.follow(wanted)
        async with self._news, asyncio.timeout(10):
            await self._news.wait_for(
                lambda: (
                    {at for at in wanted if self.told[at] is not None}
                    <= {at for at, version in self.asked if version is not None}
                )
            )


@pytest.fixture
async def gateways(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateways]:
    monkeypatch.setattr("berth.held.PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("berth.held.AGAIN_SECONDS", 0.0)
    found = Gateways()
    running = asyncio.create_task(found.held.run())
    yield found
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def holds(held: float, requests: float = 0, in_flight: float = 0) -> dict[str, float]:
    return {"held": held, "requests": requests, "in_flight": in_flight}


def silent(at: str) -> str:
    return f"the gateway at {at} does not tell what it holds: let the operator's pods reach this port"


async def test_one_poll_that_is_missed_is_not_said(gateways: Gateways) -> None:
    await gateways.follow(a=True)
    gateways.now += SILENT_SECONDS / 2
    await gateways.tells(A, None)
    assert gateways.held.told("x").problem == ""
    await gateways.tells(A, {})
    gateways.now += SILENT_SECONDS / 2 + 1
    assert gateways.held.told("x").problem == ""


async def test_what_all_hold_is_summed(gateways: Gateways) -> None:
    gateways.told |= {A: {"x": holds(3, 7)}, B: {"x": holds(2, 1), "y": holds(0, 5, 1)}}
    await gateways.follow(a=True, b=True)
    assert gateways.held.told("x") == Told(5, False, {A: 7, B: 1})
    assert gateways.held.told("y") == Told(0, True, {A: 0, B: 5})
    assert gateways.held.told("z") == Told(0, False, {A: 0, B: 0})
    assert gateways.changed == ["x", "x"]


async def test_a_change_is_told_and_only_a_change_of_what_is_held(gateways: Gateways) -> None:
    await gateways.follow(a=True)
    await gateways.tells(A, {"x": holds(1)})
    await gateways.tells(A, {"x": holds(1, 1)})
    await gateways.tells(A, {"x": holds(4, 1), "y": holds(0, 1)})
    await gateways.tells(A, {"y": holds(0, 1)})
    assert gateways.changed == ["x", "x", "x"]
    assert gateways.held.told("x") == Told(0, False, {A: 0})


async def test_without_a_gateway_that_is_ready_not_all_is_known(gateways: Gateways) -> None:
    assert gateways.held.told("x") == Told(0, False, {}, "no pod of the gateway is ready")
    gateways.told[A] = {"x": holds(1)}
    await gateways.follow(a=False)
    assert gateways.held.told("x") == Told(1, False, {A: 0}, "no pod of the gateway is ready")


async def test_what_one_that_leaves_still_holds_counts(gateways: Gateways) -> None:
    gateways.told |= {B: {"x": holds(2)}}
    await gateways.follow(a=True, b=False)
    assert gateways.held.told("x") == Told(2, False, {A: 0, B: 0})
    gateways.changed.clear()
    await gateways.follow(a=True)
    assert gateways.held.told("x") == Told(0, False, {A: 0})
    assert gateways.changed == ["x"]


async def test_what_one_holds_is_known_while_another_one_is_silent(gateways: Gateways) -> None:
    gateways.told |= {A: {"x": holds(2)}, B: None}
    await gateways.follow(a=True, b=True)
    assert gateways.held.told("x") == Told(2, False, {A: 0}), "it is new"
    gateways.now += NEW_SECONDS + 1
    assert gateways.held.told("x") == Told(2, False, {A: 0}, silent(B))
    await gateways.follow(a=True, b=False)
    assert gateways.held.told("x") == Told(2, False, {A: 0})


async def test_an_answer_that_is_too_old_counts_for_nothing(gateways: Gateways) -> None:
    gateways.told[B] = {"x": holds(9)}
    await gateways.follow(a=True, b=False)
    gateways.now += SILENT_SECONDS
    assert gateways.held.told("x") == Told(9, False, {A: 0, B: 0})
    gateways.now += 1
    assert gateways.held.told("x") == Told(0, False, {}, silent(A))
    await gateways.tells(A, {})
    assert gateways.held.told("x") == Told(0, False, {A: 0})


async def test_a_new_process_begins_without_an_answer_and_not_for_ever(gateways: Gateways) -> None:
    assert gateways.held.begins()
    gateways.now += SILENT_SECONDS
    assert not gateways.held.begins()
    gateways.now -= SILENT_SECONDS
    await gateways.follow(a=True)
    assert not gateways.held.begins()


async def test_after_a_failure_it_is_asked_for_all_that_it_holds(gateways: Gateways) -> None:
    await gateways.follow(a=True)
    await gateways.tells(A, None)
    gateways.asked.clear()
    await gateways.tells(A, {"x": holds(1)})
    assert gateways.asked[0] == (A, None) or (A, None) in gateways.asked
    assert gateways.held.told("x") == Told(1, False, {A: 0})


async def test_a_failure_of_its_own_ends_the_process(gateways: Gateways) -> None:
    broken = Held(gateways._ask, lambda uid: 1 / 0, lambda: gateways.now)  # type: ignore[arg-type, return-value]
    gateways.told[A] = {"x": holds(1)}
    running = asyncio.create_task(broken.run())
    broken.follow({A: True})
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(running, 10)


def test_a_burst_costs_a_few_answers_and_a_failure_no_storm() -> None:
    assert 0 < PAUSE_SECONDS < 1 <= AGAIN_SECONDS


@pytest.mark.parametrize(
    "body",
    [None, [], {}, {"v": 2, "version": 1, "endpoints": {}}, {"v": 1, "version": "1", "endpoints": {}},
     {"v": 1, "version": 1}, {"v": 1, "version": 1, "endpoints": []}],
    ids=str,
)  # fmt: skip
def test_what_is_no_answer_is_none(body: Any) -> None:
    assert read(body) is None


def test_only_numbers_are_taken_from_an_answer() -> None:
    told = {"held": 2, "in_flight": "3", "requests": -1, "since_seconds": 4.5}
    assert read({"v": 1, "version": 7, "pod": "p", "endpoints": {"x": told, "y": None}}) == Answer(
        7, {"x": {"held": 2}, "y": {}}
    )


async def test_it_is_asked_over_http() -> None:
    seen = []

    async def demand(request: web.Request) -> web.Response:
        seen.append(request.path_qs)
        if request.query.get("after") == "3":
            return web.Response(status=503)
        return web.json_response({"v": 1, "version": 3, "endpoints": {str(n): {"held": 1} for n in range(5000)}})

    app = web.Application()
    app.router.add_get("/demand", demand)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    at = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as session:
            found = await ask(session, at, None)
            assert found is not None
            assert (found.version, len(found.endpoints)) == (3, 5000)
            assert await ask(session, at, 3) is None
            await runner.cleanup()
            assert await ask(session, at, 3) is None
    finally:
        await runner.cleanup()
    assert seen == ["/demand", "/demand?after=3"]
