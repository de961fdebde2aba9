"""The control group `berth-local`: every daemon of the node and every process of its pods, so that all can be found.

daemons/ holds what we start (and the containers' shims), pods/ what the kubelet makes. With cgroup v2 only leaves may
hold processes; with v1, or v1 and v2 side by side, the same folders exist in every hierarchy.
"""

import os
import signal
import time
from pathlib import Path

from local.errors import LocalError

_NAME = "berth-local"
PODS = f"/{_NAME}/pods"
_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")
_KILL_SECONDS = 20.0

# $0 is a list of cgroup.procs files, the rest the command.
_ENTER = 'for file in $0; do echo $$ >"$file" || exit 1; done; exec "$@"'


def create() -> None:
    """Makes the folders in each hierarchy; nothing changes when they are there."""
    for root in _hierarchies():
        for folder in (root / _NAME, root / _NAME / "daemons", root / _NAME / "pods"):
            if not folder.is_dir():
                folder.mkdir()
                _inherit_cpuset(folder)
        for folder in (root, root / _NAME):
            _delegate(folder)


def entering() -> list[str]:
    """The beginning of a command line that executes the rest of it inside daemons/."""
    files = " ".join(str(root / _NAME / "daemons" / "cgroup.procs") for root in _hierarchies())
    return ["sh", "-c", _ENTER, files]


def processes() -> list[int]:
    """Every process in the control group."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_member(entry)]


def kill() -> None:
    """Kills every process in the control group and waits until they are gone."""
    deadline = time.monotonic() + _KILL_SECONDS
    while members := processes():
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise LocalError(f"processes {members} of the local cluster do not end, even when killed: see `ps -p`")
        time.sleep(0.05)


def remove() -> None:
    """Removes the folders, those that the kubelet made included. No process may be left in them."""
    for root in _hierarchies():
        for folder, _, _ in os.walk(root / _NAME, topdown=False):
            Path(folder).rmdir()


def _is_member(process: Path) -> bool:
    """Whether /proc/<pid> belongs to the group. A zombie does, but has no command line and is left to its parent."""
    try:
        membership = (process / "cgroup").read_text()
        if not any(line.split(":", 2)[2].startswith(f"/{_NAME}/") for line in membership.splitlines()):
            return False
        return (process / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _hierarchies() -> list[Path]:
    """Mount points of cgroup v1 hierarchies and of cgroup v2."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def _inherit_cpuset(folder: Path) -> None:
    """A new cpuset folder of cgroup v1 takes no process before it names processors and memory nodes."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = folder / name
        if file.exists() and not (folder / "cgroup.controllers").exists() and not file.read_text().strip():
            file.write_text((folder.parent / name).read_text())


def _delegate(folder: Path) -> None:
    """Cgroup v2 only: lets the folders below use the controllers that this one has."""
    if not (folder / "cgroup.controllers").exists():
        return
    available = (folder / "cgroup.controllers").read_text().split()
    enabled = (folder / "cgroup.subtree_control").read_text().split()
    if wanted := [f"+{name}" for name in _CONTROLLERS if name in available and name not in enabled]:
        (folder / "cgroup.subtree_control").write_text(" ".join(wanted))
