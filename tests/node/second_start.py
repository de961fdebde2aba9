"""`make second-start`: what a persistent engine cache saves, compiled and eager, and that pods may share one.

Input: an endpoint with its engine cache on an empty claim; its pod is deleted once it serves, and another one starts.
Before each of the two starts all files of the image and of the model are read, in a pod that has both, so that the page
cache is the same. Out: a table of the launcher's phases and the CPU time of the container, in seconds, for people.
Asserted is only what was used again. Not in `make test`: it takes about seven minutes on two quiet cores.
"""

import re
from typing import Any

import pytest

from local.demo import NAMESPACE
from local.kubectl import Kubectl
from tests.node import endpoints
from tests.waiting import eventually

Object = dict[str, Any]
CLAIM = "engine-cache"
START_SECONDS = 1200.0
READ_ALL = "find /opt/vllm /var/lib/berth/model -type f -exec cat {} + >/dev/null"
CPU_SECONDS = """
try:
    with open("/sys/fs/cgroup/cpuacct/cpuacct.usage") as file:
        print(int(file.read()) / 1e9)
except FileNotFoundError:
    with open("/sys/fs/cgroup/cpu.stat") as file:
        print(int(file.readline().split()[1]) / 1e6)
"""
MODES: dict[str, Object] = {"compiled": {}, "eager": {"enforce-eager": True}}

pytestmark = pytest.mark.timeout(4 * START_SECONDS)


def apply(kubectl: Kubectl, namespace: str, name: str, mode: str, replicas: int = 1) -> None:
    caching = endpoints.endpoint(
        name,
        server={"args": {"max-model-len": 2048, **MODES[mode]}},
        storage={"engineCache": {"persistentVolumeClaim": {"claimName": CLAIM}}},
        replicas=replicas,
        # No accelerator, and little asked for: other endpoints are on the node.
        resources={"limits": {"memory": "6Gi"}, "requests": {"memory": "2Gi"}},
    )
    endpoints.apply(kubectl, namespace, caching)


def read_image_and_model(kubectl: Kubectl) -> None:
    demo = endpoints.pods(kubectl, NAMESPACE, "quickstart")[0]["metadata"]["name"]
    kubectl.run("exec", demo, "-n", NAMESPACE, "--", "sh", "-c", READ_ALL, timeout_seconds=START_SECONDS)


def serving(kubectl: Kubectl, namespace: str, name: str) -> str:
    """The only pod, once the endpoint is Ready with it."""

    def look() -> str | None:
        found = [pod["metadata"]["name"] for pod in endpoints.pods(kubectl, namespace, name)]
        return found[0] if len(found) == 1 and endpoints.ready(kubectl, namespace, name) else None

    found: str = eventually(look, START_SECONDS, f"{name} is Ready")
    return found


def phases(kubectl: Kubectl, namespace: str, pod: str) -> dict[str, float]:
    """Seconds of each phase, from the launcher's lines `(berth) 1.5 s: StartingEngine`; then of the whole, and CPU."""
    log = kubectl.run("logs", pod, "-n", namespace, "-c", "server")
    lines = re.finditer(r"^\(berth\) ([\d.]+) s: (\w+)$", log, re.MULTILINE)
    entered = {"Preparing": 0.0, **{line[2]: float(line[1]) for line in lines}}
    ends = list(entered.values())[1:]
    took = {phase: end - at for (phase, at), end in zip(entered.items(), ends, strict=False)}
    used = kubectl.run("exec", pod, "-n", namespace, "-c", "server", "--", "python3", "-c", CPU_SECONDS)
    return {**took, "total": ends[-1], "CPU": float(used)}


@pytest.mark.parametrize("mode", MODES)
def test_a_second_start_uses_what_the_first_one_left(kubectl: Kubectl, namespace: str, mode: str) -> None:
    with endpoints.engine_cache(kubectl, namespace, CLAIM) as cache:
        read_image_and_model(kubectl)
        apply(kubectl, namespace, "kept", mode)
        pod = serving(kubectl, namespace, "kept")
        first, kept = phases(kubectl, namespace, pod), endpoints.written(cache)
        read_image_and_model(kubectl)
        kubectl.run("delete", "pod", pod, "-n", namespace, timeout_seconds=240)
        second = phases(kubectl, namespace, serving(kubectl, namespace, "kept"))
        print(f"\n| {mode} | {' | '.join(first)} |\n|---|{'---|' * len(first)}")
        for name, seconds in (("first", first), ("second", second)):
            print(f"| {name} | {' | '.join(f'{value:.1f}' for value in seconds.values())} |")
        assert any(path.startswith("vllm/modelinfos/") for path in kept)
        assert any(path.endswith(".so") for path in kept) == (mode == "compiled")
        assert endpoints.written(cache) == kept


def test_two_pods_that_start_at_once_share_one_cache(kubectl: Kubectl, namespace: str) -> None:
    with endpoints.engine_cache(kubectl, namespace, CLAIM) as cache:
        apply(kubectl, namespace, "shared", "compiled", replicas=2)
        eventually(lambda: endpoints.ready(kubectl, namespace, "shared"), START_SECONDS, "both are Ready")
        pods = endpoints.pods(kubectl, namespace, "shared")
        assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods] == [0, 0]
        assert len(list((cache / "torchinductor" / "fxgraph").glob("*/*"))) == 1, "the compiler's key differs"
        assert [path for path in endpoints.written(cache) if path.endswith(".tmp")] == []
