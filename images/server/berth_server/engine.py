"""How vLLM is started: its command line read, its interpreter found, its environment made."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from berth_server import keys
from berth_server.protocol import Failure

OLDEST_VLLM = (0, 26)
"""The first release with endpoint plugins."""

# What vLLM loads without being told. It loads endpoint plugins only by name, and the hub resolver takes being
# named as the permission to download adapters: neither may be switched on by our naming it.
_DEFAULT_PLUGIN_GROUPS = (
    "vllm.general_plugins",
    "vllm.io_processor_plugins",
    "vllm.platform_plugins",
    "vllm.stat_logger_plugins",
)
_ONLY_WHEN_ASKED = ("lora_hf_hub_resolver",)

# The last one is how the operator passes a Secret's key `token`, the second choice after its key `HF_TOKEN`.
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "BERTH_HF_TOKEN")


@dataclass(frozen=True)
class Engine:
    """What the launcher needs to know of the planned `vllm serve` command."""

    command: tuple[str, ...]
    model_path: str
    served_name: str
    host: str
    port: int
    api_key: str | None
    launcher_key: str | None


def option(command: Sequence[str], flag: str) -> str | None:
    """The last value given for `flag`, as `--flag value` or `--flag=value`."""
    value = None
    for index, word in enumerate(command):
        if word == flag and index + 1 < len(command):
            value = command[index + 1]
        elif word.startswith(flag + "="):
            value = word.partition("=")[2]
    return value


def read_command(command: Sequence[str], env: Mapping[str, str]) -> Engine:
    """Reads `vllm serve <model> …`. Raises ValueError when it is something else."""
    if len(command) < 3 or list(command[:2]) != ["vllm", "serve"] or command[2].startswith("-"):
        raise ValueError("after -- comes: vllm serve <model path> [flags]")
    return Engine(
        command=tuple(command),
        model_path=command[2],
        served_name=option(command, "--served-model-name") or command[2],
        host=_reachable(option(command, "--host")),
        port=int(option(command, "--port") or 8000),
        api_key=option(command, "--api-key") or env.get("VLLM_API_KEY"),
        launcher_key=env.get(keys.LAUNCHER_VARIABLE),
    )


def _reachable(host: str | None) -> str:
    """Where to ask a server that listens on `host`; no host, 0.0.0.0 and :: mean every address."""
    return "127.0.0.1" if not host or set(host) <= set("0.:") else host


def resolve(env: Mapping[str, str]) -> tuple[str | None, str]:
    """The `vllm` script, None when there is none, and the Python that runs it."""
    script = shutil.which("vllm", path=env.get("PATH"))
    if script:
        with open(script, "rb") as file:
            # `#!/path/python`, or for long paths `#!/bin/sh` and then `exec '/path/python'`.
            found = re.search(rb"(/[^\s'\"]*/python[\d.]*)", file.read(512))
        if found and os.access(found[1], os.X_OK):
            return script, os.fsdecode(found[1])
    return script, sys.executable


def inspect() -> dict[str, Any]:
    """Run by vLLM's own Python: which vLLM it has, and which plugins vLLM would load by default."""
    from importlib.metadata import PackageNotFoundError, entry_points, version

    try:
        found: str | None = version("vllm")
    except PackageNotFoundError:
        found = None
    names = {entry.name for group in _DEFAULT_PLUGIN_GROUPS for entry in entry_points(group=group)}
    return {"version": found, "plugins": sorted(names.difference(_ONLY_WHEN_ASKED))}


def read_inspection(output: str, python: str) -> dict[str, Any]:
    """What `inspect` printed. Raises Failure when the vLLM found is none that Berth can serve with."""
    try:
        found: dict[str, Any] = json.loads(output)
        version: str | None = found["version"]
    except (ValueError, KeyError, TypeError):
        version = None
    if version is None:
        raise Failure(
            "VllmMissing",
            f"The image has no vLLM: {python} finds no installed distribution called vllm.",
            "Set spec.server.image to an image that has vLLM 0.26 or newer, such as vllm/vllm-openai.",
        )
    numbers = re.match(r"(\d+)\.(\d+)", version)
    # A build from a source checkout may carry any number; whether it loads plugins shows later.
    if numbers and ".dev" not in version and (int(numbers[1]), int(numbers[2])) < OLDEST_VLLM:
        raise Failure(
            "VllmTooOld",
            f"The image has vLLM {version}; Berth needs 0.26 or newer, the first with endpoint plugins.",
            "Set spec.server.image to an image with vLLM 0.26 or newer.",
        )
    return found


def with_plugin(named: str | None, defaults: Sequence[str]) -> str:
    """VLLM_PLUGINS with `berth` in it: one allow-list for all groups, so what users set, or the default, stays."""
    names = [name for name in named.split(",") if name] if named is not None else list(defaults)
    return ",".join([*names, "berth"] if "berth" not in names else names)


def with_token(env: Mapping[str, str]) -> dict[str, str]:
    """`env` with the token of the Secret's key `token` as HF_TOKEN, unless there is one of the key HF_TOKEN."""
    second = {"HF_TOKEN": env["BERTH_HF_TOKEN"]} if env.get("BERTH_HF_TOKEN") and not env.get("HF_TOKEN") else {}
    return {**env, **second}


def with_launcher_key(env: Mapping[str, str]) -> dict[str, str]:
    """`env` with a key of our own, new at each start, for what not everybody may ask."""
    return {**env, keys.LAUNCHER_VARIABLE: secrets.token_urlsafe(32)}


MAX_STOP_STRINGS = "64"
"""vLLM's own limit is OpenAI's four. LLM Engine's and Aleph Alpha's users know none."""


def environment(env: Mapping[str, str], payload: str, plugins: Sequence[str]) -> dict[str, str]:
    """The environment of vLLM: ours without the token, offline, with the plugin on its path."""
    made = {name: value for name, value in env.items() if name not in TOKEN_VARIABLES}
    made["PYTHONPATH"] = os.pathsep.join(filter(None, [payload, env.get("PYTHONPATH")]))
    made["VLLM_PLUGINS"] = with_plugin(env.get("VLLM_PLUGINS"), plugins)
    # The weights are here. Users who want a second download (a draft model) say 0 in spec.server.env.
    made.setdefault("HF_HUB_OFFLINE", "1")
    made.setdefault("TRANSFORMERS_OFFLINE", "1")
    made.setdefault("VLLM_MAX_STOP_STRINGS", MAX_STOP_STRINGS)
    return made


def check_cache(env: Mapping[str, str]) -> None:
    """Raises Failure when torch's cache cannot be written: torch makes the directory whenever it is imported."""
    directory = env.get("TORCHINDUCTOR_CACHE_DIR")
    if not directory:
        return
    try:
        os.makedirs(directory, exist_ok=True)
        why = "" if os.access(directory, os.W_OK) else "not writable"
    except OSError as error:
        why = str(error.strerror)
    if why:
        message = f"The engine cache, {directory}, cannot be written by uid {os.getuid()}: {why}."
        raise Failure("VolumeNotWritable", message)


def argv(engine: Engine, script: str | None, python: str) -> list[str]:
    """The command as planned, with the program found."""
    program = [script] if script else [python, "-m", "vllm.entrypoints.cli.main"]
    return [*program, *engine.command[1:]]
