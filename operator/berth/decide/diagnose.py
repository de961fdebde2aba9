"""From pods to problems: what is wrong, and what to do. Order from cause to symptom; the first finding of a pod wins.

The chain per pod: not scheduled → pod failed → image → container configuration → volume → a container failed →
running but not ready.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from berth.api import names
from berth.api.conditions import REASON_EXPLANATION, Reason
from berth.decide.observed import Observed
from berth.decide.progress import progress_text
from berth.decide.shortage import shortages

_IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
     "RegistryUnavailable", "SignatureValidationFailed"}
)  # fmt: skip
_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_BACK_OFF = re.compile(r'^ImagePullBackOff: Back-off pulling image "[^"]*": ')
MAX_TEXT = 1024
# Any program may write a termination message: only what can be the reason of a condition is taken for one.
_REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")


class Problem(NamedTuple):
    """One finding. reason: one of `Reason` or one that the launcher reported.  waits: normal, only not done yet."""

    pod: str
    container: str
    reason: str
    message: str
    suggestion: str = ""
    waits: bool = False


def diagnose(seen: Observed, deployment: Mapping[str, Any] | None) -> list[Problem]:
    """All problems of an endpoint: failures first, then pods that only need time."""
    found = [*_not_created(deployment or {})]
    complete = _complete(deployment or {})
    for pod in sorted(seen.pods, key=lambda pod: (_over(pod), str(pod["metadata"]["name"]))):
        gone = pod["metadata"].get("deletionTimestamp") or (complete and _over(pod))
        if not gone and (problem := _first(pod, seen)):
            found.append(problem)
    return sorted(found, key=lambda problem: problem.waits)


def _not_created(deployment: Mapping[str, Any]) -> Iterator[Problem]:
    for condition in deployment.get("status", {}).get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            yield Problem(
                "", "", Reason.PODS_NOT_CREATED, _clip(condition.get("message", "")), _act(Reason.PODS_NOT_CREATED)
            )


def _complete(deployment: Mapping[str, Any]) -> bool:
    """True when as many pods serve as are wanted."""
    ready: int = deployment.get("status", {}).get("readyReplicas", 0)
    return bool(deployment) and ready >= deployment["spec"].get("replicas", 1)


def _over(pod: dict[str, Any]) -> bool:
    """True for an evicted pod and its like: Kubernetes makes another one and leaves this one lying for long."""
    return pod["status"].get("phase") in ("Failed", "Succeeded")


def _first(pod: dict[str, Any], seen: Observed) -> Problem | None:
    if _condition(pod, "Ready").get("status") == "True":
        return None
    return next((problem for check in CHECKS if (problem := check(pod, seen))), None)


def unschedulable(pod: dict[str, Any]) -> bool:
    """True when the scheduler found no node for the pod."""
    scheduled = _condition(pod, "PodScheduled")
    return scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"


def _unschedulable(pod: dict[str, Any], seen: Observed) -> Problem | None:
    if not unschedulable(pod):
        return None
    said = _condition(pod, "PodScheduled").get("message", "")
    short = shortages(pod, seen.nodes or (), seen.bound_pods or ())
    message = "; ".join([*map(str, short), f"scheduler: {said}"])
    suggestion = _act(Reason.UNSCHEDULABLE)
    if short:
        first = short[0]
        suggestion = (
            f"Ask for less {first.resource} in spec.resources, free some on {first.node}, or add a node with enough."
            if first.node
            else f"Add a node that offers {first.resource}, or remove it from spec.resources."
        )
    return _problem(pod, "", Reason.UNSCHEDULABLE, message, suggestion)


def _pod_failed(pod: dict[str, Any], seen: Observed) -> Problem | None:
    status = pod["status"]
    if status.get("phase") != "Failed":
        return None
    message = f"{status.get('reason', 'Failed')}: {status.get('message', 'the pod failed')}"
    return _problem(pod, "", Reason.POD_FAILED, message)


def _image(pod: dict[str, Any], seen: Observed) -> Problem | None:
    for container in _statuses(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in _IMAGE_REASONS:
            why = f"{waiting['reason']}: {waiting.get('message', '')}"
            # The kubelet says in turns that pulling failed and that it waits before it tries again.
            why = _BACK_OFF.sub("", why)
            return _problem(pod, container["name"], Reason.IMAGE_PULL_FAILED, f"image {container.get('image')}: {why}")
    return None


def _config(pod: dict[str, Any], seen: Observed) -> Problem | None:
    for container in _statuses(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in _CONFIG_REASONS:
            return _problem(pod, container["name"], Reason.CONTAINER_CONFIG_INVALID, waiting.get("message", ""))
    return None


def _mount(pod: dict[str, Any], seen: Observed) -> Problem | None:
    message = seen.mount_events.get(pod["metadata"]["name"])
    return _problem(pod, "", Reason.MOUNT_FAILED, message) if message else None


def _container_failed(pod: dict[str, Any], seen: Observed) -> Problem | None:
    """The present end of a container, or the last one of a container that was restarted and is not ready."""
    for container in _statuses(pod):
        state = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
        # An init container that succeeded counts as ready.
        if state and not container.get("ready"):
            return _ended(pod, container["name"], state)
    return None


def _ended(pod: dict[str, Any], container: str, state: dict[str, Any]) -> Problem:
    if state.get("reason") == "OOMKilled":
        limit = _memory_limit(pod, container)
        where = f"at its memory limit of {limit}" if limit else "as its node ran out of memory; it has no limit"
        return _problem(pod, container, Reason.OUT_OF_MEMORY, f"killed by the kernel {where}")
    told = launcher_message(state.get("message", ""))
    if told:
        return Problem(
            pod["metadata"]["name"], container, told["reason"], _clip(told["message"]), _clip(told["suggestion"])
        )
    ended_by = f"signal {state['signal']}" if state.get("signal") else f"exit code {state.get('exitCode')}"
    message = f"container {container} ended with {ended_by}"
    if state.get("message"):
        message += f": {state['message'].strip()}"
    return _problem(
        pod, container, Reason.CONTAINER_FAILED, message,
        f"Read its log: kubectl logs {pod['metadata']['name']} -n {pod['metadata']['namespace']} -c {container} -p",
    )  # fmt: skip


def launcher_message(text: str) -> dict[str, str] | None:
    """The launcher's termination message: protocol version 1, one JSON line. None for any other text."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.get("v") != 1 or not _REASON.fullmatch(str(told.get("reason", ""))):
        return None
    return {key: str(told.get(key) or "") for key in ("reason", "message", "suggestion")}


