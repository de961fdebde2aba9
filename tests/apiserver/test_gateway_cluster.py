"""What the gateway learns from a real API server, with the token and the roles that the chart gives it.

In: ModelEndpoints, Services with pods, Secrets; an API server that is stopped and started; roles that are cut.
Out: the gateway's table and keys, its log, the API server's audit log.  The test writes the status of pods: there is no
kubelet.  Faults of the watches themselves: tests/unit/gateway/test_cluster.py.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from berth_gateway import cluster
from berth_gateway.access import Access
from berth_gateway.cluster import Api, ApiError
from berth_gateway.connection import connect
from berth_gateway.settings import Settings
from berth_gateway.table import Table
from berth_gateway.watched import ENDPOINTS, Watched
from local import tools
from local.controlplane import ControlPlane
from local.kubectl import Kubectl, condition
from tests.waiting import eventually

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
SYSTEM = "berth-system"
NAME = "berth-gateway"
RBAC = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
KEY = b"a key that is long enough"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of this module's own, which it stops and starts."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        kubectl = Kubectl(running.kubeconfig)
        kubectl.run("apply", "-f", str(ROOT / "crds"))
        crd = "modelendpoints.berth.dev"
        eventually(lambda: condition(kubectl.get("crd", crd), "Established").get("status") == "True", 30, "the CRD")
        kubectl.apply(
            [
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                for name in (SYSTEM, "team-a", "team-b")
            ]
        )
        # Pods on a node that does not exist are in no slice. It is never ready, so nobody misses its heartbeat.
        kubectl.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "paper"}}])
        account = ("serviceaccount", "default", "--namespace=team-a")  # without it no pod is made
        eventually(lambda: kubectl.find(*account), 30, "a service account for pods")
        yield running


@pytest.fixture(scope="module")
def kubectl(plane: ControlPlane) -> Kubectl:
    """The cluster's administrator."""
    return Kubectl(plane.kubeconfig)


def roles(*args: str) -> list[Object]:
    """What the chart gives the gateway to read with."""
    helm = str(tools.ensure(["helm"])["helm"])
    chart = [helm, "template", "berth", str(ROOT / "charts" / "berth"), "--namespace", SYSTEM, *args]
    rendered = subprocess.run(chart, capture_output=True, text=True, check=True).stdout
    found = [item for item in yaml.safe_load_all(rendered) if item and item["kind"] in RBAC]
    return [item for item in found if item["metadata"]["name"].startswith(NAME)]


@pytest.fixture
def kubeconfig(plane: ControlPlane, kubectl: Kubectl) -> Iterator[Path]:
    """A token of the gateway's service account, which has the chart's roles, nothing more."""
    kubectl.apply(roles())
    yield plane.kubeconfig_for(SYSTEM, NAME)
    withdraw(kubectl)


def withdraw(kubectl: Kubectl) -> None:
    """No role of the gateway is bound any more."""
    for kind in ("clusterrolebinding", "rolebinding"):
        for item in kubectl.get(kind, "-A")["items"]:
            if item["metadata"]["name"].startswith(NAME):
                where = [f"--namespace={item['metadata']['namespace']}"] if kind == "rolebinding" else []
                kubectl.run("delete", kind, item["metadata"]["name"], *where)


class Gateway:
    """What a gateway knows."""

    def __init__(self, watched: Watched, table: Table, access: Access) -> None:
        self.watched, self.table, self.access = watched, table, access

    def pods(self, name: str) -> list[str]:
        """Addresses of the ready pods of a model."""
        found = self.table.find(name)
        return sorted(pod.host for pod in found.ready) if found else []


@contextlib.asynccontextmanager
async def gateway(kubeconfig: Path, **settings: Any) -> AsyncIterator[Gateway]:
    api, table, access = Api(connect(str(kubeconfig), {})), Table(), Access()
    watched = Watched(api, Settings(**settings), table, access)
    running = asyncio.create_task(watched.run())
    try:
        yield Gateway(watched, table, access)
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await api.close()


async def until(check: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not check():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"not within 60 s: {what}")


