"""Apiserver tier: real etcd, kube-apiserver and controller-manager; the operator as its own process.

In: the programs that `local.tools` builds. `control_plane` is one per session, with the CRD of crds/ in it and no
scheduler: pods stay as the controllers make them, and tests play kubelet by patching their status. `operator` runs
`python -m berth` with a token of a service account that has the chart's own roles, nothing more.
Out: call counts from the API server's audit log (`calls`), the operator's log on failure. Not mocked: anything.
"""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.controlplane import ControlPlane
from local.kubectl import Kubectl, condition
from tests.apiserver.operators import ROOT, SYSTEM_NAMESPACE, Operator, credentials, process
from tests.waiting import eventually

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
def operator_kubeconfig(control_plane: ControlPlane) -> Path:
    """Credentials of a service account with the chart's roles."""
    return credentials(control_plane)


@pytest.fixture
def operator_process(operator_kubeconfig: Path, tmp_path: Path) -> Iterator[Operator]:
    """The operator of one test, not started yet."""
    with process(operator_kubeconfig, tmp_path / "operator.log") as found:
        yield found


@pytest.fixture
def operator(operator_process: Operator) -> Operator:
    """The operator, running."""
    operator_process.start()
    return operator_process


@pytest.fixture(scope="module")
def shared_operator(operator_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator, running: one for all tests of a module. A module has either this one or one per test."""
    with process(operator_kubeconfig, tmp_path_factory.mktemp("operator") / "operator.log") as found:
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
