"""The download as a process of its own, as the launcher starts it, or with a quicker lease."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from berth_server import hub_errors
from berth_server.protocol import Failure
from tests import payload

PAYLOAD = payload.assembled()
REPO = "harbour/tiny"

# A minute until a dead holder is taken for dead is right in a cluster and long for a test.
QUICK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from berth_server import hub, lease
lease.HEARTBEAT_SECONDS = 0.3
make = lease.Lease.__init__
make.__defaults__ = (0.3, 4.0)
sys.exit(hub.main(*sys.argv[2:]))
"""


class Fetching:
    """One `fetch` of REPO; a context manager that kills what still runs.

    holder: name of the pod it plays.  quick: a heartbeat every 0.3 s, dead after 4 s.  env: over a plain environment.
    """

    def __init__(
        self,
        model: Path,
        env: Mapping[str, str],
        holder: str = "pod-a",
        revision: str = "main",
        quick: bool = False,
    ) -> None:
        arguments: Sequence[str] = ["fetch", f"--repo={REPO}", f"--revision={revision}", f"--into={model}"]
        command = [sys.executable, str(PAYLOAD), *arguments]
        if quick:
            command = [sys.executable, "-c", QUICK, str(PAYLOAD), REPO, revision, str(model)]
        plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.process = subprocess.Popen(
            command,
            env={**plain, "HOSTNAME": holder, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **env},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def until_said(self, key: str) -> dict[str, Any]:
        """Reads its lines until one has this key."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))
            if key in self.said[-1]:
                return self.said[-1]
        raise AssertionError(f"it ended without saying {key}: {self.said}")

    def ended(self) -> int:
        """The exit code, with all its lines read."""
        output, _ = self.process.communicate(timeout=120)
        self.said += [json.loads(line) for line in output.splitlines()]
        return self.process.returncode

    def failure(self) -> Failure:
        """The reason that the launcher would give."""
        assert self.ended() == 1, self.said
        return hub_errors.failure(self.said[-1]["error"], f"hf://{REPO}", "main", "")
