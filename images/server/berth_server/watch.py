"""What the launcher asks a vLLM that it has started: whether it answers, can complete, and still moves."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import time
from collections.abc import Callable
from typing import Any, TypeVar

from berth_server import drain, load, motion, protocol
from berth_server.client import Client
from berth_server.engine import Engine
from berth_server.protocol import Failure
from berth_server.status import Status

T = TypeVar("T")

WATCH_SECONDS = 1.0
MOTION_SECONDS = 10.0
PROOF_SECONDS = 600.0
LOAD_SECONDS = 1.0
# vLLM leaves by itself within a second of its engine's death, unless it was told to stay.
DEAD_ENGINE_SECONDS = 30.0


class Watch:
    """Watches one vLLM. with_cause: adds vLLM's last error to a message."""

    def __init__(self, planned: Engine, status: Status, with_cause: Callable[[str], str]) -> None:
        self._planned = planned
        self._status = status
        self._with_cause = with_cause
        self.client = Client(planned)
        self._lock = asyncio.Lock()
        self._limits: dict[str, Any] = {}
        self._load = load.load("", {})
        self._load_at = float("-inf")
        self._loading = asyncio.Lock()
        self._own_completions = 0

    async def ask(self, question: Callable[[], T]) -> T:
        """Asks through `client`: one connection, one question at a time."""
        async with self._lock:
            return await asyncio.to_thread(question)

    async def health(self) -> None:
        """Waits for vLLM to answer, proves it, then looks at its health every second. Raises Failure."""
        dead_since: float | None = None
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                code = await self.ask(self.client.health)
                self._status.answered(healthy=code == 200)
                if code == 200 and not self._status.snapshot.proven:
                    await self._prove()
                now = time.monotonic()
                dead_since = None if code == 200 else dead_since or now
                if dead_since is not None and now - dead_since > DEAD_ENGINE_SECONDS:
                    raise Failure("EngineDied", self._with_cause(f"The engine is dead: /health answers {code}."))
            await asyncio.sleep(WATCH_SECONDS)

    async def _prove(self) -> None:
        """One real token and the plugin's answer, or a Failure."""
        self._status.phase(protocol.PROVING)
        info = await self.ask(self.client.info)
        if info is None:
            message = "vLLM started without Berth's plugin: it does not know GET /berth/info."
            raise Failure("PluginFailed", self._with_cause(message))
        code, body = await self.ask(lambda: self.client.one_token(PROOF_SECONDS))
        if code != 200:
            refusal = " ".join(body.split())[:1000]
            message = f"vLLM started but answers a completion of one token with {code}: {refusal}"
            raise Failure("ProofFailed", self._with_cause(message))
        self._limits = info
        self._own_completions += 1
        self._status.answered(healthy=True)
        self._status.update(proven=True, engine_version=info["vllm"])
        self._status.phase(protocol.SERVING)

    async def load(self) -> dict[str, Any]:
        """The body of /load. However often and by how many it is asked for, vLLM is asked once in LOAD_SECONDS."""
        async with self._loading:
            if time.monotonic() - self._load_at > LOAD_SECONDS:
                metrics = ""
                with contextlib.suppress(OSError, http.client.HTTPException):
                    metrics = await self.ask(self.client.metrics)
                self._load, self._load_at = load.load(metrics, self._limits, self._own_completions), time.monotonic()
            return self._load

    async def motion(self) -> None:
        """Looks at the metrics of a proven vLLM, and asks it for a token when it has been still for long. Endless."""
        while True:
            await asyncio.sleep(MOTION_SECONDS)
            if not self._status.snapshot.proven:
                continue
            metrics = ""
            with contextlib.suppress(OSError, http.client.HTTPException):
                metrics = await self.ask(self.client.metrics)
            now = time.monotonic()
            self._status.update(motion=motion.after(self._status.snapshot.motion, metrics, now))
            _, still_open = drain.connections(drain.read_tables(), self._planned.port, self.client.local_ports)
            if motion.must_ask(self._status.snapshot.motion, still_open > 0, now):
                self._status.update(motion=motion.asked(self._status.snapshot.motion, now))
                # Beside this loop, which goes on looking; it ends with the process.
                self._asking = asyncio.create_task(self._ask_for_a_token())

    async def _ask_for_a_token(self) -> None:
        # On a connection of its own: the answer may never come.
        client = Client(self._planned, self.client.local_ports)
        with contextlib.suppress(TimeoutError):
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                code, _ = await asyncio.to_thread(client.one_token, PROOF_SECONDS)
                self._own_completions += code == 200
            self._status.update(motion=motion.answered(self._status.snapshot.motion, time.monotonic()))
