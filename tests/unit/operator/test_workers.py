"""What becomes of a key after its pass.

In: what the pass raises.  Out: the passes that were made.  Only the pass itself is played.
"""

import asyncio

import pytest

from berth import errors
from berth.api.names import Key
from berth.telemetry.metrics import Metrics
from berth.workers import Workers
from berth.workqueue import WorkQueue

KEY = Key("ns", "a")


class Passes:
    """Raises what it is given, one per pass, then succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.succeeded = asyncio.Event()

    async def reconcile(self, key: Key) -> float | None:
        if self.failures:
            raise self.failures.pop(0)
        self.succeeded.set()
        return None


@pytest.mark.parametrize(
    "failure",
    [errors.NotLeading("a renewal is late"), errors.Unreachable("reset"), errors.Busy(503, "x"), ValueError("a fault")],
    ids=["fenced while it leads", "unreachable", "busy", "our fault"],
)
async def test_a_pass_that_fails_is_made_again(failure: Exception) -> None:
    queue, leading, passes = WorkQueue(), asyncio.Event(), Passes(failure)
    leading.set()
    workers = Workers(queue, passes, Metrics(), leading)  # type: ignore[arg-type]
    workers.start(1)
    queue.add(KEY)
    await asyncio.wait_for(passes.succeeded.wait(), 30)
    await workers.stop(1)


async def test_no_pass_is_made_while_another_leads_and_one_as_soon_as_we_do() -> None:
    queue, leading, passes = WorkQueue(), asyncio.Event(), Passes()
    workers = Workers(queue, passes, Metrics(), leading)  # type: ignore[arg-type]
    workers.start(2)
    queue.add(KEY)
    for _ in range(100):  # whatever can go on does
        await asyncio.sleep(0)
    assert not passes.succeeded.is_set()
    leading.set()
    await asyncio.wait_for(passes.succeeded.wait(), 30)
    await workers.stop(1)
