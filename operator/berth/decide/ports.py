"""Which port of the gateway is whose: by its port it knows for which endpoint a request was meant.

A port that was given to one endpoint and then to another would carry requests across, for as long as a client keeps a
connection to it open.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from berth.api import names
from berth.api.names import Key

Object = dict[str, Any]
Name = tuple[str, str]

REST_SECONDS = 600.0
"""For so long after an endpoint has left it nobody else gets its port."""


class Claim(NamedTuple):
    """One of Berth's own slices. age: of several with one port the least one has it, here and in the gateway.

    uid: of the endpoint, "" when it has left the slice behind.
    """

    age: tuple[str, str, str]
    port: int
    uid: str
    endpoint: Key


def port_of(found: Object) -> int | None:
    """The port in a slice that leads to the gateway; None when there is none, as somebody has edited it."""
    ports = found.get("ports") or []
    return next((each["port"] for each in ports if each.get("name") == names.SERVER_PORT_NAME and "port" in each), None)


def claim(found: Object) -> Claim | None:
    """What one of Berth's own slices says of a port; None for a slice of somebody else."""
    meta, labels, port = found["metadata"], found["metadata"].get("labels") or {}, port_of(found)
    if labels.get(names.SLICE_MANAGER_LABEL) != names.GROUP or port is None:
        return None
    owners = meta.get("ownerReferences") or []
    uid = next((owner["uid"] for owner in owners if owner["kind"] == names.KIND), "")
    age = (meta.get("creationTimestamp") or "", meta["namespace"], meta["name"])
    return Claim(age, port, uid, Key(meta["namespace"], labels.get(names.ENDPOINT_LABEL, "")))


class Ports:
    """Knows every slice, and remembers whose a port was: a new process does not know which ones are at rest.

    Times are monotonic seconds.
    """

    def __init__(self, ports: range) -> None:
        self._ports = ports
        self._slices: dict[Name, Claim] = {}
        self._claims: dict[int, set[Claim]] = {}
        # Left at that time, or given then: its slice may not be there yet.
        self._resting: dict[int, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._ports)

    def __contains__(self, port: int) -> bool:
        return port in self._ports

    def see(self, name: Name, found: Object | None, now: float) -> list[Key]:
        """A slice as it is now, None when it is gone. Returns whose port is an older one's: they need another one."""
        before, after = self._slices.pop(name, None), claim(found) if found is not None else None
        if after is not None:
            self._slices[name] = after
        if before == after:
            return []
        if before is not None:
            self._claims[before.port].discard(before)
            if not self._claims[before.port]:
                del self._claims[before.port]
                self._resting[before.port] = before.uid, now
        if after is None:
            return []
        claims = self._claims.setdefault(after.port, set())
        claims.add(after)
        return [each.endpoint for each in sorted(claims)[1:]]

    def holder(self, port: int, now: float) -> str | None:
        """Uid of the endpoint that has a port, or has left it lately; None: it is free. See `Claim` for ""."""
        if claims := self._claims.get(port):
            return min(claims).uid
        uid, left = self._resting.get(port, ("", float("-inf")))
        return uid if now - left < REST_SECONDS else None

    def give(self, uid: str, now: float) -> int | None:
        """A port for an endpoint; None when others have them all."""
        found = next((port for port in self._for(uid) if self.holder(port, now) in (uid, None)), None)
        if found is not None:
            self._resting[found] = uid, now
        return found

    def _for(self, uid: str) -> Iterator[int]:
        """Those that it had, then from a hash of the uid on: so it gets the same port again if it can be had."""
        yield from [port for port, (owner, _) in self._resting.items() if owner == uid and port in self._ports]
        start = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8], "big")
        for step in range(len(self._ports)):
            yield self._ports[(start + step) % len(self._ports)]
