"""A memory cgroup for one program; root. Run under it: `[*memory_limit(name, limit_bytes), program, …]`.

The cgroup is removed once its last process is gone, also when the test is killed.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def memory_limit(name: str, limit_bytes: int) -> list[str]:
    """The command that runs what follows in a cgroup of its own, with so much memory."""
    return [sys.executable, __file__, f"berth-test-{name}", str(limit_bytes)]


def main(name: str, limit_bytes: str, *command: str) -> None:
    legacy = CGROUPS / "memory"
    if legacy.is_dir():
        group, limit = legacy / name, "memory.limit_in_bytes"
    else:
        (CGROUPS / "cgroup.subtree_control").write_text("+memory")
        group, limit = CGROUPS / name, "memory.max"
    group.mkdir()
    (group / limit).write_text(limit_bytes)
    (group / "cgroup.procs").write_text(str(os.getpid()))
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            remove(group)
        os._exit(0)
    os.waitpid(child, 0)
    os.execvp(command[0], command)


def remove(group: Path) -> None:
    """Tries until nobody is in it."""
    (group.parent / "cgroup.procs").write_text(str(os.getpid()))
    os.setsid()
    for descriptor in range(3):
        os.close(descriptor)
    while group.exists():
        time.sleep(0.5)
        try:
            group.rmdir()
        except OSError:
            continue


if __name__ == "__main__":
    main(*sys.argv[1:])
