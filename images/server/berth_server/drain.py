"""When a terminating server may go: decided from what is in flight and who is connected.

    readiness dropped        5 s                  last new connection   2 s
    ├────────────────────────┤ at least this long ├────────────────────┤ and this long, nothing in flight, nobody
                             endpoint slices and proxies forget the pod  connected → drained

Nobody connected: vLLM answers requests with an error from its SIGTERM on, also those on connections it has kept, and
its metrics do not count a request whose body still comes, or whose answer is still being sent. The plugin ends the
connections (closing.py).
The engine not loaded, hung or dead: drained at once. At most drain-seconds in any case.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from berth_server import motion, protocol
from berth_server.progress import UNANSWERED_READY_SECONDS, Snapshot

LEAST_SECONDS = 5.0
QUIET_SECONDS = 2.0
SAMPLE_SECONDS = 0.5
SERVING = "serving"
_LISTEN = "0A"
# FIN_WAIT2, TIME_WAIT, CLOSE: the other end has all that was sent, and can send no request.
_ENDED = ("05", "06", "07")
_LOOPBACK6 = ("0" * 24 + "01000000", "0" * 16 + "FFFF00000100007F")  # ::1 and ::ffff:127.0.0.1

Peer = tuple[str, int]


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment.

    engine: SERVING, or why waiting is pointless. in_flight: requests running or waiting; None when unknown.
    peers: remote ends of every connection to vLLM's port, those just closed included.  open: how many are not closed.
    """

    at: float
    engine: str
    in_flight: float | None = None
    peers: frozenset[Peer] = frozenset()
    open: int = 0


@dataclass(frozen=True)
class Drain:
    """A drain under way; times in monotonic seconds."""

    started_at: float
    limit_seconds: float
    connected_at: float
    peers: frozenset[Peer] | None = None
    ended: str | None = None


def begin(now: float, limit_seconds: float) -> Drain:
    return Drain(started_at=now, limit_seconds=limit_seconds, connected_at=now)


def after(drain: Drain, sample: Sample) -> Drain:
    """The drain after one more sample; `ended` says why once it is over."""
    newcomers = sample.peers - drain.peers if drain.peers is not None else frozenset()
    connected_at = sample.at if newcomers else drain.connected_at
    seen = replace(drain, peers=sample.peers, connected_at=connected_at)
    if sample.engine != SERVING:
        return replace(seen, ended=f"the engine is {sample.engine}")
    if sample.at - seen.started_at >= seen.limit_seconds:
        return replace(seen, ended=f"the limit of {seen.limit_seconds:.0f} s is reached")
    quiet = sample.at - seen.started_at >= LEAST_SECONDS and sample.at - connected_at >= QUIET_SECONDS
    if quiet and sample.in_flight == 0 and sample.open == 0:
        return replace(seen, ended="nothing is in flight and nobody is connected")
    return seen


def engine_state(snapshot: Snapshot, running: bool, now: float) -> str:
    """SERVING, or why there is nothing to wait for."""
    if not snapshot.proven:
        return "not loaded"
    if snapshot.engine_dead or not running:
        return "dead"
    silent = snapshot.answered_at is None or now - snapshot.answered_at > UNANSWERED_READY_SECONDS
    if silent or motion.stuck(snapshot.motion, now):
        return "hung"
    return SERVING


def connections(tables: Iterable[str], port: int, own_ports: Collection[int]) -> tuple[frozenset[Peer], int]:
    """The connections to local `port` in /proc/net/tcp and tcp6 but the launcher's own: remote ends, how many are open.

    The remote ends of closed ones count too while the kernel lists them (TIME_WAIT): a short request may begin and
    end between two looks.
    """
    found, still_open = set(), 0
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            address, _, remote_port = fields[2].rpartition(":")
            if int(fields[1].rpartition(":")[2], 16) != port or fields[3] == _LISTEN:
                continue
            peer = (address, int(remote_port, 16))
            if peer[1] in own_ports and _is_loopback(address):
                continue
            found.add(peer)
            still_open += fields[3] not in _ENDED
    return frozenset(found), still_open


def _is_loopback(address: str) -> bool:
    """Of an address as the kernel prints it: hexadecimal, 32-bit words in the machine's byte order."""
    return address.endswith("7F") if len(address) == 8 else address in _LOOPBACK6


def read_tables() -> list[str]:
    """The kernel's tables of TCP sockets in this network namespace."""
    tables = []
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                tables.append(file.read())
    return tables


def request(directory: str) -> int:
    """The preStop hook: asks the launcher to drain, waits until it has. 0 also when there is no launcher left."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(protocol.socket_path(directory))
        except (FileNotFoundError, ConnectionRefusedError):
            print("berth: no launcher to drain", flush=True)
            return 0
        connection.sendall(b"drain\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    if answer:
        done = json.loads(answer)
        print(f"berth: drained after {done['seconds']} s: {done['why']}", flush=True)
    return 0
