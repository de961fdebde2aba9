"""Why real vLLM does not start, or ends: one start for each reason, on the CPU.

Inputs: a damaged model, a wrong argument, too little of something, a kill. Outputs: exit code, termination message,
what is left running. Not here: what ends before vLLM starts (test_before_vllm.py), what needs an accelerator
(recorded/), what vLLM does once it serves (test_vllm.py, test_hang.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.contracts.launcher.launched import CPU, EAGER, PAYLOAD, START_SECONDS, Launched, until
from tests.contracts.launcher.memory_limit import memory_limit


@dataclass(frozen=True)
class Plan:
    """One start: what is changed of a plain one."""

    directory: Path
    model: Path
    python: Path
    flags: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()
    payload: Path = PAYLOAD
    during: Callable[[Launched], AbstractContextManager[object]] = contextlib.nullcontext


class Case(NamedTuple):
    """name: what is wrong. says: what the message must hold."""

    name: str
    reason: str
    says: str
    change: Callable[[Plan], Plan]


class Outcome(NamedTuple):
    code: int
    message: dict[str, str]
    log: str


def flags(*words: str) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, flags=words)


def config(**values: object) -> Callable[[Plan], Plan]:
    def change(plan: Plan) -> Plan:
        path = plan.model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
        return plan

    return change


def without(pattern: str) -> Callable[[Plan], Plan]:
    def change(plan: Plan) -> Plan:
        for path in plan.model.glob(pattern):
            path.unlink()
        return plan

    return change


def cut_weights(plan: Plan) -> Plan:
    os.truncate(plan.model / "model.safetensors", 100_000)
    return plan


def small_shared_memory(plan: Plan) -> Plan:
    mount = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    return replace(plan, wrapper=("unshare", "--mount", "sh", "-c", mount, "sh"))


def no_device(plan: Plan) -> Plan:
    """The version number alone makes vLLM a build for the CPU: without its suffix it looks for an accelerator."""
    info = plan.directory / "site" / "vllm-0.32.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n")
    return replace(plan, env={"PYTHONPATH": str(info.parent)})


def broken_plugin(plan: Plan) -> Plan:
    payload = plan.directory / "payload"
    shutil.copytree(PAYLOAD, payload)
    (payload / "berth_server" / "plugin.py").write_text("raise ImportError('a broken payload')\n")
    return replace(plan, payload=payload)


def refusing(plan: Plan) -> Plan:
    """A user's middleware that lets nobody complete."""
    site = plan.directory / "site"
    site.mkdir()
    (site / "guard.py").write_text(
        "from starlette.responses import PlainTextResponse\n"
        "async def guard(request, call_next):\n"
        "    if request.url.path == '/v1/completions':\n"
        "        return PlainTextResponse('only with a badge', status_code=403)\n"
        "    return await call_next(request)\n"
    )
    return replace(plan, env={"PYTHONPATH": str(site)}, flags=("--middleware", "guard.guard"))


def port_taken(plan: Plan) -> Plan:
    return replace(plan, during=lambda launched: socket.create_server(("", launched.port)))


def killed(plan: Plan) -> Plan:
    @contextlib.contextmanager
    def kill(launched: Launched) -> Iterator[None]:
        until(lambda: "non-default args" in launched.text(), START_SECONDS, "vLLM running")
        (child,) = launched.children()
        os.kill(child, signal.SIGKILL)
        yield

    return replace(plan, during=kill)


def little_memory(plan: Plan) -> Plan:
    """Enough for the launcher and one import of vLLM, and not for its three processes."""
    return replace(plan, wrapper=(*memory_limit(plan.directory.name, 1200 * 2**20),))


CASES = (
    Case("server killed", "EngineKilled", "SIGKILL", killed),
    Case("unknown flag", "UnknownEngineArgument", "--nope 1", flags("--nope", "1")),
    Case("wrong value", "InvalidEngineArgument", "argument --dtype: invalid choice", flags("--dtype", "float3")),
    Case("architecture", "UnsupportedArchitecture", "HarbourLM", config(architectures=["HarbourLM"])),
    Case("no tokenizer", "TokenizerMissing", "backend tokenizer", without("tokenizer*")),
    Case("port taken", "PortInUse", "Address already in use", port_taken),
    Case("no device", "DeviceMissing", "Failed to infer device type", no_device),
    Case("no weights", "WeightsMissing", "no weights that vLLM can load", without("*.safetensors")),
    Case("weights cut", "WeightsCorrupt", "file not fully covered", cut_weights),
    Case(
        "KV cache too small",
        "KVCacheTooSmall",
        "the largest max-model-len that fits is ",  # 896 in 0.32, 1024 in 0.26
        lambda plan: replace(plan, flags=("--kv-cache-memory-bytes", "1M"), env={"VLLM_CPU_KVCACHE_SPACE": ""}),
    ),
    # More than a process can address, so that no machine tries.
    Case("allocation refused", "OutOfMemory", "tried to allocate 256000000000000 bytes", config(vocab_size=10**12)),
    Case("killed for memory", "OutOfMemory", "at the container's memory limit of 1.2 GiB", little_memory),
    Case("shared memory", "SharedMemoryTooSmall", "MiB required", small_shared_memory),
    Case("plugin broken", "PluginFailed", "does not know GET /berth/info", broken_plugin),
    # vLLM imports it last, with the weights loaded.
    Case(
        "middleware missing",
        "EngineExited",
        "No module named 'nowhere'",
        lambda plan: replace(plan, flags=("--middleware", "nowhere.guard")),
    ),
    Case("completion refused", "ProofFailed", "with 403: only with a badge", refusing),
)


def run(case: Case, python: Path, model: Path, directory: Path) -> Outcome:
    copy = directory / "model"
    shutil.copytree(model, copy)
    plan = case.change(Plan(directory, copy, python))
    environment = {**CPU, **plan.env}
    launched = Launched(
        directory,
        python.parent,
        f"file://{copy}",
        copy,
        flags=[*EAGER, *plan.flags],
        env={name: value for name, value in environment.items() if value},
        wrapper=plan.wrapper,
        payload=plan.payload,
    )
    with launched, plan.during(launched):
        code, message = launched.ended(START_SECONDS)
        launched.until_gone()
    return Outcome(code, message, launched.text())


@pytest.mark.timeout(2 * START_SECONDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_failed_start_has_its_reason(case: Case, ahead: Callable[[Case], Outcome]) -> None:
    outcome = ahead(case)
    assert (outcome.code, outcome.message["reason"]) == (1, case.reason), outcome.message
    assert case.says in outcome.message["message"]
