"""kubectl of the local cluster, for the demo and the tests: objects in, objects out."""

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from local import tools
from local.errors import LocalError

Object = dict[str, Any]


class Kubectl:
    """kubectl with one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._program = str(tools.ensure(["kubectl"])["kubectl"])
        self._env = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    def run(self, *args: str, stdin: str | None = None, timeout_seconds: float = 120.0) -> str:
        """Standard output of `kubectl args…`; raises LocalError with what it said when it fails."""
        done = self.try_run(*args, stdin=stdin, timeout_seconds=timeout_seconds)
        if done.returncode:
            raise LocalError(f"kubectl {' '.join(args)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def try_run(
        self, *args: str, stdin: str | None = None, timeout_seconds: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """`kubectl args…`, whatever comes of it."""
        return subprocess.run(
            [self._program, *args],
            input=stdin,
            capture_output=True,
            text=True,
            env=self._env,
            timeout=timeout_seconds,
            check=False,
        )

    def start(self, *args: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """`kubectl args…` that goes on until it is told to end, such as a watch."""
        return subprocess.Popen([self._program, *args], stdout=output, env=self._env)

    def get(self, *args: str) -> Object:
        """`kubectl get args… -o json`."""
        found: Object = json.loads(self.run("get", *args, "-o", "json"))
        return found

    def find(self, *args: str) -> Object | None:
        """Like `get`; None when there is no such object."""
        text = self.run("get", *args, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def apply(self, objects: Iterable[Object]) -> None:
        """Server-side apply of all objects."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(items))

    def claim(self, objects: list[Object]) -> None:
        """Apply a PersistentVolume and its claim (`local.volumes`); a volume released by a deleted claim is renewed."""
        for obj in objects:
            if obj["kind"] == "PersistentVolume":
                live = self.find("pv", obj["metadata"]["name"])
                if live and live.get("status", {}).get("phase") in ("Released", "Failed"):
                    self.run("delete", "pv", obj["metadata"]["name"])
        self.apply(objects)


def condition(obj: Object | None, kind: str) -> Object:
    """The condition of that type in `status.conditions`, or an empty one."""
    found = ((obj or {}).get("status") or {}).get("conditions") or []
    return next((item for item in found if item["type"] == kind), {})
