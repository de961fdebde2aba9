"""The pod as it is: restricted Pod Security enforced, looked at from inside while real vLLM serves in it.

Input: one endpoint with default settings and its engine cache on a claim, called `vllm` so that its own Service is the
one whose variables break vLLM. The tests run in the order of the file: the first look at the pod, the last replace it.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.errors import LocalError
from local.kubectl import Kubectl
from tests.node import endpoints
from tests.waiting import eventually

Object = dict[str, Any]
NAME = "vllm"
CACHE_CLAIM = "engine-cache"
# No accelerator, and little asked for: other endpoints are on the node.
MEMORY = {"limits": {"memory": "6Gi"}, "requests": {"memory": "2Gi"}}
START_SECONDS = 300.0
GRACE_SECONDS = 150.0

# Run by the container's own Python, as the container's user.
LOOK = """
import json, os, pwd

def status(pid):
    with open(f"/proc/{pid}/status") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}

def writable():
    for path, names, _ in os.walk("/"):
        names[:] = [name for name in names if os.path.join(path, name) not in ("/proc", "/sys")]
        if os.access(path, os.W_OK):
            names.clear()
            yield path

def environment(pid):
    with open(f"/proc/{pid}/environ") as file:
        return dict(word.partition("=")[::2] for word in file.read().split("\\0") if word)

