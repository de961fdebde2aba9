"""Names that several may claim, and who of them has one."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Age = tuple[str, ...]


class Claims(Generic[K, V]):
    """Who has a name that several may claim: the oldest. An age is unique among those who claim one name."""

    def __init__(self) -> None:
        self._claims: dict[K, list[tuple[Age, V]]] = {}

    def holder(self, name: K) -> V | None:
        """Who has it."""
        claims = self._claims.get(name)
        return claims[0][1] if claims else None

    def add(self, name: K, age: Age, claimant: V) -> None:
        """One more who wants it."""
        insort(self._claims.setdefault(name, []), (age, claimant), key=_age)

    def remove(self, name: K, age: Age) -> None:
        """Who claimed it at this age does not any more."""
        claims = self._claims[name]
        del claims[bisect_left(claims, age, key=_age)]
        if not claims:
            del self._claims[name]

    def __iter__(self) -> Iterator[K]:
        return iter(self._claims)


def _age(claim: tuple[Age, Any]) -> Age:
    return claim[0]
