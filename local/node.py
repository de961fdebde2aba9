"""The machine as a one-node Kubernetes cluster: `up` makes or mends it, `down` removes it. Root; one per machine.

Everything that runs is in one control group, everything that is mounted below two directories, everything in the
network tables under names of our own: so `down`, and an `up` after a crash, find all of it without having kept a list.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from local import cgroup, components, mounts, network, nodeconfig, packages, pki, progress, runtime, supervisor, tools
from local.components import Site
from local.daemons import wait_until
from local.errors import LocalError
from local.locks import held
from local.nodeconfig import NODE_NAME, Place

STATE = Path("/var/lib/berth-local")
RUN = Path("/run/berth-local")
CONTAINERD = RUN / "containerd"  # state directory, for `local.runtime`
LOGS = Path("/var/log/berth-local")
KUBECONFIG = Path(__file__).parent.parent / ".local" / "kubeconfig"
GPUS = 2

_ADDRESSES = RUN / "cni"
_SAVED_SYSCTLS = RUN / "sysctls.json"
_LOCK = Path("/run/lock/berth-local.lock")
_CONTAINER_LOG_LINKS = Path("/var/log/containers")  # where the kubelet puts links, whatever its configuration says
_PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
    "coredns",
    "pause",
)
_NODE_READY_SECONDS = 60.0


def up() -> None:
    """Makes the cluster run: all of it on a fresh machine, what is missing or stuck otherwise.

    Writes an administrator's kubeconfig to KUBECONFIG. When no daemon runs any more the cluster starts empty, with the
    images that it had.
    """
    _require_root()
    packages.ensure()
    place = _place(tools.ensure(_PROGRAMS))
    with held(_LOCK, "changing the local cluster"):
        if _is_whole(place):
            try:
                _bring_up(place)
            except LocalError as error:
                progress.say(f"the cluster cannot be mended and starts over: {str(error).splitlines()[0]}")
                _start_over(place)
        else:
            _start_over(place)
    KUBECONFIG.parent.mkdir(exist_ok=True)
    pki.write_private(KUBECONFIG, place.site.kubeconfig("admin").read_bytes())


def down(purge: bool = False) -> None:
    """Ends and removes everything that runs, is mounted or is in the network tables. Images stay, unless purged."""
    _require_root()
    with held(_LOCK, "removing the local cluster"):
        _sweep()
        mounts.unmount_below(RUN, STATE)
        shutil.rmtree(RUN, ignore_errors=True)
        KUBECONFIG.unlink(missing_ok=True)
        if purge:
            shutil.rmtree(STATE, ignore_errors=True)
            shutil.rmtree(LOGS, ignore_errors=True)


def run_with_cluster_dns(command: Sequence[str]) -> int:
    """Runs a command of the host for which the names of the cluster resolve; returns its exit status.

    Its /etc/resolv.conf is another one, in a mount namespace of its own: the machine's stays as it is.
    """
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    resolv_conf = str(_place({}).resolv_conf)
    return subprocess.run(["unshare", "--mount", "sh", "-c", script, resolv_conf, *command], check=False).returncode


def _place(programs: dict[str, Path]) -> Place:
    site = Site(
        state=STATE / "cluster",
        programs=programs,
        address=network.ADDRESS,
        apiserver_port=6443,
        etcd_port=2379,
        etcd_peer_port=2380,
        advertise=network.ADDRESS,
        controller_manager_port=10257,
        scheduler_port=10259,
    )
    return Place(site, STATE / "containerd", CONTAINERD, LOGS, programs)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LocalError("the local node needs root: it makes network interfaces, mounts and control groups")


def _is_whole(place: Place) -> bool:
    """Whether there is a cluster to mend: made by this code, its network there, and not all of it dead."""
    return (
        _made_by(place).exists()
        and _made_by(place).read_text() == _code_digest()
        and network.exists()
        and bool(supervisor.survey())
    )


def _start_over(place: Place) -> None:
    _sweep()
    shutil.rmtree(LOGS, ignore_errors=True)
    place.site.state.mkdir(parents=True, mode=0o700)
    authority = components.write_files(place.site)
    for user, name, groups in (
        ("kubelet", f"system:node:{NODE_NAME}", ["system:nodes"]),
        ("kube-proxy", "system:kube-proxy", []),
        ("dns", "berth-local:dns", []),
    ):
        components.write_kubeconfig(place.site, authority, user, name, groups)
    _bring_up(place, emptied=True)
    _made_by(place).write_text(_code_digest())


def _bring_up(place: Place, emptied: bool = False) -> None:
    """emptied: there are no pods, so containers that containerd remembers are of an earlier cluster."""
    cgroup.create()
    network.create(_SAVED_SYSCTLS, place.cni_config, _ADDRESSES)
    supervisor.bring_up(nodeconfig.store_stage(place), LOGS)
    if emptied and runtime.forget_containers(place.containerd):
        supervisor.stop("containerd", supervisor.survey()["containerd"])  # it keeps a list of its own in memory
        supervisor.bring_up(nodeconfig.store_stage(place), LOGS)
    runtime.ensure_pause_image(place.containerd, place.programs["pause"])
    with components.api_client(place.site) as api:
        supervisor.bring_up(nodeconfig.api_stage(place, api), LOGS)
        for obj in nodeconfig.DNS_ACCESS:
            _apply(api, obj)
        before = datetime.now(UTC).replace(microsecond=0)
        started = supervisor.bring_up(nodeconfig.node_stage(place, api), LOGS)
        _await_node(api, newer_than=before if "kubelet" in started else datetime.min.replace(tzinfo=UTC))


def _await_node(api: httpx.Client, newer_than: datetime) -> None:
    """Waits until the kubelet says so, not its predecessor, that the node is ready, and gives the node its GPUs.

    A kubelet that starts removes devices that no plugin has registered with it.
    """
    resource = "nvidia.com/gpu"

    def ready() -> bool:
        response = api.get(f"/api/v1/nodes/{NODE_NAME}")
        if not response.is_success:
            return False
        status: dict[str, Any] = response.json()["status"]
        condition = next((item for item in status.get("conditions", []) if item["type"] == "Ready"), None)
        if condition is None or datetime.fromisoformat(condition["lastHeartbeatTime"]) < newer_than:
            return False
        if status["allocatable"].get(resource) != str(GPUS):
            path = resource.replace("/", "~1")
            operations = [
                {"op": "add", "path": f"/status/{field}/{path}", "value": str(GPUS)}
                for field in ("capacity", "allocatable")
            ]
            api.patch(
                f"/api/v1/nodes/{NODE_NAME}/status",
                json=operations,
                headers={"Content-Type": "application/json-patch+json"},
            ).raise_for_status()
            return False
        # A kubelet that has just started answers `exec` and `logs` with "pod does not exist" until it knows its pods.
        bound = _pods(api, f"/api/v1/pods?fieldSelector=spec.nodeName={NODE_NAME}")
        known = _pods(api, f"/api/v1/nodes/{NODE_NAME}/proxy/pods")
        return bool(condition["status"] == "True") and bound <= known

    wait_until(ready, f"node {NODE_NAME} to be Ready", _NODE_READY_SECONDS, log=LOGS / "kubelet.log")


def _pods(api: httpx.Client, path: str) -> set[str]:
    """Identifiers of the pods in a list; none when it cannot be had."""
    response = api.get(path)
    return {item["metadata"]["uid"] for item in response.json()["items"] or []} if response.is_success else set()


def _apply(api: httpx.Client, obj: dict[str, Any]) -> None:
    """Server-side apply of a cluster-wide RBAC object."""
    api.patch(
        f"/apis/{obj['apiVersion']}/{obj['kind'].lower()}s/{obj['metadata']['name']}",
        params={"fieldManager": "berth-local", "force": "true"},
        json=obj,
        headers={"Content-Type": "application/apply-patch+yaml"},
    ).raise_for_status()


def _sweep() -> None:
    """Removes the cluster, whole or in pieces; keeps images, and the directories of others below STATE and RUN."""
    place = _place({})
    cgroup.kill()
    runtime.remove_shim_sockets(place.containerd)
    mounts.unmount_below(CONTAINERD, place.site.state, place.store)
    network.remove(_SAVED_SYSCTLS)
    cgroup.remove()
    for link in _CONTAINER_LOG_LINKS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(place.pod_logs):
            link.unlink()
    for directory in (CONTAINERD, _ADDRESSES, place.site.state):
        shutil.rmtree(directory, ignore_errors=True)


def _made_by(place: Place) -> Path:
    return place.site.state / "made-by"


def _code_digest() -> str:
    """Of the code that lays out certificates and addresses: a running cluster cannot change them."""
    digest = hashlib.sha256()
    for module in (components, network, pki):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()
