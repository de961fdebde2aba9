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
from berth_gateway.settings import Settings as GatewaySettings
from local import manifests, tools
from local.controlplane import ControlPlane
from local.daemons import wait_until
from local.kubectl import Kubectl

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "berth"
CRD_FILE = "files/berth.dev_modelendpoints.yaml"
CRD = "modelendpoints.berth.dev"
PROGRAMS = ("berth", "berth-gateway")
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


def of_kind(kind: str, objects: list[dict[str, Any]], name: str = "berth") -> dict[str, Any]:
    (found,) = (item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name)
    return found


def container(objects: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """That of a Deployment."""
    (found,) = of_kind("Deployment", objects, name)["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def in_pod(monkeypatch: pytest.MonkeyPatch, name: str, *args: str) -> set[str]:
    """Sets the BERTH_ variables that the program of a Deployment has in its pod; returns their names."""
    for variable in [variable for variable in os.environ if variable.startswith("BERTH_")]:
        monkeypatch.delenv(variable)
    environment = container(rendered(*args), name)["env"]
    for variable in environment:
        monkeypatch.setenv(variable["name"], variable["value"])
    return {variable["name"] for variable in environment}


def settings(monkeypatch: pytest.MonkeyPatch, *args: str) -> Settings:
    """The settings that the operator has in its pod."""
    in_pod(monkeypatch, "berth", *args)
    return Settings()


def gateway_settings(monkeypatch: pytest.MonkeyPatch, *args: str) -> GatewaySettings:
    """The settings that the gateway has in its pod."""
    in_pod(monkeypatch, "berth-gateway", *args)
    return GatewaySettings()


def test_default_values_are_the_default_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    names = in_pod(monkeypatch, "berth")
    assert Settings().model_dump() == Settings.model_construct().model_dump() | {
        "gateway_service": "berth-system/berth-gateway-admin"
    }
    assert names == {f"BERTH_{name.upper()}" for name in Settings.model_fields}
    names = in_pod(monkeypatch, "berth-gateway")
    assert GatewaySettings() == GatewaySettings.model_construct()
    assert names == {f"BERTH_GATEWAY_{name.upper()}" for name in GatewaySettings.model_fields}


def test_every_setting_arrives_at_the_operator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("""
image: {payload: "registry.test/payload:2", server: "registry.test/vllm:3"}
gateway: {namespaces: [team-a, team-b], ports: {first: 30000, count: 7}}
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
        "gateway_service": "berth-system/berth-gateway-admin",
        "gateway_namespaces": ("team-a", "team-b"),
        "gateway_first_port": 30000,
        "gateway_ports": 7,
        "log_level": "DEBUG",
        "log_format": "console",
    }


def test_every_setting_arrives_at_the_gateway(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("""
image: {gateway: "registry.test/gateway:2"}
gateway:
  auth: Open
  namespaces: [team-a, team-b]
  ports: {first: 30000, count: 7}
  settings:
    port: 8000
    adminPort: 8001
    connectSeconds: 0.5
    firstByteSeconds: 60
    betweenBytesSeconds: 61
    totalSeconds: 1000000
    mostBodyBytes: 1048576
    mostBodiesBytes: 10737418240
    holdPerEndpoint: 1
    holdInAll: 2
    holdBytesPerEndpoint: 3
    holdBytesInAll: 107374182400
    holdSeconds: 62
    furtherSeconds: 2.5
    drainSeconds: 60
    logLevel: DEBUG
""")
    assert gateway_settings(monkeypatch, f"--values={values}").model_dump() == {
        "auth": "Open",
        "namespaces": ("team-a", "team-b"),
        "namespace": "berth-system",
        "port": 8000,
        "admin_port": 8001,
        "first_endpoint_port": 30000,
        "endpoint_ports": 7,
        "connect_seconds": 0.5,
        "first_byte_seconds": 60.0,
        "between_bytes_seconds": 61.0,
        "total_seconds": 1000000.0,
        "most_body_bytes": 1048576,
        "most_bodies_bytes": 10737418240,
        "hold_per_endpoint": 1,
        "hold_in_all": 2,
        "hold_bytes_per_endpoint": 3,
        "hold_bytes_in_all": 107374182400,
        "hold_seconds": 62.0,
        "further_seconds": 2.5,
        "drain_seconds": 60.0,
        "log_level": "DEBUG",
    }
    objects = rendered(f"--values={values}")
    assert container(objects, "berth-gateway")["image"] == "registry.test/gateway:2"
    pod = of_kind("Deployment", objects, "berth-gateway")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 3 + 60 + 15


def test_the_ports_of_services_and_probes_are_those_that_the_gateway_listens_on() -> None:
    objects = rendered("--set=gateway.settings.port=8000,gateway.settings.adminPort=8001,gateway.service.port=8888")
    named = {port["name"]: port["containerPort"] for port in container(objects, "berth-gateway")["ports"]}
    assert named == {"http": 8000, "admin": 8001}
    probes = [
        container(objects, "berth-gateway")[f"{probe}Probe"]["httpGet"]["port"] for probe in ("liveness", "readiness")
    ]
    assert probes == ["admin", "admin"]
    shared, admin = (of_kind("Service", objects, name)["spec"] for name in ("berth-gateway", "berth-gateway-admin"))
    assert shared["ports"] == [{"name": "http", "port": 8888, "targetPort": "http"}]
    assert admin["ports"] == [{"name": "admin", "port": 8001, "targetPort": "admin"}]
    assert admin["clusterIP"] == "None"


def test_a_load_balancer_never_leads_to_the_admin_port() -> None:
    objects = rendered("--set=gateway.service.type=LoadBalancer", "--set=gateway.service.annotations.a=b")
    shared, admin = (of_kind("Service", objects, name) for name in ("berth-gateway", "berth-gateway-admin"))
    assert shared["spec"]["type"] == "LoadBalancer"
    assert shared["metadata"]["annotations"] == {"a": "b"}
    assert (admin["spec"]["type"], admin["metadata"].get("annotations")) == ("ClusterIP", None)


def test_operator_and_gateway_do_not_select_each_others_pods() -> None:
    objects = rendered()
    selectors = [of_kind("Deployment", objects, name)["spec"]["selector"]["matchLabels"] for name in PROGRAMS]
    labels = [of_kind("Deployment", objects, name)["spec"]["template"]["metadata"]["labels"] for name in PROGRAMS]
    matches = [[selector.items() <= label.items() for selector in selectors] for label in labels]
    assert matches == [[True, False], [False, True]]
    for item in objects:
        if item["kind"] in ("Service", "PodDisruptionBudget"):
            selector = item["spec"]["selector"]
            wanted = selectors["gateway" in item["metadata"]["name"]]
            assert selector.get("matchLabels", selector) == wanted, item["metadata"]["name"]


def test_without_a_gateway_there_is_nothing_of_it_and_the_operator_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    off = "--set=gateway.enabled=false"
    assert not [item for item in rendered(off) if "gateway" in item["metadata"]["name"]]
    assert settings(monkeypatch, off).gateway_service == ""


def test_names_of_a_long_release_fit() -> None:
    done = helm("template", "b" * 53, str(CHART), "--namespace=berth-system")
    names = [item["metadata"]["name"] for item in yaml.safe_load_all(done.stdout) if item]
    assert max(map(len, names)) <= 63
    assert len({name for name in names if name.endswith("-gateway-admin")}) == 1


def roles(*args: str) -> tuple[set[tuple[str, str, str, str]], set[tuple[str, str]]]:
    """What the gateway may do: (kind of the role, group, resource, verb); and where its bindings are, by kind."""
    objects = [item for item in rendered(*args) if "gateway" in item["metadata"]["name"]]
    granted = {
        (item["kind"], group, resource, verb)
        for item in objects
        if item["kind"] in ("Role", "ClusterRole")
        for rule in item["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    bindings = [item for item in objects if item["kind"].endswith("Binding")]
    for item in bindings:
        assert item["subjects"] == [
            {"kind": "ServiceAccount", "name": "berth-gateway", "namespace": "berth-system"}
        ]  # fmt: skip
    return granted, {(item["kind"], item["metadata"].get("namespace", "")) for item in bindings}


READS = {
    ("ClusterRole", group, kind, verb)
    for group, kind in (("berth.dev", "modelendpoints"), ("discovery.k8s.io", "endpointslices"))
    for verb in ("list", "watch")
}
KEYS = {("Role", "", "secrets", verb) for verb in ("list", "watch")}


def test_the_gateway_may_read_what_it_needs_where_it_needs_it() -> None:
    assert roles() == (READS | KEYS, {("ClusterRoleBinding", ""), ("RoleBinding", "berth-system")})
    assert roles("--set=gateway.auth=Open") == (READS, {("ClusterRoleBinding", "")})
    assert roles("--set=gateway.namespaces={a,b}") == (
        READS | KEYS,
        {("RoleBinding", "a"), ("RoleBinding", "b"), ("RoleBinding", "berth-system")},
    )


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
        ("gateway.auth=None", "at '/gateway/auth': value must be one of 'Keys', 'Open'"),
        ("gateway.settings.hold=1", "at '/gateway/settings': additional properties 'hold' not allowed"),
        ("gateway.ports.first=80", "at '/gateway/ports/first': minimum: got 80, want 1,024"),
        ("gateway.namespaces={Team}", "at '/gateway/namespaces/0': 'Team' does not match pattern"),
    ],
)
def test_wrong_values_are_refused_by_name(given: str, told: str) -> None:
    done = helm("template", "berth", str(CHART), f"--set={given}")
    assert done.returncode != 0
    assert told in done.stderr


def test_the_chart_brings_the_current_crd_and_can_leave_it_out() -> None:
    crd = of_kind("CustomResourceDefinition", rendered(), CRD)
    assert crd["spec"] == yaml.safe_load((ROOT / "crds" / f"berth.dev_{CRD.split('.')[0]}.yaml").read_text())["spec"]
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "CustomResourceDefinition" not in {item["kind"] for item in rendered("--set=crds.install=false")}


def test_operator_and_gateway_fit_a_namespace_with_restricted_pod_security(cluster: Cluster) -> None:
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": label}}])
    cluster.helm("install", "berth", str(CHART), "--namespace=strict")

    def pods() -> set[str]:
        labels = [pod["metadata"]["labels"] for pod in cluster.get("pods", "--namespace=strict")["items"]]
        return {found["app.kubernetes.io/name"] for found in labels}

    wait_until(lambda: pods() == set(PROGRAMS), "a pod of each", 30)
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


def test_an_open_gateway_is_said_loudly(cluster: Cluster) -> None:
    def notes(*args: str) -> str:
        command = ("install", "loud", str(CHART), "--namespace=default", "--dry-run=client", "--set=crds.install=false")
        return cluster.helm(*command, *args).partition("NOTES:")[2]

    loud = "EVERYBODY WHO REACHES THE GATEWAY MAY USE EVERY MODEL"
    assert loud not in notes()
    assert "berth.dev/gateway-key=true" in notes()
    opened = notes("--set=gateway.auth=Open")
    assert f"{loud} OF THIS CLUSTER, WITHOUT A KEY" in opened
    assert "outside this cluster" not in opened
    outside = notes("--set=gateway.auth=Open,gateway.service.type=LoadBalancer,gateway.namespaces={team-a}")
    assert f"{loud} IN team-a, WITHOUT A KEY" in outside
    assert "everybody outside this cluster" in outside
    assert "gateway" not in notes("--set=gateway.enabled=false")


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
    assert "image: registry.test/berth/berth-gateway:0.1.0" in done.stdout


def test_install_yaml_is_a_whole_installation(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "dist" / "install.yaml"
    manifests.write(path)
    cluster.run("apply", "--server-side", f"--filename={path}")
    cluster.run("wait", "--for=condition=Established", f"crd/{CRD}")
    for name in PROGRAMS:
        cluster.get("deployment", name, "--namespace=berth-system")
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
    # Of endpoints that scale or sleep, in test_scaling.py, test_actuators.py and test_zero.py under the same role.
    scaling = {("autoscaling", "horizontalpodautoscalers"), ("keda.sh", "scaledobjects")}
    scaling |= {("discovery.k8s.io", "endpointslices")}
    unseen |= {(*kind, verb) for kind in scaling for verb in ("get", "create", "patch", "delete")}
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
