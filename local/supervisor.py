"""Daemons of the node: they outlive the command that started them; a mark in their environment finds them again."""

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from local import cgroup, progress
from local.daemons import spawn, wait_until
from local.errors import LocalError

_MARK = "BERTH_LOCAL_DAEMON"
_START_SECONDS = 90.0
# How long a daemon that was already running may take to serve again, say after the API server was restarted.
_RECOVER_SECONDS = 20.0
_STOP_SECONDS = 10.0
_STARTS = 4
_RESTART_SECONDS = 1.0


@dataclass(frozen=True)
class Daemon:
    """What runs under the name of its program.

    files: path → content, written before it starts; it is restarted when command or files change.
    ready: whether it serves, asked from outside.  prepare: done right before it starts.
    """

    command: list[str]
    ready: Callable[[], bool]
    files: Mapping[Path, str] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        return Path(self.command[0]).name

    @property
    def digest(self) -> str:
        """Changes with the configuration, and with the version of the program; not with the user's cache directory."""
        program = Path(*Path(self.command[0]).parts[-2:])
        files = {str(path): content for path, content in self.files.items()}
        return hashlib.sha256(repr((program, self.command[1:], files)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Running:
    """A daemon found alive."""

    pid: int
    digest: str


def survey() -> dict[str, Running]:
    """The daemons that run, by name."""
    found = {}
    for pid in cgroup.processes():
        process = Path(f"/proc/{pid}")
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            program = Path(os.fsdecode((process / "cmdline").read_bytes().split(b"\0")[0])).name
        except (FileNotFoundError, ProcessLookupError):
            continue
        marks = [os.fsdecode(entry).partition("=")[2] for entry in environment if entry.startswith(_MARK.encode())]
        # What a daemon starts, such as containerd's shims, inherits the mark and has another program.
        if marks and marks[0].split("/")[0] == program:
            found[program] = Running(pid, marks[0].split("/")[1])
    return found


def bring_up(daemons: Iterable[Daemon], logs: Path) -> set[str]:
    """Starts those that do not run, or run with another configuration, and waits until all are ready.

    Returns the names of those it started. Raises LocalError with the end of a log.
    """
    wanted = list(daemons)
    running = survey()
    current = {item.name for item in wanted if item.name in running and running[item.name].digest == item.digest}
    stuck = {item.name for item in wanted if item.name in current and not _recovers(item)}
    starting = [item for item in wanted if item.name not in current - stuck]
    if starting:
        with progress.step(f"starting {', '.join(item.name for item in starting)}"):
            for item in starting:
                if item.name in running:
                    stop(item.name, running[item.name])
            processes = {item.name: _start(item, logs) for item in starting}
            for item in starting:
                _await(item, processes[item.name], logs)
    return {item.name for item in starting}


def stop(name: str, running: Running) -> None:
    """Kills one daemon; its state is safe on disk or thrown away with the cluster."""
    os.kill(running.pid, signal.SIGKILL)
    wait_until(lambda: running not in survey().values(), f"{name} to end", _STOP_SECONDS)


def _recovers(item: Daemon) -> bool:
    if item.ready():
        return True
    try:
        wait_until(item.ready, item.name, _RECOVER_SECONDS, alive=lambda: item.name in survey())
    except LocalError:
        return False
    return True


def _start(item: Daemon, logs: Path) -> subprocess.Popen[bytes]:
    for path, content in item.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    item.prepare()
    mark = ["env", f"{_MARK}={item.name}/{item.digest}"]
    return spawn(item.command, _log(item.name, logs), wrapper=[*cgroup.entering(), *mark])


def _await(item: Daemon, process: subprocess.Popen[bytes], logs: Path) -> None:
    """Waits until it is ready. One that ends is started again a few times, as an init system would do.

    The kubelet counts on that: it ends when containerd, which already listens, is not initialized yet.
    """
    for start in range(_STARTS):
        try:
            wait_until(
                item.ready,
                f"{item.name} to be ready",
                _START_SECONDS,
                alive=partial(_lives, process),
                log=_log(item.name, logs),
            )
            return
        except LocalError:
            if _lives(process) or start == _STARTS - 1:
                raise
        time.sleep(_RESTART_SECONDS)
        process = _start(item, logs)


def _lives(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


def _log(name: str, logs: Path) -> Path:
    return logs / f"{name}.log"
