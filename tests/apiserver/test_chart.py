"""The chart on a real API server, with the real helm: what it renders, installs, upgrades and leaves behind.

Input: charts/berth.  Output: what the API server holds, and what the operator may do there.  Not mocked: anything.
There is no kubelet: a test that needs a node creates a Node object that no kubelet serves.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from berth.kube.permissions import NEEDED
from berth.kube.resources import ACCESS_REVIEWS
from berth.settings import Settings
from local import manifests, tools
from local.controlplane import ControlPlane
from local.daemons import wait_until
from local.kubectl import Kubectl

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "berth"
CRD_FILE = "files/berth.dev_modelendpoints.yaml"
CRD = "modelendpoints.berth.dev"
ENDPOINT = {
    "apiVersion": "berth.dev/v1alpha1",
    "kind": "ModelEndpoint",
    "metadata": {"name": "demo", "namespace": "default"},
    "spec": {"model": {"source": "hf://org/model"}},
}


def helm(*args: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What helm did. Without a kubeconfig it reaches no cluster."""
    program = tools.ensure(["helm"])["helm"]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig or "/nonexistent")}
    return subprocess.run([str(program), *args], env=environment, capture_output=True, text=True, check=False)


class Cluster(Kubectl):
    """kubectl and helm on one API server."""

    def __init__(self, plane: ControlPlane) -> None:
        super().__init__(plane.kubeconfig)
        self.plane = plane

    def helm(self, *args: str) -> str:
        done = helm(*args, kubeconfig=self.kubeconfig)
        assert done.returncode == 0, f"helm {' '.join(args)}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ControlPlane(tmp_path_factory.mktemp("cluster"), scheduler=True) as running:
        yield Cluster(running)


def rendered(*args: str) -> list[dict[str, Any]]:
    done = helm("template", "berth", str(CHART), "--namespace=berth-system", *args)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def of_kind(kind: str, objects: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = (item for item in objects if item["kind"] == kind)
    return found


def settings(monkeypatch: pytest.MonkeyPatch, *args: str) -> Settings:
    """The settings that the operator has in its pod."""
    (container,) = of_kind("Deployment", rendered(*args))["spec"]["template"]["spec"]["containers"]
    for name in [name for name in os.environ if name.startswith("BERTH_")]:
        monkeypatch.delenv(name)
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    return Settings()


def test_default_values_are_the_default_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch) == Settings()
    assert {name for name in os.environ if name.startswith("BERTH_")} == {
        f"BERTH_{name.upper()}" for name in Settings.model_fields
    }


def test_every_setting_arrives_at_the_operator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("""
image: {payload: "registry.test/payload:2", server: "registry.test/vllm:3"}
settings:
  clusterDomain: example.test
  accelerators: [example.test/gpu]
  runAsUser: 1000660000
  imagePullSecrets: [first, second]
  podEnv: {HTTPS_PROXY: "http://proxy.test:3128", QUOTED: 'a "word", and a comma'}
  workers: 4
  resyncSeconds: 60.5
  leaseSeconds: 15
  httpPort: 9090
  logLevel: DEBUG
  logFormat: console
""")
    assert settings(monkeypatch, f"--values={values}").model_dump() == {
        "payload_image": "registry.test/payload:2",
        "server_image": "registry.test/vllm:3",
        "cluster_domain": "example.test",
        "accelerators": ("example.test/gpu",),
        "run_as_user": 1000660000,
        "image_pull_secrets": ("first", "second"),
        "pod_env": {"HTTPS_PROXY": "http://proxy.test:3128", "QUOTED": 'a "word", and a comma'},
        "workers": 4,
        "resync_seconds": 60.5,
        "lease_seconds": 15,
        "http_port": 9090,
        "url": "http://berth.berth-system.svc:9090",
        "log_level": "DEBUG",
        "log_format": "console",
    }


@pytest.mark.parametrize("given", ["--set=settings.runAsUser=null", "--set=settings.runAsUser="])
def test_the_cluster_may_choose_the_uid(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    assert settings(monkeypatch, given).run_as_user is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("settings.worker=4", "at '/settings': additional properties 'worker' not allowed"),
        ("settings.workers=0", "at '/settings/workers': minimum: got 0, want 1"),
        ("settings.logLevel=info", "at '/settings/logLevel': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ("settings.podEnv.A=1", "at '/settings/podEnv/A': got number, want string"),
        ("image.operator=", "at '/image/operator': '' does not match pattern"),
        ("crds.install=maybe", "at '/crds/install': got string, want boolean"),
    ],
)
def test_wrong_values_are_refused_by_name(given: str, told: str) -> None:
    done = helm("template", "berth", str(CHART), f"--set={given}")
    assert done.returncode != 0
    assert told in done.stderr


