"""The processes of the bench: started on a core of their own, watched, ended; and what they use."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from local.daemons import DIES_WITH_US, spawn, wait_until
from local.errors import LocalError

ROOT = Path(__file__).parents[3]
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 5.0


class Cores(NamedTuple):
    """proxy: of what is measured.  rest: of everything else: stub, generator, API server, this process."""

    proxy: int
    rest: int


def cores() -> Cores:
    """The first two that this process may use. Raises LocalError."""
    found = sorted(os.sched_getaffinity(0))
    if len(found) < 2:
        raise LocalError("the bench needs two cores: one for the proxy, one for everything else")
    return Cores(found[0], found[1])


class Cpu(NamedTuple):
    """CPU-seconds."""

    user: float
    system: float

    @property
    def seconds(self) -> float:
        """All."""
        return self.user + self.system

    def since(self, before: "Cpu") -> "Cpu":
        """What was used between two looks."""
        return Cpu(self.user - before.user, self.system - before.system)


class Process:
    """A program on one core. It dies with this process.  log: what it writes, standard output and error."""

    def __init__(self, command: Sequence[str], core: int, log: Path, **environ: str) -> None:
        log.touch()
        self.log = log
        self._log_from = log.stat().st_size
        variables = [f"{name}={value}" for name, value in environ.items()]
        self._popen = spawn(command, log, (*DIES_WITH_US, *on(core), "env", *variables))

    @property
    def pid(self) -> int:
        """Its process id: what starts it replaces itself."""
        return self._popen.pid

    def said(self, text: str) -> str:
        """The first whole line with `text` that it has written, "" without one."""
        with self.log.open(errors="replace") as log:
            log.seek(self._log_from)
            return next((line for line in log if text in line and line.endswith("\n")), "")

    def wait_for(self, text: str, seconds: float = 60.0) -> str:
        """The same, awaited. Raises LocalError with the end of the log."""
        wait_until(lambda: bool(self.said(text)), f"{text} of {self.log.name}", seconds, self.runs, self.log)
        return self.said(text)

    def runs(self) -> bool:
        """Whether it still does."""
        return self._popen.poll() is None

    def cpu(self) -> Cpu:
        """CPU that it and its children have used so far; resolution 10 ms."""
        user = system = 0
        for pid in _tree(self.pid):
            fields = _stat(pid)
            user, system = user + int(fields[11]), system + int(fields[12])
        return Cpu(user / TICKS_PER_SECOND, system / TICKS_PER_SECOND)

    def pss_bytes(self) -> int:
        """Memory of it and its children, what is shared divided among those who share it."""
        found = 0
        for pid in _tree(self.pid):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            found += sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))
        return found

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not end it soon."""
        self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_SECONDS)
        self._popen.kill()
        self._popen.wait()


@contextlib.contextmanager
def running(command: Sequence[str], core: int, log: Path, **environ: str) -> Iterator[Process]:
    """A process, ended at the end."""
    process = Process(command, core, log, **environ)
    try:
        yield process
    finally:
        process.stop()


def on(core: int) -> tuple[str, ...]:
    """A command in front of another one that keeps it to one core."""
    return ("taskset", "-c", str(core))


def busy_seconds(core: int) -> float:
    """What a core has worked so far, by programs; interrupts apart."""
    lines = Path("/proc/stat").read_text().splitlines()
    user, nice, system = next(line for line in lines if line.startswith(f"cpu{core} ")).split()[1:4]
    return (int(user) + int(nice) + int(system)) / TICKS_PER_SECOND


def _tree(pid: int) -> list[int]:
    """The process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat behind the name, the state first."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
