"""Plays calls of the real client libraries against an address: what they returned, yielded or raised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from local import clients

_PLAY = Path(__file__).with_name("play.py")

# Where calls find their names, and the environment variables that the library itself reads: of the address and the key.
_LIBRARIES = {
    "openai": (["openai"], "OPENAI_BASE_URL", "OPENAI_API_KEY"),
    "scale-llm-engine": (["llmengine"], "LLM_ENGINE_BASE_PATH", "SCALE_API_KEY"),
    "scale-egp": (
        ["scale_egp.sdk.client", "scale_egp.sdk.types", "scale_egp.sdk.types.completions"],
        "EGP_ENDPOINT_URL",
        "EGP_API_KEY",
    ),
    "scale-gp": (["scale_gp"], "SGP_CLIENT_BASE_URL", "SGP_API_KEY"),
    "scale-gp-beta": (["scale_gp_beta"], "SGP_CLIENT_BASE_URL", "SGP_API_KEY"),
    # It reads none; calls name the variables.
    "aleph-alpha-client": (
        ["aleph_alpha_client.chat", "aleph_alpha_client.steering", "aleph_alpha_client.prompt", "aleph_alpha_client"],
        "ALEPH_ALPHA_HOST",
        "ALEPH_ALPHA_TOKEN",
    ),
}


def python_of(package: str, version: str) -> Path:
    """The Python that has this version of it."""
    if package == "openai":
        return Path(sys.executable)
    if package == "scale-llm-engine" and version in clients.OLDER:
        return clients.ensure_python(version)
    assert version == clients.NEWEST[package], f"no environment has {package} {version}"
    return clients.ensure_python()


def environment(package: str, url: str, key: str | None) -> dict[str, str]:
    """What a process needs to use the library: nothing but address and key."""
    _, url_variable, key_variable = _LIBRARIES[package]
    given = {url_variable: url, "LLM_ENGINE_DISABLE_VERSION_CHECK": "1"} | ({key_variable: key} if key else {})
    taken = {variable for _, *variables in _LIBRARIES.values() for variable in variables}
    return {name: value for name, value in os.environ.items() if name not in taken} | given


class Player:
    """A process with one client library; a context manager."""

    def __init__(self, package: str, version: str, url: str, key: str | None) -> None:
        modules = _LIBRARIES[package][0]
        self.process = subprocess.Popen(
            [python_of(package, version), "-P", _PLAY, *modules],
            env=environment(package, url, key),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate()

    def play(self, call: str) -> dict[str, Any]:
        """The outcome of one call, an expression: see play.py."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps(call) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, f"the process of the client ended with {self.process.wait()}"
        found: dict[str, Any] = json.loads(line)
        return found