def test_the_chart_brings_the_current_crd_and_can_leave_it_out() -> None:
    crd = of_kind("CustomResourceDefinition", rendered())
    assert crd["spec"] == yaml.safe_load((ROOT / "crds" / f"berth.dev_{CRD.split('.')[0]}.yaml").read_text())["spec"]
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "CustomResourceDefinition" not in {item["kind"] for item in rendered("--set=crds.install=false")}


def test_the_operator_fits_a_namespace_with_restricted_pod_security(cluster: Cluster) -> None:
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": label}}])
    cluster.helm("install", "berth", str(CHART), "--namespace=strict")
    wait_until(lambda: bool(cluster.get("pods", "--namespace=strict")["items"]), "the operator's pod", 30)
    cluster.helm("uninstall", "berth", "--namespace=strict")


def test_the_crd_and_endpoints_outlive_the_chart_and_any_release_takes_them_over(
    cluster: Cluster, tmp_path: Path
) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(CHART, newer)

    def change(description: str) -> None:
        crd = yaml.safe_load((newer / CRD_FILE).read_text())
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = description
        (newer / CRD_FILE).write_text(yaml.safe_dump(crd))

    def live() -> tuple[str, str, str]:
        """uid, owner and description of the CRD."""
        crd = cluster.get("crd", CRD)
        version = crd["spec"]["versions"][0]
        owner = crd["metadata"]["annotations"]["meta.helm.sh/release-name"]
        return crd["metadata"]["uid"], owner, version["schema"]["openAPIV3Schema"]["description"]

    cluster.helm("install", "berth", str(CHART), "--namespace=berth-system", "--create-namespace")
    cluster.run("wait", "--for=condition=Established", f"crd/{CRD}")
    uid = live()[0]
    cluster.apply([ENDPOINT])
    endpoint = cluster.get("mep", "demo")["metadata"]["uid"]

    change("upgraded")
    cluster.helm("upgrade", "berth", str(newer), "--namespace=berth-system")
    assert live() == (uid, "berth", "upgraded")

    assert f"[CustomResourceDefinition] {CRD}" in cluster.helm("uninstall", "berth", "--namespace=berth-system")
    assert cluster.get("mep", "demo")["metadata"]["uid"] == endpoint

    change("from another release")
    cluster.helm("install", "other", str(newer), "--namespace=elsewhere", "--create-namespace")
    assert live() == (uid, "other", "from another release")
    assert "other-berth" in cluster.run("get", "deployments,clusterroles", "--all-namespaces", "-oname")

    change("upgraded by the other release")
    cluster.helm("upgrade", "other", str(newer), "--namespace=elsewhere")
    assert live() == (uid, "other", "upgraded by the other release")
    assert f"name: {CRD}" in cluster.helm("get", "manifest", "other", "--namespace=elsewhere")
    cluster.helm("rollback", "other", "1", "--namespace=elsewhere")
    cluster.helm("uninstall", "other", "--namespace=elsewhere")
    assert live()[0] == uid
    assert cluster.get("mep", "demo")["metadata"]["uid"] == endpoint
    cluster.run("delete", "mep", "demo")
    cluster.run("delete", "crd", CRD)


