"""Starts the real launcher as a process and asks it what the kubelet would ask."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from tests import payload

PAYLOAD = payload.assembled()
# What a real vLLM is started with here: quickly, on the CPU.
EAGER = ("--max-model-len", "2048", "--enforce-eager")
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
# For a whole start, which takes half a minute alone and many when others want the machine too.
START_SECONDS = 900
T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], T], seconds: float, what: str) -> T:
    """Asks again and again until the answer is true; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)
    return value


class Launched:
    """A launcher with a temporary directory, ports and a termination log of its own; a context manager.

    bin_directory: where the `vllm` script lies, put first on PATH.  wrapper: a command to run it under.
    payload: the directory that the payload image holds.  python: what runs it.
    """

    def __init__(
        self,
        directory: Path,
        bin_directory: Path,
        source: str,
        model: Path | str,
        options: Sequence[str] = (),
        flags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        payload: Path = PAYLOAD,
        python: Path | str = sys.executable,
    ) -> None:
        self.directory = directory
        self.port, self.probes_port = free_port(), free_port()
        self.termination_log = directory / "termination-log"
        self.termination_log.touch()
        (directory / "tmp").mkdir(exist_ok=True)
        self.env = {
            **os.environ,
            "PATH": f"{bin_directory}:{os.environ['PATH']}",
            "TMPDIR": str(directory / "tmp"),
            "BERTH_TERMINATION_LOG": str(self.termination_log),
            **(env or {}),
        }
        self.python = python
        self.command = [
            *wrapper,
            str(python),
            str(payload),
            "serve",
            f"--source={source}",
            f"--probes-port={self.probes_port}",
            *options,
            "--",
            *("vllm", "serve", str(model), "--served-model-name", "tiny", "second", "--port", str(self.port)),
            *("--shutdown-timeout", "20", *flags),
        ]
        self.log = directory / "log"
        self._sessions: set[int] = set()

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=self.env, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @contextlib.contextmanager
    def blocked_probes(self) -> Iterator[None]:
        """Somebody else listens on the probes' port."""
        with socket.create_server(("", self.probes_port), family=socket.AF_INET6, dualstack_ipv6=True):
            yield

    def get(self, path: str, port: int | None = None) -> tuple[int, str] | None:
        """Status and body; None when nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.probes_port, timeout=10)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        return None

    def status(self, path: str) -> int | None:
        answer = self.get(path)
        return answer[0] if answer else None

    def progress(self) -> dict[str, Any]:
        until(lambda: self.get("/progress"), 120, "progress")
        answer = self.get("/progress")
        assert answer is not None
        found: dict[str, Any] = json.loads(answer[1])
        return found

    def until_ready(self, seconds: float = 20) -> Self:
        def ready() -> bool:
            assert self.process.poll() is None, self.text()
            return self.status("/readyz") == 200

        until(ready, seconds, "ready")
        return self

    def tell_stub(self, **changes: Any) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection), contextlib.suppress(http.client.RemoteDisconnected):
            connection.request("POST", "/stub", json.dumps(changes))
            connection.getresponse().read()

    def drain(self) -> subprocess.Popen[str]:
        return subprocess.Popen([self.python, str(PAYLOAD), "drain"], env=self.env, stdout=subprocess.PIPE, text=True)

    def terminate(self) -> int:
        """Sends SIGTERM, as the kubelet does; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def exit_code(self, seconds: float) -> int:
        """Waits for the launcher's end."""

        def over() -> bool:
            self.members()
            return self.process.poll() is not None

        until(over, seconds, "the end")
        return self.process.wait()

    def ended(self, seconds: float = 20) -> tuple[int, dict[str, str]]:
        """Exit code and termination message of a launcher that ends by itself."""
        code = self.exit_code(seconds)
        text = self.termination_log.read_text()
        assert text.count("\n") == 1, text
        message: dict[str, str] = json.loads(text)
        return code, message

    def children(self) -> list[int]:
        """Pids of the launcher's direct children."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def members(self) -> list[int]:
        """Pids of the living processes that the launcher's children, leaders of sessions, have started."""
        with contextlib.suppress(OSError):
            self._sessions.update(self.children())
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, session, *_ = stat.read_text().rpartition(")")[2].split()
                # Outside of a container nobody may reap what a killed process leaves.
                if int(session) in self._sessions and state != "Z":
                    found.append(int(stat.parent.name))
        return found

    def until_gone(self) -> None:
        """Fails when a process is left; what the launcher has killed may take a moment to be gone."""
        until(lambda: not self.members(), 10, "none of its processes is left")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """vLLM's engine stands still; its server goes on taking requests. The engine may be ended meanwhile."""
        engine = self.engine()
        os.kill(engine, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(engine, signal.SIGCONT)

    @contextlib.contextmanager
    def slowed(self) -> Iterator[None]:
        """vLLM's engine gets a little of the time, so that what takes it seconds takes longer than anything here.

        It is not stopped for as long as a second: its processes wake each other, and that may be lost when one of
        them is stopped while it turns from spinning to sleeping, which it does after one (vLLM 0.26).
        """
        engine, over = self.engine(), threading.Event()

        def slow() -> None:
            while not over.is_set():
                os.kill(engine, signal.SIGSTOP)
                over.wait(0.1)
                os.kill(engine, signal.SIGCONT)
                over.wait(0.005)

        slowing = threading.Thread(target=slow)
        slowing.start()
        try:
            yield
        finally:
            over.set()
            slowing.join()

    @contextlib.contextmanager
    def engine_comes_last(self) -> Iterator[None]:
        """vLLM's engine gets what nobody else wants of the CPUs; else its threads keep others waiting for seconds."""
        self._schedule_engine(os.SCHED_IDLE)
        try:
            yield
        finally:
            self._schedule_engine(os.SCHED_OTHER)

    def _schedule_engine(self, policy: int) -> None:
        for pid in self.members():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it, or a thread of it, has ended since
                if b"VLLM::" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    for thread in Path(f"/proc/{pid}/task").iterdir():
                        os.sched_setscheduler(int(thread.name), policy, os.sched_param(0))

    def engine(self) -> int:
        """The pid of vLLM's EngineCore, which may be frozen or killed while its server goes on."""
        (found,) = (pid for pid in self.members() if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes())
        return found

    def kill(self) -> None:
        """SIGKILL to the launcher and everything below it, as when a container is killed."""
        children = self.children()
        self.process.kill()
        self.process.wait()
        for child in children:
            os.killpg(child, signal.SIGKILL)

    def phases(self) -> list[str]:
        """The phases that the log names."""
        return re.findall(r"^\(berth\) [\d.]+ s: (\w+)$", self.text(), re.MULTILINE)

    def text(self) -> str:
        return self.log.read_text(errors="replace")
