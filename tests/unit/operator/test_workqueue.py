"""The keyed queue, on a clock of its own: no test waits."""

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.api.names import Key
from berth.workqueue import FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS, WorkQueue

A, B = Key("ns", "a"), Key("ns", "b")


class Clock(selectors.DefaultSelector):
    """A selector that does not wait: it moves the time on by as much as it was told to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen"
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own."""

    def __init__(self) -> None:
        self._clock = Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(main: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(asyncio.wait_for(main, 1_000_000))
    finally:
        loop.close()


def queue() -> WorkQueue:
    return WorkQueue(jitter=lambda: 1.0)


async def empty(found: WorkQueue) -> bool:
    """Nothing is handed out now."""
    getting = asyncio.ensure_future(found.get())
    for _ in range(5):
        await asyncio.sleep(0)
    got = getting.done()
    getting.cancel()
    return not got


def now() -> float:
    return asyncio.get_running_loop().time()


def test_many_wishes_are_one_pass() -> None:
    async def main() -> None:
        found = queue()
        for _ in range(5):
            found.add(A)
        assert len(found) == 1
        assert await found.get() == A
        assert await empty(found)

    run(main())


def test_keys_come_in_their_order() -> None:
    async def main() -> None:
        found = queue()
        for key in (B, A, B):
            found.add(key)
        assert [await found.get(), await found.get()] == [B, A]

    run(main())


def test_a_key_is_worked_on_by_one_at_a_time_and_once_more_afterwards() -> None:
    async def main() -> None:
        found = queue()
        found.add(A)
        await found.get()
        found.add(A)
        found.add(A)
        assert await empty(found)
        found.done(A)
        assert await found.get() == A
        found.done(A)
        assert await empty(found)

    run(main())


def test_a_busy_key_holds_up_no_other() -> None:
    async def main() -> None:
        found = queue()
        found.add(A)
        await found.get()
        found.add(A)
        found.add(B)
        assert await found.get() == B

    run(main())


def test_later_is_later() -> None:
    async def main() -> None:
        found = queue()
        found.add_after(A, 30.0)
        assert await empty(found)
        assert await found.get() == A
        assert now() == pytest.approx(30.0)

    run(main())


@pytest.mark.parametrize("delays", [(5.0, 60.0), (60.0, 5.0), (60.0, 5.0, 30.0)])
def test_of_several_wishes_the_soonest_counts(delays: tuple[float, ...]) -> None:
    async def main() -> None:
        found = queue()
        for delay in delays:
            found.add_after(A, delay)
        await found.get()
        assert now() == pytest.approx(5.0)
        found.done(A)
        await asyncio.sleep(100)
        assert await empty(found)

    run(main())


def test_a_pass_makes_the_wish_for_one_void() -> None:
    async def main() -> None:
        found = queue()
        found.add_after(A, 10.0)
        found.add(A)
        await found.get()
        found.done(A)
        await asyncio.sleep(100)
        assert await empty(found)

    run(main())


def test_a_wish_made_during_a_pass_is_kept() -> None:
    async def main() -> None:
        found = queue()
        found.add(A)
        await found.get()
        found.add_after(A, 10.0)
        found.done(A)
        await found.get()
        assert now() == pytest.approx(10.0)

    run(main())


def test_a_wish_that_comes_due_during_a_pass_waits_for_its_end() -> None:
    async def main() -> None:
        found = queue()
        found.add(A)
        await found.get()
        found.add_after(A, 1.0)
        await asyncio.sleep(5)
        assert await empty(found)
        found.done(A)
        assert await found.get() == A

    run(main())


def test_retries_come_later_and_later_up_to_a_limit() -> None:
    async def main() -> None:
        found = queue()
        delays = [found.retry(A) for _ in range(30)]
        assert delays[:4] == [FIRST_DELAY_SECONDS * factor for factor in (1, 2, 4, 8)]
        assert delays == sorted(delays)
        assert delays[-1] == MAX_DELAY_SECONDS

    run(main())


def test_a_success_forgets_the_failures_of_its_key_alone() -> None:
    async def main() -> None:
        found = queue()
        for _ in range(5):
            found.retry(A)
            found.retry(B)
        found.forget(A)
        assert found.retry(A) == FIRST_DELAY_SECONDS
        assert found.retry(B) == FIRST_DELAY_SECONDS * 32

    run(main())


def test_a_retry_hands_the_key_out_after_its_delay() -> None:
    async def main() -> None:
        found = queue()
        found.add(A)
        await found.get()
        delay = found.retry(A)
        found.done(A)
        assert await empty(found)
        assert await found.get() == A
        assert now() == pytest.approx(delay)

    run(main())


def test_the_api_server_s_wish_is_the_least_delay() -> None:
    async def main() -> None:
        found = queue()
        assert found.retry(A, at_least_seconds=7.0) == 7.0
        assert found.retry(B, at_least_seconds=0.001) == FIRST_DELAY_SECONDS

    run(main())


def test_nothing_shortens_the_api_server_s_wish() -> None:
    async def main() -> None:
        found = queue()
        found.add_after(A, 2.0)
        found.add(A)
        assert await found.get() == A
        found.add(A)  # an event during the pass
        found.retry(A, at_least_seconds=7.0)
        found.done(A)
        found.add(A)  # and one after it
        found.add_after(A, 1.0)
        assert await empty(found)
        assert await found.get() == A
        assert asyncio.get_running_loop().time() == 7.0
        found.done(A)
        found.add(A)
        assert await found.get() == A  # over: events count again
        assert asyncio.get_running_loop().time() == 7.0

    run(main())


def test_the_jitter_spreads_retries() -> None:
    async def main() -> None:
        factors: Iterator[float] = iter([0.8, 1.2])
        found = WorkQueue(jitter=lambda: next(factors))
        assert [found.retry(A), found.retry(B)] == [FIRST_DELAY_SECONDS * 0.8, FIRST_DELAY_SECONDS * 1.2]

    run(main())


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "after", "retry", "refused", "get", "done"]), st.sampled_from([A, B])),
    max_size=40,
)


@given(STEPS)
def test_no_key_is_lost_and_none_is_worked_on_twice_at_once(steps: list[tuple[str, Key]]) -> None:
    async def main() -> None:
        found, busy, wanted = queue(), set[Key](), set[Key]()
        add_after = partial(found.add_after, delay_seconds=3.0)
        for step, key in steps:
            if step == "get":
                if wanted - busy:
                    got = await found.get()
                    assert got not in busy
                    busy.add(got)
                    wanted.discard(got)
            elif step == "refused":
                if key in busy:
                    found.retry(key, at_least_seconds=5.0)
                    wanted.add(key)
                    busy.remove(key)
                    found.done(key)
            elif step == "done":
                if key in busy:
                    busy.remove(key)
                    found.done(key)
            else:
                {"add": found.add, "after": add_after, "retry": found.retry}[step](key)
                wanted.add(key)
        for key in busy:
            found.done(key)
        assert {await found.get() for _ in wanted} == wanted
        for key in wanted:
            found.done(key)
        await asyncio.sleep(1000)
        assert await empty(found)

    run(main())