async def run(kubectl: Kubectl, *args: str) -> None:
    await asyncio.to_thread(kubectl.run, *args)


async def apply(kubectl: Kubectl, *objects: Object) -> None:
    await asyncio.to_thread(kubectl.apply, list(objects))


def endpoint(name: str, namespace: str = "team-a", **spec: Any) -> Object:
    return {
        "apiVersion": "berth.dev/v1alpha1",
        "kind": "ModelEndpoint",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"source": "hf://org/model"}, **spec},
    }


def service(name: str, namespace: str = "team-a") -> Object:
    """As the operator makes it, as far as the gateway sees it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "berth"}},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8000}]},
    }


async def pod(kubectl: Kubectl, name: str, app: str, address: str, namespace: str = "team-a") -> None:
    """A pod that is ready at this address."""
    await apply(
        kubectl,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
            "spec": {"containers": [{"name": "server", "image": "none"}], "nodeName": "paper"},
        },
    )
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    patch = f"--patch={json.dumps({'status': status})}"
    await run(kubectl, "patch", "pod", name, f"--namespace={namespace}", "--subresource=status", "--type=merge", patch)


def keys(name: str, namespaces: str = "*") -> Object:
    data = {"sha256": hashlib.sha256(KEY).hexdigest(), "namespaces": namespaces}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": SYSTEM, "labels": {"berth.dev/gateway-key": "true"}},
        "data": {field: base64.b64encode(text.encode()).decode() for field, text in data.items()},
    }


async def test_endpoints_pods_and_keys_come_and_go_with_the_permissions_of_the_chart_and_no_others(
    plane: ControlPlane, kubectl: Kubectl, kubeconfig: Path
) -> None:
    await apply(kubectl, endpoint("early"), service("early"), keys("me"))
    await pod(kubectl, "early-1", "early", "10.9.0.1")
    before = plane.audit_log.stat().st_size
    with capture_logs() as logs:
        async with gateway(kubeconfig) as known:
            await asyncio.wait_for(known.watched.synced(), 60)
            await until(lambda: known.pods("early") == ["10.9.0.1"], "the pod that was there before")
            caller = known.access.caller([(b"x-api-key", KEY)])
            assert caller is not None
            assert caller.owner == "me"

            await apply(kubectl, endpoint("late", model={"source": "file:///m", "servedNames": ["vendor/late"]}))
            await apply(kubectl, service("late"))
            await pod(kubectl, "late-1", "late", "10.9.0.2")
            await pod(kubectl, "late-2", "late", "10.9.0.3")
            await until(lambda: known.pods("vendor/late") == ["10.9.0.2", "10.9.0.3"], "pods that came later")
            await run(kubectl, "delete", "pod", "late-1", "--namespace=team-a", "--force", "--grace-period=0")
            await until(lambda: known.pods("vendor/late") == ["10.9.0.3"], "a pod less")
            await run(kubectl, "delete", "mep", "late", "--namespace=team-a")
            await until(lambda: known.table.find("vendor/late") is None, "an endpoint less")
            await run(kubectl, "label", "secret", "me", f"--namespace={SYSTEM}", "berth.dev/gateway-key-")
            await until(lambda: known.access.caller([(b"x-api-key", KEY)]) is None, "a Secret without the label")
    assert [entry for entry in logs if entry["log_level"] != "info"] == []

    with plane.audit_log.open() as log:
        log.seek(before)
        entries = [json.loads(line) for line in log]
    user = f"system:serviceaccount:{SYSTEM}:{NAME}"
    used = {
        (entry["objectRef"].get("apiGroup", ""), entry["objectRef"]["resource"], entry["verb"])
        for entry in entries
        if entry["user"]["username"] == user
    }
    granted = {
        (group, resource, verb)
        for item in roles()
        for rule in item.get("rules", [])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert used == granted


async def test_a_client_certificate_serves_as_well_as_a_token(plane: ControlPlane, kubectl: Kubectl) -> None:
    await apply(kubectl, endpoint("early"))
    async with gateway(plane.kubeconfig) as known:
        await asyncio.wait_for(known.watched.synced(), 60)
        assert known.table.find("early") is not None


async def test_what_is_known_stays_while_the_api_server_is_away_and_changes_come_after_it(
    plane: ControlPlane, kubectl: Kubectl, kubeconfig: Path
) -> None:
    await apply(kubectl, endpoint("early"), endpoint("leaving"), service("early"), keys("me"))
    await pod(kubectl, "early-1", "early", "10.9.0.1")
    async with gateway(kubeconfig) as known:
        await asyncio.wait_for(known.watched.synced(), 60)
        await until(lambda: known.pods("early") == ["10.9.0.1"], "the pod")
        await asyncio.to_thread(plane.stop_apiserver)
        try:
            with capture_logs() as logs:
                told = ("modelendpoints.berth.dev", "endpointslices.discovery.k8s.io", "secrets")
                await until(lambda: {entry["kind"] for entry in logs} == set(told), "each watch says that it is alone")
            assert {entry["event"] for entry in logs} == {"watch_interrupted"}
            assert known.pods("early") == ["10.9.0.1"]
            assert known.table.find("leaving") is not None
            assert known.access.caller([(b"x-api-key", KEY)]) is not None
        finally:
            plane.start_apiserver()  # in this thread, with which it would end
        await run(kubectl, "delete", "mep", "leaving", "--namespace=team-a")
        await until(lambda: known.table.find("leaving") is None, "an endpoint less")
        assert known.pods("early") == ["10.9.0.1"]


async def test_a_version_that_is_too_old_is_told_as_410(plane: ControlPlane) -> None:
    api = Api(connect(str(plane.kubeconfig), {}))
    try:
        with pytest.raises(ApiError) as raised:
            async for _ in api.watch(ENDPOINTS, "", "1"):
                pass
    finally:
        await api.close()
    assert raised.value.status == 410
    assert "too old resource version" in raised.value.message


async def test_a_missing_permission_is_named_and_the_rest_goes_on_until_it_is_granted(
    plane: ControlPlane, kubectl: Kubectl, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "FORBIDDEN_SECONDS", 0.2)
    await apply(kubectl, endpoint("early"), keys("me"))
    whole = [item for item in roles() if item["kind"] == "ClusterRole"]
    rules = [rule for rule in whole[0]["rules"] if "endpointslices" not in rule["resources"]]
    await apply(kubectl, {**whole[0], "rules": rules})
    with capture_logs() as logs:
        async with gateway(kubeconfig) as known:
            await until(
                lambda: known.watched.missing() == ["endpointslices.discovery.k8s.io"], "all but what is not permitted"
            )
            await until(lambda: known.access.caller([(b"x-api-key", KEY)]), "the key")
            assert known.table.find("early") is not None
            await apply(kubectl, endpoint("later"))
            await until(lambda: known.table.find("later"), "events of the others")
            await apply(kubectl, *whole)
            await until(lambda: known.watched.missing() == [], "what is permitted now")
    said = [entry for entry in logs if entry["event"] == "permission_missing"]
    assert [entry["permission"] for entry in said] == ["list endpointslices.discovery.k8s.io in all namespaces"]
    assert f"system:serviceaccount:{SYSTEM}:{NAME}" in said[0]["error"]


async def test_a_gateway_for_some_namespaces_needs_no_permission_in_others(
    plane: ControlPlane, kubectl: Kubectl, kubeconfig: Path
) -> None:
    await asyncio.to_thread(withdraw, kubectl)
    await apply(kubectl, *roles("--set=gateway.namespaces={team-a}"))
    await apply(kubectl, endpoint("early"), endpoint("elsewhere", "team-b"), service("early"))
    await pod(kubectl, "early-1", "early", "10.9.0.1")
    with capture_logs() as logs:
        async with gateway(kubeconfig, namespaces=("team-a",)) as known:
            await asyncio.wait_for(known.watched.synced(), 60)
            await until(lambda: known.pods("early") == ["10.9.0.1"], "the pod")
            assert known.table.find("elsewhere") is None
    assert [entry for entry in logs if entry["log_level"] != "info"] == []
