"""What is read on demand: many passes read the nodes once."""

import asyncio
from typing import Any

from berth.kube.lookups import Lookups
from berth.kube.resources import Resource


class Lists:
    """Counts lists; each takes a turn of the loop."""

    def __init__(self) -> None:
        self.count = 0

    async def list(self, resource: Resource, **_: Any) -> tuple[list[Any], str]:
        self.count += 1
        await asyncio.sleep(0)
        return [], "1"


async def test_passes_that_want_the_nodes_at_once_read_them_once() -> None:
    lists = Lists()
    lookups = Lookups(lists, lambda: 0.0)  # type: ignore[arg-type]  # only its list is used
    await asyncio.gather(*(lookups.nodes() for _ in range(32)))
    assert lists.count == 2  # nodes, and the pods on them
