"""PID 1 of the server container: fetch, start, prove, watch, drain, and say why when it ends."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from berth_server import diagnose, drain, engine, keys, load, memory, motion, probes, progress, protocol, weights
from berth_server.download import download
from berth_server.processes import Child, Output, Reaper, group_cpu_seconds, kill_group
from berth_server.protocol import Failure
from berth_server.status import Status
from berth_server.watch import Watch

MEASURE_SECONDS = 2.0
# The pod has 30 s after the drain; vLLM is told to be done in 20 (--shutdown-timeout).
KILL_SECONDS = 27.0
# Nothing is lost by ending a load, and vLLM loses a SIGTERM that comes at the wrong moment of it: repeat, then kill.
KILL_LOADING_SECONDS = 5.0
REPEAT_SECONDS = 0.5

# Less than the operator waits: that vLLM does not answer is an answer as well.
LOAD_WITHIN_SECONDS = 1.5

_LOADING = (protocol.STARTING_ENGINE, protocol.LOADING_WEIGHTS, protocol.WARMING_UP)


@dataclass(frozen=True)
class Options:
    """The launcher's own arguments (see cli.py). payload: the payload's directory, for vLLM's PYTHONPATH."""

    source: str
    revision: str
    secret: str
    drain_seconds: float
    probes_port: int
    payload: str


def shutdown_plan(proven: bool, alive: bool) -> tuple[float | None, float]:
    """How to end vLLM: seconds between SIGTERMs (None: one is enough), seconds until SIGKILL."""
    if not alive:
        return None, 0.0
    return (None, KILL_SECONDS) if proven else (REPEAT_SECONDS, KILL_LOADING_SECONDS)


