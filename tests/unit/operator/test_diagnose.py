"""From pods to problems: each reason, the order of causes, the launcher's words, what is no problem."""

import json
from typing import Any, NamedTuple

import pytest

from berth.api.conditions import REASON_EXPLANATION, Reason
from berth.decide.diagnose import MAX_TEXT, Problem, diagnose, launcher_message
from tests.builders import container, deployment, endpoint, node, observed, pod

Object = dict[str, Any]
GPU = "nvidia.com/gpu"


def act(reason: Reason) -> str:
    return REASON_EXPLANATION[reason].action


def told(reason: str = "ModelNotFound", message: str = "no such repository", suggestion: str = "Correct it.") -> str:
    return json.dumps({"v": 1, "reason": reason, "message": message, "suggestion": suggestion})


def ended(code: int, message: str = "", reason: str = "Error", **more: Any) -> Object:
    return {"exitCode": code, "reason": reason, **({"message": message} if message else {}), **more}


def waiting(reason: str, message: str = "") -> Object:
    return {"reason": reason, **({"message": message} if message else {})}


def starting(**given: Any) -> Object:
    return pod(ready=False, **given)


def pending(**given: Any) -> Object:
    return starting(phase="Pending", **given)


SCHEDULER = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
NOWHERE = {"status": "False", "reason": "Unschedulable", "message": SCHEDULER}
RUNNING: Object = {"running": {"startedAt": "x"}}
CRASHING: Object = {"waiting": waiting("CrashLoopBackOff")}
CREATING: Object = {"waiting": waiting("ContainerCreating")}


class Case(NamedTuple):
    """seen: what else the pass has read."""

    name: str
    pod: Object
    seen: Object
    expect: Problem | None


def problem(
    reason: str, message: str, suggestion: str | None = None, container: str = "", waits: bool = False
) -> Problem:
    suggestion = act(Reason(reason)) if suggestion is None else suggestion
    return Problem("demo-abc", container, reason, message, suggestion, waits)


LOG = "Read its log: kubectl logs demo-abc -n team-a -c server -p"
ELSEWHERE = pod("other", requests={GPU: "1"})