shm = os.statvfs("/dev/shm")
print(json.dumps({
    "in_passwd": any(entry.pw_uid == os.getuid() for entry in pwd.getpwall()),
    "processes": [status(pid) for pid in os.listdir("/proc") if pid.isdigit()],
    "root_is_read_only": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
    "writable": sorted(writable()),
    "secrets": [path for top in ("/var/run/secrets", "/run/secrets") for path, _, files in os.walk(top) if files],
    "environment": environment(1),
    "shm_bytes": shm.f_blocks * shm.f_frsize,
}))
"""


@pytest.fixture(scope="module")
def place(kubectl: Kubectl) -> Iterator[str]:
    """The namespace."""
    with endpoints.namespace(kubectl) as name:
        yield name


@pytest.fixture(scope="module")
def cache(kubectl: Kubectl, place: str) -> Iterator[Path]:
    """The directory behind the claim of the engine cache."""
    with endpoints.engine_cache(kubectl, place, CACHE_CLAIM) as directory:
        yield directory


@pytest.fixture(scope="module")
def served(kubectl: Kubectl, place: str, cache: Path) -> Object:
    """The serving pod."""
    storage = {"engineCache": {"persistentVolumeClaim": {"claimName": CACHE_CLAIM}}}
    endpoints.apply(kubectl, place, endpoints.endpoint(NAME, resources=MEMORY, storage=storage))
    return serving(kubectl, place)


@pytest.fixture(scope="module")
def inside(kubectl: Kubectl, place: str, served: Object) -> Object:
    """What the server container sees of itself."""
    pod = served["metadata"]["name"]
    found: Object = json.loads(kubectl.run("exec", "-i", pod, "-n", place, "--", "python3", "-", stdin=LOOK))
    return found


def serving(kubectl: Kubectl, place: str) -> Object:
    """The only pod, once the endpoint is Ready with it."""

    def look() -> Object | None:
        found = endpoints.pods(kubectl, place, NAME)
        return found[0] if len(found) == 1 and endpoints.ready(kubectl, place, NAME) else None

    found: Object = eventually(look, START_SECONDS, f"{NAME} is Ready")
    return found


def test_restricted_pod_security_is_enforced_here(kubectl: Kubectl, place: str) -> None:
    """Else the endpoint's being served would show nothing."""
    plain = {"containers": [{"name": "plain", "image": "plain"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain", "namespace": place}, "spec": plain}
    with pytest.raises(LocalError, match=r'violates PodSecurity "restricted'):
        kubectl.run("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def test_every_process_is_a_user_without_name_and_without_privileges(inside: Object) -> None:
    assert not inside["in_passwd"]
    names = {process["Name"] for process in inside["processes"]}
    assert {"VLLM::EngineCor", "VLLM::Worker"} <= names, "vLLM's own processes were not seen"
    for process in inside["processes"]:
        assert process["Uid"].split() == [str(endpoints.UID)] * 4, process
        assert {process[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}, process
        assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2"), process  # 2: filtered


def test_only_the_pods_volumes_can_be_written(inside: Object) -> None:
    assert inside["root_is_read_only"]
    # The container runtime mounts a queue of its own in each pod; it holds no files.
    assert inside["writable"] == ["/dev/mqueue", "/dev/shm", "/tmp", "/var/cache/berth"]


def test_there_is_no_service_account_token(inside: Object) -> None:
    assert inside["secrets"] == []


def test_a_service_called_vllm_does_not_reach_its_environment(
    kubectl: Kubectl, place: str, served: Object, inside: Object
) -> None:
    (server,) = served["status"]["containerStatuses"]
    service = kubectl.get("service", NAME, "-n", place)
    assert service["metadata"]["creationTimestamp"] <= server["state"]["running"]["startedAt"]
    assert inside["environment"]["VLLM_NO_USAGE_STATS"] == "1", "not the launcher's environment"
    # The API server's own address is in every pod, whatever enableServiceLinks says.
    links = [name for name in inside["environment"] if re.search(r"_SERVICE_HOST$|_PORT$", name)]
    assert [name for name in links if not name.startswith("KUBERNETES_")] == []


def test_vllm_gets_an_hour_to_start(inside: Object) -> None:
    assert inside["environment"]["VLLM_ENGINE_READY_TIMEOUT_S"] == "3600"


def test_shared_memory_has_the_volumes_size(served: Object, inside: Object) -> None:
    volume = next(item for item in served["spec"]["volumes"] if item["name"] == "berth-shm")
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert inside["shm_bytes"] == 1 << 30


def test_shared_memory_of_the_containers_usual_size_is_refused_with_the_reason(kubectl: Kubectl, place: str) -> None:
    small = {"name": "berth-shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}
    template = {"spec": {"volumes": [small]}}
    endpoints.apply(kubectl, place, endpoints.endpoint("small", resources=MEMORY, podTemplate=template))
    found = eventually(
        lambda: endpoints.problem(kubectl, place, "small", "SharedMemoryTooSmall"), START_SECONDS, "the reason"
    )
    assert "MiB required, 64 MiB free" in found["message"]
    assert "berth-shm" in found["suggestion"]
    kubectl.run("delete", "mep", "small", "-n", place)


def test_a_pod_deleted_while_its_engine_loads_does_not_wait_for_its_grace_period(
    kubectl: Kubectl, place: str, served: Object
) -> None:
    """vLLM alone would lose the signal, and hold its accelerator until it is killed."""
    kubectl.run("delete", "pod", served["metadata"]["name"], "-n", place)
    (loading,) = endpoints.pods(kubectl, place, NAME)
    name = loading["metadata"]["name"]
    eventually(
        lambda: "Initializing a V1 LLM engine" in kubectl.try_run("logs", name, "-n", place).stdout,
        START_SECONDS,
        "the engine loads",
    )
    kubectl.run("delete", "pod", name, "-n", place, "--wait=false")
    ends = kubectl.get("pod", name, "-n", place)["metadata"]["deletionTimestamp"]
    eventually(lambda: kubectl.find("pod", name, "-n", place) is None, 2 * GRACE_SECONDS, "the pod is gone")
    assert datetime.now(UTC) < datetime.fromisoformat(ends)


def test_a_later_start_uses_the_engine_cache_of_the_first(
    kubectl: Kubectl, place: str, cache: Path, served: Object
) -> None:
    kept = endpoints.written(cache)
    assert any("modelinfos" in path for path in kept), kept
    later = serving(kubectl, place)
    assert later["metadata"]["uid"] != served["metadata"]["uid"]
    assert endpoints.written(cache) == kept
