"""Apiserver tier: real etcd, kube-apiserver and controller-manager; the operator as its own process.

In: the programs that `local.tools` builds. `control_plane` is one per session, with the CRD of crds/ in it and no
scheduler: pods stay as the controllers make them, and tests play kubelet by patching their status. `operator` runs
`python -m berth` with a token of a service account that has the chart's own ClusterRole, nothing more.
Out: call counts from the API server's audit log (`calls`), the operator's log on failure. Not mocked: anything.
"""

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import tools
from local.controlplane import ControlPlane
from local.kubectl import Kubectl, condition
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
SYSTEM_NAMESPACE = "berth-system"
Object = dict[str, Any]
Call = tuple[str, str]


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with the CRD."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        kubectl = Kubectl(running.kubeconfig)
        kubectl.run("apply", "-f", str(ROOT / "crds"))
        served = "modelendpoints.berth.dev"
        eventually(lambda: condition(kubectl.get("crd", served), "Established").get("status") == "True", 30, "the CRD")
        yield running


@pytest.fixture(scope="session")
def kubectl(control_plane: ControlPlane) -> Kubectl:
    """The cluster's administrator."""
    return Kubectl(control_plane.kubeconfig)


@pytest.fixture
def namespace(kubectl: Kubectl) -> str:
    """A new namespace; it stays until the control plane ends."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    kubectl.run("create", "namespace", name)
    return name


@pytest.fixture(scope="session")
def operator_kubeconfig(control_plane: ControlPlane, kubectl: Kubectl) -> Path:
    """Credentials of a service account with the chart's ClusterRole."""
    helm = str(tools.ensure(["helm"])["helm"])
    chart = [helm, "template", "berth", str(ROOT / "charts" / "berth"), "--namespace", SYSTEM_NAMESPACE]
    rendered = subprocess.run(chart, capture_output=True, text=True, check=True).stdout
    kinds = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")
    found = [item for item in yaml.safe_load_all(rendered) if item and item["kind"] in kinds]
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

    def start(self, **settings: str) -> None:
        """Start it and wait until it reconciles. settings: BERTH_ variables without their prefix."""
        env = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), "KUBECONFIG": str(self.kubeconfig)}
        env |= {f"BERTH_{name}": value for name, value in {"HTTP_PORT": "0", "LOG_FORMAT": "json", **settings}.items()}
        with self.log.open("ab") as output:
            self._process = subprocess.Popen([sys.executable, "-m", "berth"], env=env, stderr=output, cwd="/")
        starts = self.events("started")
        eventually(lambda: len(self.events("started")) > len(starts) or self._gone(), 30, "the operator starts")
        assert not self._gone(), self.log.read_text()

    def _gone(self) -> bool:
        return self._process is not None and self._process.poll() is not None

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
def _process(kubeconfig: Path, log: Path) -> Iterator[Operator]:
    """An operator, not started yet. A traceback in its log fails the test that ends it."""
    found = Operator(kubeconfig, log)
    found.log.touch()
    yield found
    found.kill()
    text = found.log.read_text()
    print(text)
    assert "Traceback" not in text, text
    assert "reconcile_failed" not in text, text


@pytest.fixture
def operator_process(operator_kubeconfig: Path, tmp_path: Path) -> Iterator[Operator]:
    """The operator of one test, not started yet."""
    with _process(operator_kubeconfig, tmp_path / "operator.log") as found:
        yield found


@pytest.fixture
def operator(operator_process: Operator) -> Operator:
    """The operator, running."""
    operator_process.start()
    return operator_process


@pytest.fixture(scope="module")
def shared_operator(operator_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator, running: one for all tests of a module. A module has either this one or one per test."""
    with _process(operator_kubeconfig, tmp_path_factory.mktemp("operator") / "operator.log") as found:
        found.start()
        yield found


@pytest.fixture
def calls(control_plane: ControlPlane) -> Callable[[str], Counter[Call]]:
    """Finished requests of the operator since the fixture was made, by verb and resource, in one namespace."""
    offset = control_plane.audit_log.stat().st_size

    def count(namespace: str) -> Counter[Call]:
        found: Counter[Call] = Counter()
        with control_plane.audit_log.open() as log:
            log.seek(offset)
            for line in log:
                entry = json.loads(line)
                target = entry.get("objectRef") or {}
                if entry["user"]["username"] != f"system:serviceaccount:{SYSTEM_NAMESPACE}:berth":
                    continue
                if target.get("namespace") != namespace:
                    continue
                resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
                found[(entry["verb"], resource)] += 1
        return found

    return count
