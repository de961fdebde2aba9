"""One download at a time into a volume that several pods share: a lease file with a heartbeat.

Not a lock of the kernel: flock dies with its holder on a local file system, but on a shared one it may be local to
each node without telling (FUSE, Lustre and SMB mounts), or be kept by the server for minutes after the node died
(NFS). A file with content behaves alike on all of them. The holder rewrites it every few seconds. Who waits takes
over once the content has not changed for STALE_SECONDS since it first saw it, by its own monotonic clock: no two
clocks are compared. A container that starts again after a kill finds its own pod's name and goes on at once.

Two who take over at the same moment both write; after SETTLE_SECONDS the one whose token stands goes on. A holder
that was frozen finds another token at its next heartbeat and gives up. Should two ever download at once, it costs
bandwidth: unfinished files have names of their own, every file is checked, and the marker comes last.

The limit: huggingface_hub removes a file just before it fetches it. A holder that thaws at that moment, after another
one has finished, may remove one file in the instant before it gives up. The next start finds it absent and fetches it.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

HEARTBEAT_SECONDS = 5.0
# Longer than a file server's usual pause: its waiters cannot read either, but may see the end of the pause first.
STALE_SECONDS = 60.0
SETTLE_SECONDS = 1.0
POLL_SECONDS = 1.0


class Lease:
    """A lease in the file `path`. holder: name of this pod.  lost: called in a thread when another took over."""

    def __init__(
        self,
        path: str,
        holder: str,
        lost: Callable[[], object],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._path = path
        self._content: dict[str, Any] = {"v": 1, "holder": holder, "token": secrets.token_hex(8), "beat": 0}
        self._lost = lost
        self._heartbeat_seconds = heartbeat_seconds
        self._stale_seconds = stale_seconds
        self._writing = threading.Lock()
        self._released = threading.Event()
        self._heart: threading.Thread | None = None

    def acquire(self, needed: Callable[[], bool], waits: Callable[[Mapping[str, Any]], object]) -> bool:
        """Waits for the lease; False when `needed` became false first. waits: told what the holder says of itself."""
        seen: bytes | None = None
        since = 0.0
        while needed():
            content, now = self._read(), time.monotonic()
            if content is None:
                if self._create():
                    return self._begin()
            elif content != seen:
                seen, since = content, now
            holder = _parse(content)
            ours = holder.get("holder") == self._content["holder"]
            if content is not None and (ours or now - since >= self._stale_seconds):
                if self._take_over():
                    return self._begin()
                seen = None
                continue
            waits(holder)
            time.sleep(POLL_SECONDS)
        return False

    def tell(self, **facts: Any) -> None:
        """Adds what those who wait should know."""
        self._content |= facts
        with suppress(OSError):
            if self._is_ours():
                self._write()

    def release(self) -> None:
        """Lets the next one in."""
        self._released.set()
        if self._heart is not None:
            self._heart.join()
        with suppress(OSError):
            if self._is_ours():
                os.unlink(self._path)

    def _begin(self) -> bool:
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()
        return True

    def _beat(self) -> None:
        while not self._released.wait(self._heartbeat_seconds):
            with suppress(OSError):  # a full or failing volume stops the download itself
                if not self._is_ours():
                    self._lost()
                    return
                self._write()

    def _is_ours(self) -> bool:
        token: str = self._content["token"]
        return _parse(self._read()).get("token") == token

    def _create(self) -> bool:
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        self._write()
        return True

    def _take_over(self) -> bool:
        try:
            self._write()
        except FileNotFoundError:  # released meanwhile
            return False
        time.sleep(SETTLE_SECONDS)
        return self._is_ours()

    def _write(self) -> None:
        """In place: it needs no new room on a full volume. A reader who sees half of it sees a change."""
        with self._writing, open(self._path, "r+b") as file:
            self._content["beat"] += 1
            file.write(json.dumps(self._content).encode() + b"\n")
            file.truncate()

    def _read(self) -> bytes | None:
        # Opened each time: that is when a network file system asks its server.
        try:
            with open(self._path, "rb") as file:
                return file.read(4096)
        except FileNotFoundError:
            return None


def _parse(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
