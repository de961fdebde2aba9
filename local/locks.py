"""Locks between processes, and between checkouts on one machine. The kernel drops them when their holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local import progress


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Holds the lock file `path`; says who has it while waiting. what: the work being serialised, for that line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 4096, 0).decode(errors="replace").strip() or "another process"
            with progress.step(f"waiting for {holder}: {what}"):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} in {Path.cwd()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
