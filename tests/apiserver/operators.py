"""The operator as a process of its own, under the chart's own permissions."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from local import tools
from local.controlplane import ControlPlane
from local.kubectl import Kubectl
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
SYSTEM_NAMESPACE = "berth-system"
Object = dict[str, Any]


def credentials(control_plane: ControlPlane) -> Path:
    """A kubeconfig with a fresh token of a service account that has the chart's ClusterRole, nothing more."""
    kubectl = Kubectl(control_plane.kubeconfig)
    helm = str(tools.ensure(["helm"])["helm"])
    chart = [helm, "template", "berth", str(ROOT / "charts" / "berth"), "--namespace", SYSTEM_NAMESPACE]
    rendered = subprocess.run(chart, capture_output=True, text=True, check=True).stdout
    kinds = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    found = [item for item in yaml.safe_load_all(rendered) if item and item["kind"] in kinds]
    found = [item for item in found if item["metadata"]["name"] == "berth"]  # not the gateway's
    assert sorted(item["kind"] for item in found) == sorted(kinds)
    for item in found:
        if item["kind"] == "ServiceAccount":
            item["metadata"]["namespace"] = SYSTEM_NAMESPACE
    kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}}, *found])
    return control_plane.kubeconfig_for(SYSTEM_NAMESPACE, "berth")


class Operator:
    """The operator as a process that can be started and stopped."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self.kubeconfig = kubeconfig
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, awaited: str = "leading", **settings: str) -> None:
        """Start it and wait for a log event: that it leads. settings: BERTH_ variables without their prefix."""
        before = len(self.events(awaited))
        path = [str(ROOT / "operator"), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "KUBECONFIG": str(self.kubeconfig)}
        env |= {f"BERTH_{name}": value for name, value in {"HTTP_PORT": "0", "LOG_FORMAT": "json", **settings}.items()}
        with self.log.open("ab") as output:
            self._process = subprocess.Popen([sys.executable, "-m", "berth"], env=env, stderr=output, cwd="/")
        eventually(lambda: len(self.events(awaited)) > before or self._gone(), 30, f"the operator says: {awaited}")
        assert not self._gone(), self.log.read_text()

    def _gone(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(20)
        self._process = None
        return code

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def end(self) -> None:
        """SIGTERM if it runs, so that the next one need not wait for the Lease; SIGKILL if that does not end it."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
        self.kill()

    def events(self, name: str) -> list[Object]:
        """Log lines of one event."""
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == name:
                    found.append(entry)
        return found


@contextlib.contextmanager
def process(kubeconfig: Path, log: Path) -> Iterator[Operator]:
    """An operator, not started yet. A traceback in its log fails the test that ends it."""
    found = Operator(kubeconfig, log)
    found.log.touch()
    yield found
    found.end()
    text = found.log.read_text()
    print(text)
    assert "Traceback" not in text, text
    assert "reconcile_failed" not in text, text
