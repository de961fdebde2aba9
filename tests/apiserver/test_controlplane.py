"""The throwaway control plane that the other tests of this tier stand on.

Input: the real programs of `local.tools`.  Not mocked: anything.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from local.controlplane import ControlPlane
from local.daemons import wait_until
from local.errors import LocalError


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("cluster"), scheduler=True) as running:
        yield running


def api(kubeconfig: Path) -> client.ApiClient:
    return config.new_client_from_config(str(kubeconfig))


def eventually(check: Callable[[], Any], what: str) -> None:
    wait_until(lambda: bool(check()), what, timeout_seconds=30)


def deployment(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "localhost/none"}]},
            },
        },
    }


def test_controllers_make_pods_and_the_scheduler_says_why_they_wait(cluster: ControlPlane) -> None:
    admin = api(cluster.kubeconfig)
    client.AppsV1Api(admin).create_namespaced_deployment("default", deployment("waiting"))

    def unschedulable() -> bool:
        pods = client.CoreV1Api(admin).list_namespaced_pod("default", label_selector="app=waiting").items
        return len(pods) == 2 and all((pod.status.conditions or [None])[0] for pod in pods)

    eventually(unschedulable, "two pods judged by the scheduler")
    pod = client.CoreV1Api(admin).list_namespaced_pod("default", label_selector="app=waiting").items[0]
    assert pod.status.conditions[0].message.startswith("no nodes available")


def test_deleting_an_owner_collects_its_objects_and_a_namespace_goes_away(cluster: ControlPlane) -> None:
    admin = api(cluster.kubeconfig)
    core = client.CoreV1Api(admin)
    core.create_namespace({"metadata": {"name": "short-lived"}})
    eventually(lambda: core.list_namespaced_service_account("short-lived").items, "the default service account")
    owner = core.create_namespaced_config_map("short-lived", {"metadata": {"name": "owner"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}
    core.create_namespaced_config_map("short-lived", {"metadata": {"name": "owned", "ownerReferences": [reference]}})
    core.delete_namespaced_config_map("owner", "short-lived")

    def names() -> set[str]:
        return {item.metadata.name for item in core.list_namespaced_config_map("short-lived").items}

    eventually(lambda: "owned" not in names(), "garbage collection")
    core.delete_namespace("short-lived")
    eventually(
        lambda: "short-lived" not in {item.metadata.name for item in core.list_namespace().items},
        "the end of the namespace",
    )


def test_a_service_account_has_the_rights_it_was_given_and_no_others(cluster: ControlPlane) -> None:
    admin = api(cluster.kubeconfig)
    rbac = client.RbacAuthorizationV1Api(admin)
    client.CoreV1Api(admin).create_namespaced_service_account("default", {"metadata": {"name": "reader"}})
    rbac.create_namespaced_role(
        "default",
        {
            "metadata": {"name": "reader"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}],
        },
    )
    rbac.create_namespaced_role_binding(
        "default",
        {
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
        },
    )
    reader = client.CoreV1Api(api(cluster.kubeconfig_for("default", "reader")))
    eventually(lambda: _status(lambda: reader.list_namespaced_config_map("default")) == 200, "the role binding")
    assert _status(lambda: reader.list_namespaced_secret("default")) == 403
    with pytest.raises(LocalError, match=r"no token for default/nobody: .* not found"):
        cluster.kubeconfig_for("default", "nobody")


def _status(call: Callable[[], Any]) -> int:
    try:
        call()
    except client.ApiException as error:
        return int(error.status)
    return 200


def test_the_audit_log_holds_each_request_once(cluster: ControlPlane) -> None:
    core = client.CoreV1Api(api(cluster.kubeconfig))
    core.create_namespace({"metadata": {"name": "counted"}})
    core.create_namespaced_config_map("counted", {"metadata": {"name": "settings"}})
    entries = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    mine = [
        (entry["verb"], entry["objectRef"]["resource"], entry["responseStatus"]["code"])
        for entry in entries
        if entry["user"]["username"] == "berth-local-admin" and entry.get("objectRef", {}).get("namespace") == "counted"
    ]
    assert mine == [("create", "configmaps", 201)]


def test_the_api_server_comes_back_on_its_port_with_its_state(cluster: ControlPlane) -> None:
    core = client.CoreV1Api(api(cluster.kubeconfig))
    core.create_namespaced_config_map("default", {"metadata": {"name": "kept"}})
    cluster.stop_apiserver()
    with pytest.raises(Exception, match="Connection refused"):
        core.read_namespaced_config_map("kept", "default", _request_timeout=5)
    cluster.start_apiserver()
    assert core.read_namespaced_config_map("kept", "default").metadata.name == "kept"


def test_two_at_once_share_nothing(cluster: ControlPlane, tmp_path: Path) -> None:
    client.CoreV1Api(api(cluster.kubeconfig)).create_namespaced_config_map("default", {"metadata": {"name": "mine"}})
    with ControlPlane(tmp_path) as other:
        assert other.url != cluster.url
        found = client.CoreV1Api(api(other.kubeconfig)).list_namespaced_config_map("default").items
        assert "mine" not in {item.metadata.name for item in found}


def test_nothing_survives_a_killed_test_process(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from local.controlplane import ControlPlane\n"
        "with ControlPlane(Path(sys.argv[1])): print('up', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    assert len(_processes_naming(tmp_path)) == 4  # the script and three components
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: not _processes_naming(tmp_path), "the end of every process")


def _processes_naming(path: Path) -> list[int]:
    def names(pid: str) -> bool:
        try:
            return str(path).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False

    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and names(entry.name)]


def test_a_new_one_in_a_used_directory_starts_empty(tmp_path: Path) -> None:
    with ControlPlane(tmp_path) as first:
        client.CoreV1Api(api(first.kubeconfig)).create_namespaced_config_map("default", {"metadata": {"name": "old"}})
    with ControlPlane(tmp_path) as second:
        found = client.CoreV1Api(api(second.kubeconfig)).list_namespaced_config_map("default").items
        assert "old" not in {item.metadata.name for item in found}
        assert not [line for line in second.audit_log.read_text().splitlines() if '"name":"old"' in line]
