"""What one policy made of one load, and whether another policy did better."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

TIE_SHARE = 0.02
TIE_WAIT_SECONDS = 0.5
TIE_FAILED_SHARE = 0.005


class Cell(NamedTuple):
    """Means over the draws of a load. failed: holds that waited too long.  requests: of all of them."""

    p95_wait_seconds: float
    failed: float
    gpu_hours: float
    changes_of_direction: float
    requests: float


def better(other: Cell, one: Cell) -> bool:
    """True when `other` is clearly better in waiting or in GPU-hours and no worse in any of both.

    Within 2 % or half a second two waits are equal, within 2 % two numbers of GPU-hours. Waiting is worse as well with
    more failed holds, by 0.5 % of the requests: one that gives up shortens the p95.
    """
    wait = _compare(other.p95_wait_seconds, one.p95_wait_seconds, TIE_WAIT_SECONDS)
    failed = _compare(other.failed, one.failed, TIE_FAILED_SHARE * one.requests)
    cost = _compare(other.gpu_hours, one.gpu_hours, 0.0)
    return max(wait, failed, cost) <= 0 and min(wait, cost) < 0


def _compare(other: float, one: float, tie: float) -> int:
    """-1: `other` is clearly less.  1: clearly more."""
    if abs(other - one) <= max(tie, TIE_SHARE * max(other, one)):
        return 0
    return -1 if other < one else 1


def ahead(name: str, cells: Mapping[str, Cell]) -> list[str]:
    """Policies that are better than `name`: none when it is on the Pareto front of p95 wait and GPU-hours."""
    return [other for other, cell in cells.items() if better(cell, cells[name])]


def mean(cells: Iterable[Cell]) -> Cell:
    """Field by field."""
    rows = list(cells)
    return Cell(*(sum(column) / len(rows) for column in zip(*rows, strict=True)))