def _node_not_ready(pod: dict[str, Any], seen: Observed) -> Problem | None:
    """The kubelet says that the containers are ready, the node controller that the pod is not."""
    if _condition(pod, "ContainersReady").get("status") != "True" or _condition(pod, "Ready").get("reason"):
        return None
    node = pod["spec"].get("nodeName")
    return _problem(
        pod, "", Reason.NODE_NOT_READY, f"the containers are ready, but node {node} does not report any more"
    )


def _not_ready(pod: dict[str, Any], seen: Observed) -> Problem | None:
    told = seen.progress.get(pod["metadata"]["name"])
    if told:
        message = progress_text(told)
    elif pod["status"].get("phase") == "Pending":
        message = (
            "the pod is scheduled, its containers are being created" if _scheduled(pod) else "waiting for the scheduler"
        )
    else:
        message = "the server container runs, its launcher has not answered yet"
    container = names.SERVER_CONTAINER if _scheduled(pod) else ""
    return Problem(pod["metadata"]["name"], container, Reason.STARTING, message, "", waits=True)


def _scheduled(pod: dict[str, Any]) -> bool:
    return bool(pod["spec"].get("nodeName"))


CHECKS: tuple[Callable[[dict[str, Any], Observed], Problem | None], ...] = (
    _unschedulable,
    _pod_failed,
    _image,
    _config,
    _mount,
    _container_failed,
    _node_not_ready,
    _not_ready,
)


def _problem(
    pod: dict[str, Any], container: str, reason: Reason, message: str, suggestion: str | None = None
) -> Problem:
    return Problem(pod["metadata"]["name"], container, reason, _clip(message), _clip(suggestion or _act(reason)))


def _act(reason: Reason) -> str:
    return REASON_EXPLANATION[reason].action


def _clip(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def _condition(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions = pod["status"].get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _statuses(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod["status"]
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _memory_limit(pod: dict[str, Any], container: str) -> str | None:
    for spec in [*(pod["spec"].get("initContainers") or []), *(pod["spec"].get("containers") or [])]:
        if spec["name"] == container:
            return (spec.get("resources", {}).get("limits") or {}).get("memory")
    return None
