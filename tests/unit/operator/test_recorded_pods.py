"""Diagnoses of real pods: statuses as kubelet 1.34 with containerd and the scheduler wrote them on the local cluster.

Each line of recorded_pods.jsonl is one pod as the cache keeps it, without its labels, addresses and image digests. The
pods were made to fail: an image that is not there, a Secret that is missing, 512 MiB in a container of 64 MiB, …
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from berth.decide.diagnose import diagnose
from tests.builders import observed

Object = dict[str, Any]

LINES = (Path(__file__).parent / "recorded_pods.jsonl").read_text().splitlines()
PODS = {pod["metadata"]["name"]: pod for pod in map(json.loads, LINES)}
MOUNT_EVENTS = {
    "configmap-volume-missing": 'MountVolume.SetUp failed for volume "v" : configmap "nope" not found',
}


class Case(NamedTuple):
    reason: str
    container: str
    message: str


CASES = {
    "image-not-there": Case(
        "ImagePullFailed",
        "server",
        "image localhost/none:1: ErrImagePull: failed to pull and unpack image",
    ),
    "image-name-invalid": Case("ImagePullFailed", "server", "image Not An Image: InvalidImageName: Failed to apply"),
    "secret-missing": Case("ContainerConfigInvalid", "server", 'secret "nope" not found'),
    "configmap-volume-missing": Case("MountFailed", "", 'MountVolume.SetUp failed for volume "v" : configmap "nope"'),
    "launcher-told": Case("UnknownEngineArgument", "server", "vLLM does not know --max-modle-len"),
    "exit-code": Case("ContainerFailed", "server", "container server ended with exit code 3"),
    "exit-zero": Case("ContainerFailed", "server", "container server ended with exit code 0"),
    "out-of-memory": Case("OutOfMemory", "server", "killed by the kernel at its memory limit of 64Mi"),
    "command-missing": Case("ContainerFailed", "server", "container server ended with exit code 128: failed to create"),
    "unschedulable": Case("Unschedulable", "", "scheduler: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
    "not-ready": Case("Starting", "server", "the server container runs, its launcher has not answered yet"),
    "init-fails": Case("ContainerFailed", "berth-payload", "container berth-payload ended with exit code 1: no space"),
    "volume-too-full": Case("PodFailed", "", 'Evicted: Usage of EmptyDir volume "v" exceeds the limit "1Mi".'),
}


def test_every_recording_has_a_case() -> None:
    assert CASES.keys() == PODS.keys()


@pytest.mark.parametrize("name", CASES)
def test_diagnosis(name: str) -> None:
    (problem,) = diagnose(observed(pods=(PODS[name],), mount_events=MOUNT_EVENTS), None)
    assert (problem.pod, str(problem.reason), problem.container) == (name, CASES[name].reason, CASES[name].container)
    assert problem.message.startswith(CASES[name].message)
    assert bool(problem.suggestion) is not problem.waits


@pytest.mark.parametrize("name", ["launcher-told", "exit-code", "exit-zero", "out-of-memory", "init-fails"])
def test_a_crash_loop_is_told_alike_whether_it_waits_or_runs_again(name: str) -> None:
    """Or status would be written at each turn of the loop."""
    told = set()
    for state in ({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}, {"running": {}}, None):
        pod = json.loads(json.dumps(PODS[name]))
        for status in (*pod["status"].get("initContainerStatuses", []), *pod["status"]["containerStatuses"]):
            if ended := status["state"].get("terminated") or status["lastState"].get("terminated"):
                status |= (
                    {"state": {"terminated": ended}}
                    if state is None
                    else {"state": state, "lastState": {"terminated": ended}}
                )
        told.add(tuple(diagnose(observed(pods=(pod,)), None)))
    assert len(told) == 1


def test_an_image_is_told_alike_whether_pulling_failed_or_waits_for_the_next_try() -> None:
    pod = PODS["image-not-there"]
    (server,) = pod["status"]["containerStatuses"]
    waiting = server["state"]["waiting"]
    assert waiting["reason"] == "ImagePullBackOff"
    cause = waiting["message"].split("ErrImagePull: ", 1)[1]
    failed = {**server, "state": {"waiting": {"reason": "ErrImagePull", "message": cause}}}
    other = {**pod, "status": {**pod["status"], "containerStatuses": [failed]}}
    assert diagnose(observed(pods=(pod,)), None) == diagnose(observed(pods=(other,)), None)