class Launcher:
    """One run of the server. Everything happens in the event loop's thread, but what blocks."""

    def __init__(self, options: Options, planned: engine.Engine, env: Mapping[str, str]) -> None:
        self._options = options
        self._planned = planned
        self._env = env
        self._status = Status()
        self._loop = asyncio.get_running_loop()
        self._child = Child(Reaper(self._loop))
        self._output = Output(lambda line: self._loop.call_soon_threadsafe(self._on_line, line))
        self._watch = Watch(planned, self._status, self._with_cause)
        self._drain: asyncio.Task[str] | None = None
        self._cgroups = memory.read_cgroups()
        self._oom_kills = memory.kills(self._cgroups)
        self._directory = protocol.runtime_directory()

    async def run(self) -> int:
        """The container's exit code: 0 when it was told to end, 1 after writing the reason otherwise."""
        self._clear_leftovers()
        server = probes.start(self._options.probes_port, lambda: self._status.snapshot, self._load_now, time.monotonic)
        told_to_end = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, told_to_end.set)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            self._loop.add_signal_handler(number, self._child.signal, number)
        drains = await self._listen()
        measuring = [asyncio.create_task(self._measure()), asyncio.create_task(self._watch.motion())]
        work = asyncio.create_task(self._work())
        end = asyncio.create_task(told_to_end.wait())
        await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
        failure = self._failure_of(work) if work.done() else self._hang()
        if failure:
            self._status.fail(failure, self._env)
        work.cancel()
        self._status.update(draining=True)
        snapshot = self._status.snapshot
        await self._child.end(*shutdown_plan(snapshot.proven, self._status.is_alive()))
        for task in measuring:
            task.cancel()
        drains.close()
        server.server_close()
        return 1 if failure else 0

    def refuse(self, error: OSError) -> None:
        """A port, a directory or a program that the launcher itself needs is not to be had."""
        if error.errno == errno.EADDRINUSE:
            failure = Failure("PortInUse", f"Port {self._options.probes_port} of Berth's launcher is taken: {error}.")
        else:
            failure = Failure("LauncherFailed", f"Berth's launcher cannot run here: {error}")
        self._status.fail(failure, self._env)

    async def _work(self) -> None:
        """Everything from the first moment to vLLM's end. Raises Failure; never returns."""
        options, path = self._options, self._planned.model_path
        keys.check(self._env)
        script, python = engine.resolve(self._env)
        found = engine.read_inspection(await self._inspect(python), python)
        self._status.update(engine_version=found["version"])
        self._status.say(f"vLLM {found['version']} of {python}")
        if options.source.startswith("hf://"):
            await download(
                options.source,
                options.revision,
                options.secret,
                path,
                [python, options.payload],
                self._env,
                self._child,
                self._status,
            )
        else:
            await asyncio.to_thread(weights.check_readable, path, options.source)
        engine.check_cache(self._env)
        self._status.phase(protocol.STARTING_ENGINE)
        env = engine.environment(self._env, options.payload, found["plugins"])
        ended = self._child.start(engine.argv(self._planned, script, python), env, self._output, self._output)
        watching = asyncio.create_task(self._watch.health())
        try:
            both: set[asyncio.Future[Any]] = {ended, watching}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                watching.result()
        finally:
            watching.cancel()
        raise await self._post_mortem(ended.result())

    async def _inspect(self, python: str) -> str:
        out = Output()
        env = engine.environment(self._env, self._options.payload, ())
        await self._child.start([python, self._options.payload, "inspect"], env, out, Output(), pass_on=False)
        await asyncio.to_thread(out.wait, 2.0)
        return "\n".join(out.lines)

    async def _post_mortem(self, code: int) -> Failure:
        """The reason for vLLM's own end, once all its output is read."""
        assert self._child.pid is not None
        kill_group(self._child.pid)
        await asyncio.to_thread(self._output.wait, 2.0)
        failure = diagnose.of_exit(code, list(self._output.lines), self._status.snapshot.proven)
        if failure.reason == "WeightsCorrupt" and self._options.source.startswith("hf://"):
            # The next start compares the files with the hub's checksums, and fetches what differs.
            weights.forget(self._planned.model_path)
        return failure

    def _killed_for_memory(self) -> Failure | None:
        kills = memory.kills(self._cgroups)
        if kills is None or self._oom_kills is None or kills <= self._oom_kills:
            return None
        return memory.failure(memory.limit_bytes(self._cgroups))

    def _failure_of(self, work: asyncio.Task[None]) -> Failure:
        error = work.exception()
        if isinstance(error, Failure):
            # Whoever was killed left no word of it, and the others only say that it is gone.
            return self._killed_for_memory() or error
        return Failure("LauncherFailed", f"Berth's launcher failed, which is a bug: {type(error).__name__}: {error}")

    def _hang(self) -> Failure | None:
        """Why the liveness probe had the container ended, if that is what happened."""
        alive, why = progress.alive(self._status.snapshot, time.monotonic())
        return None if alive else Failure("EngineHung", self._with_cause(f"The server was ended: {why}."))

    def _with_cause(self, message: str) -> str:
        cause = diagnose.root_cause([diagnose.bare(line) for line in self._output.lines])
        return f"{message} vLLM's last error: {cause}" if cause else message

    # Drain

    async def _listen(self) -> asyncio.AbstractServer:
        mask = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(self._answer, protocol.socket_path(self._directory))
        finally:
            os.umask(mask)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if await reader.readline() == b"drain\n":
                started = time.monotonic()
                # A second request waits for the same drain.
                self._drain = self._drain or asyncio.create_task(self._run_drain())
                why = await asyncio.shield(self._drain)
                seconds = round(time.monotonic() - started, 1)
                done = {"v": protocol.VERSION, "drained": True, "seconds": seconds, "why": why}
                writer.write(json.dumps(done).encode() + b"\n")
                await writer.drain()
            writer.close()

    async def _run_drain(self) -> str:
        self._status.update(draining=True, message="")
        if self._status.snapshot.proven:
            self._status.phase(protocol.DRAINING)
        self._raise_flag()
        state = drain.begin(time.monotonic(), self._options.drain_seconds)
        while True:
            state = drain.after(state, await self._sample())
            if state.ended is not None:
                self._status.say(f"drained: {state.ended}")
                return state.ended
            await asyncio.sleep(drain.SAMPLE_SECONDS)

    async def _sample(self) -> drain.Sample:
        state = drain.engine_state(self._status.snapshot, self._child.running, time.monotonic())
        if state != drain.SERVING:
            return drain.Sample(time.monotonic(), state)
        in_flight: float | None = None
        with contextlib.suppress(OSError, http.client.HTTPException):
            in_flight = motion.in_flight(await self._watch.ask(self._watch.client.metrics))
        peers, still_open = drain.connections(drain.read_tables(), self._planned.port, self._watch.client.local_ports)
        return drain.Sample(time.monotonic(), state, in_flight, peers, still_open)

    # Small things

    async def _measure(self) -> None:
        """Reads the counters of work, so that liveness can tell slow from stuck."""
        while True:
            cpu = group_cpu_seconds(self._child.pid) if self._child.pid is not None else 0.0
            snapshot = self._status.snapshot
            self._status.worked(progress.Effort(self._output.bytes_seen, snapshot.bytes_done or 0, cpu))
            await asyncio.sleep(MEASURE_SECONDS)

    def _load_now(self) -> dict[str, Any]:
        """For another thread."""
        asked = asyncio.run_coroutine_threadsafe(self._watch.load(), self._loop)
        try:
            return asked.result(LOAD_WITHIN_SECONDS)
        except concurrent.futures.TimeoutError:
            return load.load("", {})

    def _on_line(self, line: str) -> None:
        if self._status.snapshot.phase in _LOADING:
            self._status.phase(progress.phase_of_line(line, self._status.snapshot.phase))

    def _raise_flag(self) -> None:
        with open(protocol.draining_flag(self._directory), "w", encoding="ascii"):
            pass

    def _clear_leftovers(self) -> None:
        """The volume outlives the container's processes: a killed launcher leaves its socket and flag."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        for path in (protocol.socket_path(self._directory), protocol.draining_flag(self._directory)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def serve(options: Options, planned: engine.Engine, env: Mapping[str, str]) -> int:
    """Runs the server until it ends, and this process with it."""

    async def run() -> int:
        launcher = Launcher(options, planned, env)
        try:
            code = await launcher.run()
        except OSError as error:
            launcher.refuse(error)
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        # A thread may still wait for an answer of vLLM, and an orderly end of the interpreter would wait for it.
        os._exit(code)

    return asyncio.run(run())