CASES = [
    Case("a ready pod has none", pod(), {}, None),
    Case("a ready pod that crashed once has none", pod(containers=[container(ready=True, restarts=1, last=ended(1))]),
         {}, None),
    Case("no node fits, and how much is short",
         pending(node=None, scheduled=NOWHERE, requests={GPU: "1"}),
         {"nodes": (node("node-1", {GPU: "1"}),), "bound_pods": (ELSEWHERE,)},
         problem("Unschedulable",
                 "the pod needs 1 nvidia.com/gpu; the node with the most left, node-1, has 0 of 1 free: 1 short; "
                 f"scheduler: {SCHEDULER}",
                 "Ask for less nvidia.com/gpu in spec.resources, free some on node-1, or add a node with enough.")),
    Case("no node has the resource",
         pending(node=None, scheduled=NOWHERE, requests={GPU: "1"}),
         {"nodes": (node(),), "bound_pods": ()},
         problem("Unschedulable", f"the pod needs 1 nvidia.com/gpu, and no node has any; scheduler: {SCHEDULER}",
                 "Add a node that offers nvidia.com/gpu, or remove it from spec.resources.")),
    Case("no node fits for a reason that is no number",
         pending(node=None,
                  scheduled=NOWHERE | {"message": "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: }."}),
         {"nodes": (node("node-1", {"cpu": "4"}),), "bound_pods": ()},
         problem("Unschedulable", "scheduler: 0/1 nodes are available: 1 node(s) had untolerated taint {gpu: }.")),
    Case("nodes that may not be read", pending(node=None, scheduled=NOWHERE), {},
         problem("Unschedulable", f"scheduler: {SCHEDULER}")),
    Case("a gated pod waits", pending(node=None, scheduled={"status": "False", "reason": "SchedulingGated"}), {},
         problem("Starting", "waiting for the scheduler", "", waits=True)),
    Case("an evicted pod",
         starting(phase="Failed", reason="Evicted", message="The node was low on resource: memory."), {},
         problem("PodFailed", "Evicted: The node was low on resource: memory.")),
    Case("a failed pod that says nothing", starting(phase="Failed"), {},
         problem("PodFailed", "Failed: the pod failed")),
    *(Case(f"an image that gives {reason}", pending(containers=[container(waiting=waiting(reason, "not found"))]), {},
           problem("ImagePullFailed", f"image example.test/vllm:v1: {reason}: not found", container="server"))
      for reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")),
    Case("the payload image",
         pending(init=[container("berth-payload", waiting=waiting("ErrImagePull", "denied"))],
                  containers=[container(waiting=waiting("PodInitializing"))]), {},
         problem("ImagePullFailed", "image example.test/vllm:v1: ErrImagePull: denied", container="berth-payload")),
    *(Case(f"a container that gives {reason}",
           pending(containers=[container(waiting=waiting(reason, 'secret "hub" not found'))]), {},
           problem("ContainerConfigInvalid", 'secret "hub" not found', container="server"))
      for reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")),
    Case("a volume that cannot be mounted", pending(containers=[container(**CREATING)]),
         {"mount_events": {"demo-abc": 'configmap "x" not found'}}, problem("MountFailed", 'configmap "x" not found')),
    Case("keys that do not exist", pending(containers=[container(**CREATING)]),
         {"mount_events": {"demo-abc": 'MountVolume.SetUp failed for volume "berth-keys" : secret "keys" not found'}},
         problem("MountFailed", 'MountVolume.SetUp failed for volume "berth-keys" : secret "keys" not found',
                 "Create or repair the claim, Secret or ConfigMap that the message names.")),
    Case("out of memory",
         starting(containers=[container(restarts=1, last=ended(137, reason="OOMKilled"), **CRASHING)]), {},
         problem("OutOfMemory", "killed by the kernel as its node ran out of memory; it has no limit",
                 container="server")),
    Case("the launcher's own reason",
         starting(containers=[container(restarts=3, last=ended(1, told()), **CRASHING)]), {},
         Problem("demo-abc", "server", "ModelNotFound", "no such repository", "Correct it.")),
    Case("the launcher's reason while the container runs again",
         starting(containers=[container(restarts=1, last=ended(1, told()), **RUNNING)]), {},
         Problem("demo-abc", "server", "ModelNotFound", "no such repository", "Correct it.")),
    Case("the present end counts more than the last one",
         starting(containers=[container(restarts=1, last=ended(1), terminated=ended(1, told("TokenRejected")))]), {},
         Problem("demo-abc", "server", "TokenRejected", "no such repository", "Correct it.")),
    Case("an exit code and nothing else", starting(containers=[container(terminated=ended(3))]), {},
         problem("ContainerFailed", "container server ended with exit code 3", LOG, "server")),
    Case("a signal", starting(containers=[container(terminated=ended(137, signal=9))]), {},
         problem("ContainerFailed", "container server ended with signal 9", LOG, "server")),
    Case("words of a container that is not the launcher",
         starting(containers=[container(terminated=ended(2, "panic: no\nconfig\n"))]), {},
         problem("ContainerFailed", "container server ended with exit code 2: panic: no config", LOG, "server")),
    Case("a server that ends well did not end as it should",
         starting(containers=[container(restarts=1, last=ended(0, reason="Completed"), **RUNNING)]), {},
         problem("ContainerFailed", "container server ended with exit code 0", LOG, "server")),
    Case("nor did it the first time", starting(containers=[container(terminated=ended(0, reason="Completed"))]), {},
         problem("ContainerFailed", "container server ended with exit code 0", LOG, "server")),
    Case("an init container that fails",
         pending(init=[container("berth-payload", restarts=2, last=ended(1, "no space"),
                                                   **CRASHING)],
                  containers=[container(waiting=waiting("PodInitializing"))]), {},
         problem("ContainerFailed", "container berth-payload ended with exit code 1: no space",
                 LOG.replace("server", "berth-payload"), "berth-payload")),
    Case("an init container that is done is none",
         starting(init=[container("berth-payload", ready=True, terminated=ended(0, reason="Completed"))],
                  containers=[container(**RUNNING)]), {},
         problem("Starting", "the server container runs, its launcher has not answered yet", "", "server", True)),
    Case("an init container that ran again with success is none",
         starting(init=[container("berth-payload", ready=True, restarts=1, last=ended(1),
                                  terminated=ended(0, reason="Completed"))],
                  containers=[container(**RUNNING)]), {},
         problem("Starting", "the server container runs, its launcher has not answered yet", "", "server", True)),
    Case("containers that are being created", pending(containers=[container(**CREATING)]),
         {}, problem("Starting", "the pod is scheduled, its containers are being created", "", "server", True)),
    Case("not yet looked at by the scheduler", pending(node=None, scheduled={"status": "Unknown"}), {},
         problem("Starting", "waiting for the scheduler", "", waits=True)),
    Case("the launcher's phase", starting(containers=[container(**RUNNING)]),
         {"progress": {"demo-abc": {"v": 1, "phase": "LoadingWeights"}}},
         problem("Starting", "Loading weights", "", "server", True)),
    Case("cause before symptom: the image, not the container that never ran",
         starting(containers=[container("side", waiting=waiting("ErrImagePull", "x")), container(terminated=ended(1))]),
         {"progress": {"demo-abc": {"v": 1, "phase": "Downloading"}}},
         problem("ImagePullFailed", "image example.test/vllm:v1: ErrImagePull: x", container="side")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_diagnose(case: Case) -> None:
    found = diagnose(observed(pods=(case.pod,), **case.seen), deployment(0, 1))
    assert found == ([case.expect] if case.expect else [])


def test_every_reason_of_a_problem_has_a_case() -> None:
    of_problems = {
        "Unschedulable", "PodsNotCreated", "ImagePullFailed", "ContainerConfigInvalid", "OutOfMemory",
        "ContainerFailed", "PodFailed", "MountFailed", "Starting",
    }  # fmt: skip
    assert of_problems <= {reason.value for reason in Reason}
    assert of_problems - {case.expect.reason for case in CASES if case.expect} == {"PodsNotCreated"}


def test_the_memory_limit_is_named() -> None:
    found = starting(containers=[container(terminated=ended(137, reason="OOMKilled"))])
    found["spec"]["containers"][0]["resources"] = {"limits": {"memory": "32Gi"}}
    (told_of,) = diagnose(observed(pods=(found,)), deployment())
    assert told_of.message.endswith("limit of 32Gi")


def test_the_memory_limit_of_an_init_container_is_named() -> None:
    found = pending(init=[container("berth-payload", terminated=ended(137, reason="OOMKilled"))])
    found["spec"]["initContainers"][0]["resources"] = {"limits": {"memory": "64Mi"}}
    (told_of,) = diagnose(observed(pods=(found,)), deployment())
    assert told_of.message.endswith("limit of 64Mi")


QUOTA = 'pods "demo-1" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: 0, limited: 0'


def test_pods_that_are_not_even_created() -> None:
    failing = deployment(
        ready=0,
        of=0,
        conditions=[{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": QUOTA}],
    )
    assert diagnose(observed(), failing) == [
        Problem("", "", Reason.PODS_NOT_CREATED, QUOTA, act(Reason.PODS_NOT_CREATED))
    ]


def test_pods_that_could_be_created_again() -> None:
    mended = deployment(conditions=[{"type": "ReplicaFailure", "status": "False", "message": QUOTA}])
    assert diagnose(observed(), mended) == []


def test_a_pod_that_leaves_is_no_problem() -> None:
    leaving = starting(containers=[container(terminated=ended(1))])
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert diagnose(observed(pods=(leaving,)), deployment()) == []


def test_an_evicted_pod_is_a_problem_until_its_successor_serves() -> None:
    evicted = starting(name="a", phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    crashed = starting(name="b", containers=[container(terminated=ended(1))])
    assert [found.pod for found in diagnose(observed(pods=(evicted, crashed)), deployment(0, 1))] == ["b", "a"]
    assert diagnose(observed(pods=(evicted, pod(name="b"))), deployment(1, 1)) == []
    assert [found.pod for found in diagnose(observed(pods=(evicted, pod(name="b"))), deployment(1, 2))] == ["a"]
    assert diagnose(observed(pods=(evicted,)), deployment(0, 0)) == []


def test_failures_come_before_pods_that_only_need_time_each_by_name() -> None:
    pods = (
        starting(name="d", containers=[container(terminated=ended(1))]),
        starting(name="a", containers=[container(**RUNNING)]),
        starting(name="c", containers=[container(terminated=ended(1))]),
        starting(name="b", containers=[container(**RUNNING)]),
    )
    for order in (pods, pods[::-1]):
        assert [found.pod for found in diagnose(observed(pods=order), None)] == ["c", "d", "a", "b"]


def test_long_texts_are_cut_and_have_one_line() -> None:
    long = starting(containers=[container(terminated=ended(1, "word \n" * 1000))])
    (found,) = diagnose(observed(pods=(long,)), None)
    assert len(found.message) == MAX_TEXT
    assert found.message.endswith("…")
    assert "\n" not in found.message


class Message(NamedTuple):
    name: str
    given: str
    expect: dict[str, str] | None


MESSAGES = [
    Message("all of it", told("A", "b", "c"), {"reason": "A", "message": "b", "suggestion": "c"}),
    Message("without a suggestion", '{"v": 1, "reason": "A", "message": "b"}',
            {"reason": "A", "message": "b", "suggestion": ""}),
    Message("an unknown field is nothing to fear", '{"v": 1, "reason": "A", "message": "b", "new": 1}',
            {"reason": "A", "message": "b", "suggestion": ""}),
    Message("a protocol of the future", '{"v": 2, "reason": "A", "message": "b"}', None),
    Message("no protocol", '{"reason": "A", "message": "b"}', None),
    Message("no reason", '{"v": 1, "message": "b"}', None),
    Message("a reason that is no text", '{"v": 1, "reason": 3, "message": "b"}', None),
    Message("a reason that no condition could have", '{"v": 1, "reason": "out of luck", "message": "b"}', None),
    Message("an empty reason", '{"v": 1, "reason": "", "message": "b"}', None),
    Message("cut in the middle", told()[:-5], None),
    Message("a list", "[1]", None),
    Message("brackets without end", "[" * 4096, None),
    Message("a number", "1", None),
    Message("text", "Traceback (most recent call last)", None),
    Message("nothing", "", None),
]  # fmt: skip


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case.name)
def test_launcher_message(case: Message) -> None:
    assert launcher_message(case.given) == case.expect


def test_a_node_that_does_not_report_is_named() -> None:
    """What the node controller leaves of a pod's conditions: it takes Ready away and gives no reason."""
    lost = pod(ready=False)
    lost["status"]["conditions"] = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]
    [found] = diagnose(observed(endpoint(), pods=(lost,)), None)
    assert (found.reason, found.message) == (
        "NodeNotReady",
        "the containers are ready, but node node-1 does not report any more",
    )
