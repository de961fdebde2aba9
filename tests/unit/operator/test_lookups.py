"""What is read on demand: a launcher's answer is not trusted, and many passes read the nodes once."""

import asyncio
from typing import Any

import pytest

from berth.kube.lookups import Lookups, read_progress
from berth.kube.resources import Resource

NOTHING = {"phase": "unknown", "bytes": None, "total": None, "engine": {"version": None}}


@pytest.mark.parametrize(
    ("told", "expect"),
    [
        ("text", None),
        ({"v": 2, "phase": "Serving"}, None),
        ({"v": 1}, NOTHING),
        ({"v": 1, "engine": "text", "phase": ["x"], "bytes": "1", "total": {}}, NOTHING),
        ({"v": 1, "engine": {"version": 7}, "phase": "x" * 65}, NOTHING),
        ({"v": 1, "phase": "<b>"}, NOTHING),
        (
            {"v": 1, "phase": "Downloading", "bytes": 1, "total": 2, "engine": {"version": "0.32.0+cpu"}, "more": 1},
            {"phase": "Downloading", "bytes": 1, "total": 2, "engine": {"version": "0.32.0+cpu"}},
        ),
    ],
)
def test_of_an_answer_only_fields_of_the_right_type_are_used(told: Any, expect: Any) -> None:
    assert read_progress(told) == expect


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