def test_the_helm_command_of_the_readme_installs(cluster: Cluster) -> None:
    """Up to the wait for the operator's pod: here is no node."""
    (command,) = re.findall(r"^helm install .*?(?=^```)", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    program = tools.ensure(["helm"])["helm"]
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": os.environ["HOME"],
        "KUBECONFIG": str(cluster.kubeconfig),
        "REGISTRY": "registry.test/berth",
    }
    line = command.replace("--wait", "--dry-run=server")
    done = subprocess.run(
        ["bash", "-euc", line], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "image: registry.test/berth/berth-operator:0.1.0" in done.stdout
    assert 'value: "registry.test/berth/berth-server:0.1.0"' in done.stdout


def test_install_yaml_is_a_whole_installation(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "dist" / "install.yaml"
    manifests.write(path)
    cluster.run("apply", "--server-side", f"--filename={path}")
    cluster.run("wait", "--for=condition=Established", f"crd/{CRD}")
    cluster.get("deployment", "berth", "--namespace=berth-system")
    cluster.run("apply", "--server-side", f"--filename={path}")
    cluster.run("delete", "--wait=false", f"--filename={path}")
    # A second, but where much else went on the API server's own finalizer has been seen to take more than a minute.
    cluster.run("wait", "--for=delete", f"crd/{CRD}", "--timeout=300s", timeout_seconds=320)


def test_the_operator_uses_exactly_the_permissions_of_the_role(
    cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One endpoint from creation over an unschedulable pod to one that waits for its kubelet; then a resync."""
    cluster.helm("install", "berth", str(CHART), "--namespace=rbac", "--create-namespace")
    request.addfinalizer(lambda: cluster.helm("uninstall", "berth", "--namespace=rbac"))
    cluster.run("wait", "--for=condition=Established", f"crd/{CRD}")
    log = tmp_path / "operator.log"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), "BERTH_HTTP_PORT": "0"}
    command = [sys.executable, "-m", "berth", f"--kubeconfig={cluster.plane.kubeconfig_for('rbac', 'berth')}"]
    with log.open("wb") as output:
        operator = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    request.addfinalizer(lambda: (operator.kill(), operator.wait()))

    def eventually(check: Callable[[], object], what: str) -> None:
        wait_until(lambda: bool(check()), what, 60, alive=lambda: operator.poll() is None, log=log)

    def reasons() -> list[str]:
        status = cluster.get("mep", "demo").get("status", {})
        return [problem["reason"] for problem in status.get("problems", [])]

    cluster.apply([ENDPOINT])
    eventually(lambda: reasons() == ["Unschedulable"], "a pod without a node")
    allocatable = {"cpu": "8", "memory": "16Gi", "pods": "10"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "paper"}}
    cluster.apply([node])
    request.addfinalizer(lambda: cluster.run("delete", "node", "paper"))
    ready = [{"type": "Ready", "status": "True", "reason": "Test", "message": ""}]
    status = {"status": {"allocatable": allocatable, "capacity": allocatable, "conditions": ready}}
    cluster.run("patch", "node", "paper", "--subresource=status", "--type=merge", f"--patch={json.dumps(status)}")

    def scheduled() -> bool:
        # The node controller sets the taint when it likes, so it is taken off until the pod is placed.
        cluster.try_run("taint", "node", "paper", "--all", "node.kubernetes.io/not-ready-")
        return reasons() == ["Starting"]

    eventually(scheduled, "a pod with a node")

    def renewed() -> bool:
        spec = cluster.get("lease", "berth", "--namespace=rbac")["spec"]
        return bool(spec["renewTime"] != spec["acquireTime"])

    eventually(renewed, "a renewal of the Lease")

    user = "system:serviceaccount:rbac:berth"
    calls = [
        event
        for event in map(json.loads, cluster.plane.audit_log.read_text().splitlines())
        if event["user"]["username"] == user
    ]
    refused = [event for event in calls if event.get("responseStatus", {}).get("code") == 403]
    assert not refused
    used = {
        (ref.get("apiGroup", ""), "/".join(filter(None, [ref["resource"], ref.get("subresource")])), event["verb"])
        for event in calls
        if (ref := event.get("objectRef")) and ref["resource"] != ACCESS_REVIEWS.plural
    }
    roles = [cluster.get("clusterrole", "berth"), cluster.get("role", "berth", "--namespace=rbac")]
    granted = {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    children = {("apps", "deployments"), ("", "services"), ("policy", "poddisruptionbudgets")}
    # A patch that creates is logged as a patch, and nothing is pruned in this endpoint's life.
    unseen = {(*child, verb) for child in children for verb in ("create", "delete")}
    # Of endpoints that scale, in tests/apiserver/test_scaling.py and test_actuators.py under the same role.
    autoscalers = {("autoscaling", "horizontalpodautoscalers"), ("keda.sh", "scaledobjects")}
    unseen |= {(*kind, verb) for kind in autoscalers for verb in ("get", "create", "patch", "delete")}
    unseen |= {("keda.sh", "scaledobjects", "watch")}  # this cluster has none
    unseen |= {("", "pods", "patch"), ("", "events", "create")}
    assert used - granted == set()
    assert granted - used - unseen == set()
    asked_for = {
        (resource.group, "/".join(filter(None, [resource.plural, subresource])), verb)
        for resource, subresource, verbs in NEEDED
        for verb in verbs
    }
    assert asked_for == granted
