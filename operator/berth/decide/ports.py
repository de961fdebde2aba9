"""Which port of the gateway is whose: by its port it knows for which endpoint a request was meant.

A port that was given to one endpoint and then to another would carry requests across, for as long as a client keeps a
connection to it open.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from berth.decide.backends import is_controllers

Object = dict[str, Any]

REST_SECONDS = 600.0
"""For so long after an endpoint has left it nobody else gets its port."""


def port_of(found: Object) -> int:
    """The port of one of Berth's own slices."""
    return int(found["ports"][0]["port"])


def owners(slices: Iterable[Object]) -> dict[int, str]:
    """Uid of the endpoint of each port that Berth's own slices have."""
    own = [found for found in slices if not is_controllers(found)]
    return {port_of(found): owner["uid"] for found in own for owner in found["metadata"].get("ownerReferences") or []}


class Ports:
    """Remembers whose a port was. A new process knows only those that there are, not which ones are at rest."""

    def __init__(self, ports: range) -> None:
        self._ports = ports
        self._given: dict[int, str] = {}
        self._resting: dict[int, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._ports)

    def __contains__(self, port: int) -> bool:
        return port in self._ports

    def give(self, uid: str, live: Mapping[int, str], now: float) -> int | None:
        """A port for an endpoint; None when others have them all. live: see `owners`.  now: monotonic seconds."""
        for port, owner in list(self._given.items()):
            if live.get(port) != owner:  # left, or not there yet
                del self._given[port]
                self._resting[port] = owner, now
        self._given |= live
        self._resting = {port: left for port, left in self._resting.items() if now - left[1] < REST_SECONDS}
        found = _free(uid, self._ports, {port: owner for port, (owner, _) in self._resting.items()} | self._given)
        if found is not None:
            self._given[found] = uid
        return found


def _free(uid: str, ports: range, taken: Mapping[int, str]) -> int | None:
    """Probing begins at a hash of the uid: so an endpoint gets the same port again if it can be had."""
    start = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8], "big")
    for step in range(len(ports)):
        port = ports[(start + step) % len(ports)]
        if taken.get(port, uid) == uid:
            return port
    return None
