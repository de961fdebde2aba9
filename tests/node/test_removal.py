"""`down` and `up` after a crash: what is left, and what comes back. The last of the tier, since it removes the cluster.

In: a machine with or without the cluster. Out: the cluster, empty, with its images. Not mocked: anything.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local import cgroup, images, mounts, network, node, supervisor
from local.daemons import wait_until
from local.kubectl import Kubectl, Object

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
# How far a killed `up` came, in seconds: from its first daemon to its last.
KILL_AFTER_SECONDS = (0.5, 1.0, 2.0, 4.0, 5.0)
# Kernel settings that the cluster or its kubelet change.
SETTINGS = ("net/ipv4/ip_forward", "vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")


@pytest.fixture(autouse=True)
def cluster_stays() -> Iterator[None]:
    """Whatever a test did, the next finds the cluster."""
    yield
    node.up()


def _traces() -> dict[str, Any]:
    """What the cluster could leave on the machine."""

    def said(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    directories = (node.RUN, node.STATE, Path("/var/lib/kubelet"), Path("/run/containerd"))
    roots = [directory for directory in directories if directory.exists()]
    return {
        "processes": cgroup.processes(),
        "mounts": mounts.below(node.RUN, node.STATE),
        "control groups": list(Path("/sys/fs/cgroup").glob("**/berth-local")),
        "interfaces": [link["ifname"] for link in json.loads(said("ip", "-json", "link"))],
        "routes": said("ip", "route", "show", "table", "all", "type", "unicast"),
        "rules": said("nft", "list", "ruleset"),
        "kernel settings": {name: Path("/proc/sys", name).read_text() for name in SETTINGS},
        "sockets": [str(path) for root in roots for path in root.rglob("*") if path.is_socket()],
        "address files": [str(path) for path in Path("/var/lib/cni").glob("**/*berth-local*")],
    }


def _run_a_pod() -> Object:
    """A pod on the cluster; returned once it is ready."""
    kubectl = Kubectl(node.KUBECONFIG)
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "main",
                "image": images.ensure(["base"])["base"],
                "command": ["python3", "-c", "import signal; signal.pause()"],
                "volumeMounts": [{"name": "memory", "mountPath": "/memory"}],
            }
        ],
        "volumes": [{"name": "memory", "emptyDir": {"medium": "Memory"}}],
    }
    metadata = {"name": "p", "namespace": "default"}
    kubectl.apply([{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}])
    kubectl.run("wait", "--for=condition=Ready", "--timeout=60s", "pod/p")
    return kubectl.get("pod", "p")


def test_down_leaves_nothing_of_a_running_cluster() -> None:
    node.down()
    before = _traces()
    node.up()
    _run_a_pod()
    during = _traces()
    node.down()
    assert _traces() == before
    # Otherwise the comparison would prove nothing. A machine may have had the cluster's kernel settings all along.
    assert [name for name in before if during[name] == before[name] and name != "kernel settings"] == []
    assert not before["processes"]
    assert not before["mounts"]
    assert not before["control groups"]
    assert network.BRIDGE not in before["interfaces"]


def test_down_twice_is_as_good_as_once() -> None:
    node.down()
    before = _traces()
    node.down()
    assert _traces() == before


def test_up_after_everything_was_killed_gives_an_empty_cluster_with_the_images() -> None:
    node.up()
    _run_a_pod()
    base = images.ensure(["base"])["base"]
    for pid in cgroup.processes():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not cgroup.processes(), "the end of every process", SECONDS)
    assert mounts.below(node.CONTAINERD), "a killed runtime leaves mounts, and this test is about them"
    started = time.monotonic()
    node.up()
    assert time.monotonic() - started < SECONDS
    kubectl = Kubectl(node.KUBECONFIG)
    assert kubectl.get("pods", "--all-namespaces")["items"] == []
    known = kubectl.get("node", node.NODE_NAME)["status"]["images"]
    assert base in {name for image in known for name in image["names"]}
    _run_a_pod()


@pytest.mark.parametrize("seconds", KILL_AFTER_SECONDS)
def test_up_finishes_what_a_killed_up_began(seconds: float) -> None:
    node.down()
    process = subprocess.Popen([sys.executable, "-m", "local", "up"], cwd=ROOT, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.kill()
    process.wait()
    node.up()
    assert len(supervisor.survey()) == 8
    _run_a_pod()


def test_up_makes_a_bridge_that_was_removed_and_the_cluster_with_it() -> None:
    node.up()
    subprocess.run(["ip", "link", "delete", network.BRIDGE], check=True)
    node.up()
    _run_a_pod()


def test_a_command_from_another_directory_waits_for_its_turn(tmp_path: Path) -> None:
    node.down()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    commands = [
        subprocess.Popen([sys.executable, "-m", "local", "up"], cwd=where, env=environment, stderr=subprocess.PIPE)
        for where in (ROOT, tmp_path)
    ]
    said = [process.communicate(timeout=120)[1].decode() for process in commands]
    assert [process.returncode for process in commands] == [0, 0], said
    assert sorted("kubelet" in text for text in said) == [False, True], "only one of them starts the daemons"
    assert any("waiting for process" in text and "changing the local cluster" in text for text in said)
