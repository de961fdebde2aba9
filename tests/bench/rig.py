"""What is measured: a control plane of its own, the operator as a process, the played kubelet, and what they use."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.controlplane import ControlPlane
from local.daemons import DIES_WITH_US, spawn, wait_until
from local.kubectl import Kubectl
from tests.apiserver.operators import ROOT, SYSTEM_NAMESPACE, credentials

Object = dict[str, Any]
Calls = Counter[tuple[str, str]]

OPERATOR_USER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:berth"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 20.0
# The API server writes its audit log in batches.
AUDIT_SECONDS = 0.5


def cpu_seconds(pid: int) -> float:
    """CPU that a process has used, its threads included; resolution 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


class Process:
    """A Python process of the bench. It dies with this one."""

    def __init__(self, module: list[str], log: Path, **environ: str) -> None:
        variables = {"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}", **environ}
        self.log = log
        log.touch()
        self._log_from = log.stat().st_size
        wrapper = (*DIES_WITH_US, "env", *(f"{name}={value}" for name, value in variables.items()))
        self._popen = spawn([sys.executable, "-m", *module], log, wrapper)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def said(self, text: str) -> str | None:
        """The first line with `text` that it has written."""
        with self.log.open() as log:
            log.seek(self._log_from)
            return next((line for line in log if text in line and line.endswith("\n")), None)

    def wait_for(self, text: str, seconds: float = 60.0) -> str:
        """The same, awaited."""
        wait_until(lambda: bool(self.said(text)), f"{text} of {self.log.name}", seconds, self._runs, self.log)
        return self.said(text) or ""

    def _runs(self) -> bool:
        return self._popen.poll() is None

    def memory_bytes(self) -> tuple[int, int]:
        """Resident memory now and at most so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        now, peak = (re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE) for name in ("VmRSS", "VmHWM"))
        assert now and peak
        return int(now[1]) * 1024, int(peak[1]) * 1024

    def kill(self) -> None:
        """SIGKILL."""
        self._popen.kill()
        self._popen.wait()


class Operator(Process):
    """The operator, under the chart's own permissions."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        super().__init__(["berth"], log, KUBECONFIG=str(kubeconfig), BERTH_HTTP_PORT="0", BERTH_LOG_FORMAT="json")

    def passes(self) -> int:
        """Passes so far, from its metrics."""
        port = json.loads(self.wait_for('"listening"'))["port"]
        for host in ("127.0.0.1", "[::1]"):
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=30) as answer,
            ):
                found = re.findall(r"^berth_reconciles_total\{.*\} (.*)$", answer.read().decode(), re.MULTILINE)
                return sum(round(float(value)) for value in found)
        raise OSError(f"the operator's port {port} does not answer")

    def stop(self) -> None:
        """SIGTERM, so that the Lease is free for the next one."""
        self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_SECONDS)
        self.kill()


class Rig:
    """A running control plane with the CRD, the operator's service account, and a namespace for endpoints."""

    def __init__(self, control_plane: ControlPlane, namespace: str, logs: Path) -> None:
        self.control_plane = control_plane
        self.namespace = namespace
        self.kubeconfig = str(control_plane.kubeconfig)
        self._logs = logs
        self._kubectl = kubectl = Kubectl(control_plane.kubeconfig)
        kubectl.run("apply", "-f", str(ROOT / "crds"))
        kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}])
        # Established comes a moment before the API server has storage for the kind: until then it answers 429.
        served = ("get", "modelendpoints", "--namespace", namespace)
        wait_until(lambda: kubectl.try_run(*served).returncode == 0, "modelendpoints to be served", 60)
        self.operator_kubeconfig = credentials(control_plane)
        self._audit_at = 0
        self._calls: Calls = Counter()

    def kubernetes_version(self) -> str:
        """Of the API server."""
        return str(json.loads(self._kubectl.run("get", "--raw", "/version"))["gitVersion"])

    def operator(self) -> Operator:
        """The operator, started; it leads once it says `leading`."""
        return Operator(self.operator_kubeconfig, self._logs / "operator.log")

    @contextlib.contextmanager
    def player(self) -> Iterator[Process]:
        """The played kubelet."""
        found = Process(["tests.bench.player", self.kubeconfig, self.namespace], self._logs / "player.log")
        try:
            found.wait_for("playing")
            yield found
        finally:
            found.kill()

    def raw(self, count: int) -> dict[str, float]:
        """The writes of `count` endpoints without an operator; see tests.bench.raw."""
        arguments = [self.kubeconfig, str(self.operator_kubeconfig), self.namespace, str(count)]
        found = Process(["tests.bench.raw", *arguments], self._logs / "raw.log")
        told: dict[str, float] = json.loads(found.wait_for('"seconds"', 900))
        found.kill()
        return told

    def calls(self) -> Calls:
        """Finished requests of the operator so far by verb and resource: for our namespace, its own and the cluster."""
        time.sleep(AUDIT_SECONDS)
        with self.control_plane.audit_log.open() as log:
            log.seek(self._audit_at)
            while (line := log.readline()).endswith("\n"):
                self._audit_at = log.tell()
                if OPERATOR_USER not in line:
                    continue
                entry = json.loads(line)
                target = entry.get("objectRef") or {}
                if target.get("namespace", self.namespace) in (self.namespace, SYSTEM_NAMESPACE):
                    resource = "/".join(part for part in (target.get("resource"), target.get("subresource")) if part)
                    self._calls[entry["verb"], resource] += 1
        return self._calls.copy()
