"""What the kernel says of this container's memory: its limit, and how many processes it has killed for want of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from berth_server.protocol import Failure

CGROUPS = "/sys/fs/cgroup"
# cgroup v1 writes a number near 2**63 for none.
_NO_LIMIT = 2**60


def read_cgroups() -> str:
    """The cgroups of this process, as the kernel lists them; empty where it does not."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def kills(cgroups: str, root: str = CGROUPS) -> int | None:
    """Processes that the out-of-memory killer has ended in this cgroup since it was made; None when unknown.

    cgroups: from `read_cgroups`.
    """
    return _number(cgroups, root, "memory.events", "memory.oom_control", r"^oom_kill (\d+)$")


def limit_bytes(cgroups: str, root: str = CGROUPS) -> int | None:
    """The memory limit of this cgroup; None when it has none or it is unknown."""
    found = _number(cgroups, root, "memory.max", "memory.limit_in_bytes", r"^(\d+)$")
    return found if found is not None and found < _NO_LIMIT else None


def failure(limit: int | None) -> Failure:
    """What to say when the kernel has killed. limit: the container's, in bytes."""
    where = f"at the container's memory limit of {limit / 2**30:.1f} GiB" if limit else "as the node ran out of memory"
    return Failure("OutOfMemory", f"The kernel killed a process of the server {where}.")


def _number(cgroups: str, root: str, unified: str, legacy: str, pattern: str) -> int | None:
    for path in _files(cgroups, root, unified, legacy):
        try:
            with open(path, encoding="ascii") as file:
                found = re.search(pattern, file.read(), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found[1])
    return None


def _files(cgroups: str, root: str, unified: str, legacy: str) -> Iterator[str]:
    """Where a value may be. In a cgroup namespace the path is `/`; without one v1 shows the own cgroup at the root."""
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield os.path.join(root, path.lstrip("/"), unified)
        elif "memory" in controllers.split(","):
            yield os.path.join(root, "memory", path.lstrip("/"), legacy)
            yield os.path.join(root, "memory", legacy)
