"""Child processes of a PID 1: start, reap, watch, end. Whatever becomes an orphan in the container is reaped too."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
RING_LINES = 2000
LINE_CHARACTERS = 2000


class Reaper:
    """Collects every dead child. `asyncio`'s own child handling waits for single pids and would race with it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ends: dict[int, asyncio.Future[int]] = {}
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def expect(self, pid: int) -> asyncio.Future[int]:
        """The exit code of this child: 0 to 255, or minus the signal that ended it."""
        # No await between start and expect, so the child's end cannot have been handled in between.
        return self._ends.setdefault(pid, self._loop.create_future())

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            end = self._ends.pop(pid, None)
            if end is not None and not end.done():
                end.set_result(os.waitstatus_to_exitcode(status))


class Output:
    """A stream of a child: passed on byte for byte, and its last lines kept, in bounded memory."""

    def __init__(self, on_line: Callable[[str], object] | None = None) -> None:
        self.lines: deque[str] = deque(maxlen=RING_LINES)
        self.bytes_seen = 0
        self._on_line = on_line
        self._threads: list[threading.Thread] = []

    def pump(self, source: int, target: int | None) -> None:
        """Reads `source` to its end in a thread, copying to the descriptor `target`."""
        thread = threading.Thread(target=self._run, args=(source, target), daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self, seconds: float) -> None:
        """Waits until all that was written has been read. A process that outlives its group may hold a pipe open."""
        for thread in self._threads:
            thread.join(seconds)

    def _run(self, source: int, target: int | None) -> None:
        rest = ""
        with contextlib.suppress(OSError):
            while chunk := os.read(source, 65536):
                self.bytes_seen += len(chunk)
                view = memoryview(chunk)
                while target is not None and view:
                    view = view[os.write(target, view) :]
                # Progress bars end their lines with a carriage return.
                *lines, rest = (rest + chunk.decode(errors="replace")).replace("\r", "\n").split("\n")
                rest = rest[:LINE_CHARACTERS]
                for line in lines:
                    self._keep(line)
        if rest:
            self._keep(rest)
        os.close(source)

    def _keep(self, line: str) -> None:
        line = line[:LINE_CHARACTERS].rstrip()
        if line:
            self.lines.append(line)
            if self._on_line:
                self._on_line(line)


class Child:
    """The one child that runs at a time: first those that prepare, then vLLM. Each leads a session of its own."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._end: asyncio.Future[int] | None = None
        self._outputs: tuple[Output, ...] = ()
        self.pid: int | None = None

    def start(
        self, command: Sequence[str], env: Mapping[str, str], out: Output, err: Output, pass_on: bool = True
    ) -> asyncio.Future[int]:
        """Starts it; the future gets its exit code. pass_on: whether stdout too goes to the container's log.

        Raises OSError when the program cannot be run.
        """
        self.pid, out_pipe, err_pipe = spawn(command, env)
        self._end = self._reaper.expect(self.pid)
        self._outputs = (out, err)
        out.pump(out_pipe, 1 if pass_on else None)
        err.pump(err_pipe, 2)
        return self._end

    @property
    def running(self) -> bool:
        return self._end is not None and not self._end.done()

    def signal(self, number: int) -> None:
        """Signals the child itself, not its group: vLLM's children expect to hear from their parent."""
        if self.pid is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def end(self, repeat_seconds: float | None, kill_seconds: float) -> None:
        """SIGTERM, again every `repeat_seconds` if given, and SIGKILL to the whole group after `kill_seconds`."""
        if self.pid is None or self._end is None:
            return
        deadline = time.monotonic() + kill_seconds
        while self.running and (left := deadline - time.monotonic()) > 0:
            self.signal(signal.SIGTERM)
            await asyncio.wait({self._end}, timeout=min(left, repeat_seconds or left))
        # Also when the child itself is gone: its workers may hold the accelerator.
        kill_group(self.pid)
        await asyncio.wait({self._end}, timeout=5.0)
        for output in self._outputs:
            await asyncio.to_thread(output.wait, 1.0)


def spawn(command: Sequence[str], env: Mapping[str, str]) -> tuple[int, int, int]:
    """Starts a child in a session of its own; returns its pid and the read ends of its stdout and stderr.

    Raises OSError when the program cannot be run.
    """
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    try:
        # Not posix_spawn: a Python built for an old glibc, as uv's are, cannot have it start a session.
        child = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=out_write, stderr=err_write, start_new_session=True
        )
    except BaseException:
        os.close(out_read)
        os.close(err_read)
        raise
    finally:
        os.close(out_write)
        os.close(err_write)
    # The reaper collects it: a Popen that thinks it has not ended would wait for it too when it is dropped.
    child.returncode = 0
    return child.pid, out_read, err_read


def kill_group(leader: int) -> None:
    """SIGKILL to every process of the group; a group that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def group_cpu_seconds(leader: int) -> float:
    """CPU time, user and system, of all live processes of the session and of their reaped children."""
    ticks = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                # The command, field 2, is in parentheses and may hold anything; session is field 6, times 14 to 17.
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / _CLOCK_TICKS
