"""The conditions of status. Pure: `now` is an argument and moves only what flips."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from berth.api.conditions import READY_NEEDS, Reason, Type
from berth.api.spec import Endpoint
from berth.decide.admit import Refusal
from berth.decide.asleep import about, proof, proven, sleeps, start_seconds
from berth.decide.conflict import conflict_problem
from berth.decide.diagnose import Problem
from berth.decide.load import FULL_SECONDS
from berth.decide.observed import Conflict, Observed
from berth.decide.scaled import scaling_active

Condition = dict[str, Any]
Verdict = tuple[bool, str, str]

# Launcher reasons that no restart will mend: somebody has to change the spec, the image or the model.
PERMANENT = frozenset(
    {
        "KeysMissing",
        "UnknownEngineArgument",
        "InvalidEngineArgument",
        "UnsupportedArchitecture",
        "TokenizerMissing",
        "ModelNotFound",
        "NotAModel",
        "WeightsMissing",
        "ModelUnreadable",
        "RevisionNotFound",
        "ModelGated",
        "TokenMissing",
        "TokenRejected",
        "VllmMissing",
        "VllmTooOld",
    }
)


def conditions(
    ep: Endpoint,
    deployment: Mapping[str, Any] | None,
    seen: Observed,
    refusal: Refusal | None,
    problems: Sequence[Problem],
    before: Mapping[str, Any],
    now: str,
) -> list[Condition]:
    """`status.conditions`. before: status so far."""
    accepted: Verdict = (True, Reason.ACCEPTED, "the spec can be carried out")
    if refusal is not None:
        accepted = (False, refusal.reason, refusal.message)
    mending = [problem.waits or _may_find_room(problem, before, now) for problem in problems]
    waking = all(mending) and _is_waking(ep, deployment, before)
    verdicts: dict[Type, Verdict] = {
        Type.ACCEPTED: accepted,
        Type.AVAILABLE: _available(ep, deployment, problems, waking, _unheard(ep, seen, before), before),
        Type.PROGRESSING: _progressing(ep, deployment, refusal, waking, before),
    }
    verdicts[Type.READY] = _ready(ep, deployment, seen.conflicts, verdicts, problems)
    if active := scaling_active(ep, seen, refusal, before):
        verdicts[Type.SCALING_ACTIVE] = active
    stuck = _stalled(refusal, problems)
    if stuck and not verdicts[Type.READY][0]:
        verdicts[Type.STALLED] = stuck
    elif verdicts[Type.PROGRESSING][0]:
        verdicts[Type.RECONCILING] = verdicts[Type.PROGRESSING]
    return [condition(kind, verdicts[kind], ep.generation, before, now) for kind in Type if kind in verdicts]


def _available(
    ep: Endpoint,
    deployment: Mapping[str, Any] | None,
    problems: Sequence[Problem],
    waking: bool,
    unheard: str,
    before: Mapping[str, Any],
) -> Verdict:
    counts = (deployment or {}).get("status") or {}
    ready, wanted = counts.get("readyReplicas", 0), ep.wanted_replicas
    start = about(start_seconds(before))
    if _is_to_be_proven(ep, before):
        return (False, Reason.STARTING, "a pod has to prove this spec before the endpoint may sleep")
    if _is_asleep(ep):
        if ep.gateway is None or not ep.gateway.addresses:
            return (False, Reason.GATEWAY_NOT_READY, "asleep, and no pod of the gateway is ready to take requests")
        if unheard:
            return (False, Reason.GATEWAY_NOT_READY, f"asleep, and {unheard}")
        return (True, Reason.ASLEEP, f"asleep: a request wakes it{f', which takes {start}' if start else ''}")
    if ready:
        return (True, Reason.SERVING, f"{ready} of {wanted} replicas serve")
    if waking:
        what = _told(problems[0]) if problems else "the pods are being created"
        return (True, Reason.WAKING, f"waking: {what}{f'; a start takes {start}' if start else ''}")
    if not wanted:
        return (False, Reason.SUSPENDED, _suspended(ep))
    if problems:
        return (False, problems[0].reason, _told(problems[0]))
    return (False, Reason.STARTING, "waiting for the pods to be created")


def _is_asleep(ep: Endpoint) -> bool:
    return sleeps(ep) and not ep.wanted_replicas and not ep.replicas_left


def _unheard(ep: Endpoint, seen: Observed, before: Mapping[str, Any]) -> str:
    """Why a request that a gateway holds may wake nothing, "" when nothing is known against it.

    One answer of a gateway that is missing is not yet a reason; a new operator goes by what was told before.
    """
    active = scaling_active(ep, seen, None, before)
    return active[2] if active is not None and active[1] == Reason.GATEWAY_NOT_READY else ""


def _is_to_be_proven(ep: Endpoint, before: Mapping[str, Any]) -> bool:
    """Whether it was edited in its sleep: a pod is about to be started."""
    return _is_asleep(ep) and proven(before) != proof(ep)


def _is_waking(ep: Endpoint, deployment: Mapping[str, Any] | None, before: Mapping[str, Any]) -> bool:
    """Whether the gateway holds requests for pods of a spec that was proven before."""
    if not sleeps(ep) or not ep.wanted_replicas or ep.gateway is None or not ep.gateway.addresses:
        return False
    counts = (deployment or {}).get("status") or {}
    old = counts.get("replicas", 0) > counts.get("updatedReplicas", 0)
    return proven(before) == proof(ep) and not old


def _may_find_room(problem: Problem, before: Mapping[str, Any], now: str) -> bool:
    """Whether another node may still come, or a pod that leaves make room: for so long it only waits."""
    waited = datetime.fromisoformat(now) - datetime.fromisoformat(since(problem, before, now))
    return problem.reason == Reason.UNSCHEDULABLE and waited.total_seconds() < FULL_SECONDS


def since(problem: Problem, before: Mapping[str, Any], now: str) -> str:
    """When it was first seen. before: status so far."""
    same = (problem.pod, problem.container, problem.reason)
    known = (
        str(old["since"])
        for old in before.get("problems") or []
        if (old.get("pod", ""), old.get("container", ""), old["reason"]) == same
    )
    return next(known, now)


def _suspended(ep: Endpoint) -> str:
    if ep.decided_replicas == 0 and not ep.spec.suspend:
        return "the autoscaler of the Deployment has set the number of replicas to 0"
    return f"{'spec.suspend is true' if ep.spec.suspend else 'spec.replicas is 0'}: no pods are wanted"


def _told(problem: Problem) -> str:
    return f"pod {problem.pod}: {problem.message}" if problem.pod else problem.message


def unfinished(ep: Endpoint, deployment: Mapping[str, Any] | None) -> str | None:
    """What keeps the current generation from being the one that serves, or None."""
    if deployment is None:
        return "the Deployment is being created"
    status = deployment.get("status") or {}
    if deployment["spec"].get("paused"):
        return f"the Deployment is paused, go on with: kubectl rollout resume deployment/{ep.name} -n {ep.namespace}"
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "the Deployment controller has not seen the change yet"
    old = status.get("replicas", 0) - status.get("updatedReplicas", 0)
    if old > 0:
        return f"{old} pods of the previous spec still run" if old > 1 else "a pod of the previous spec still runs"
    return None


def _progressing(
    ep: Endpoint,
    deployment: Mapping[str, Any] | None,
    refusal: Refusal | None,
    waking: bool,
    before: Mapping[str, Any],
) -> Verdict:
    counts = (deployment or {}).get("status") or {}
    ready, wanted = counts.get("readyReplicas", 0), ep.wanted_replicas
    if refusal is None and _is_to_be_proven(ep, before):
        return (True, Reason.STARTING, "a pod is about to be started")
    if refusal is None and _is_asleep(ep):
        return (False, Reason.ASLEEP, "there are no pods, as nobody asks for anything")
    if refusal is not None:
        if deployment is not None and (rollout := unfinished(ep, deployment)):
            return (True, Reason.ROLLING_OUT, f"{rollout}; nothing more is changed while the spec is not accepted")
        waits = refusal.reason == Reason.WAITING_FOR_DELETION
        return (waits, refusal.reason, "waiting" if waits else "nothing is changed while the spec is not accepted")
    if rollout := unfinished(ep, deployment):
        reason = Reason.ROLLING_OUT if counts.get("readyReplicas") else Reason.STARTING
        return (True, reason, rollout)
    if counts.get("replicas", 0) != wanted or ready != wanted:
        reason = Reason.SCALING if ready else Reason.WAKING if waking else Reason.STARTING
        return (True, reason, f"{ready} of {wanted} replicas serve")
    if not wanted:
        return (False, Reason.SUSPENDED, "there are no pods, as the spec wants it")
    return (False, Reason.COMPLETE, f"all {wanted} replicas run the current spec")


def _ready(
    ep: Endpoint,
    deployment: Mapping[str, Any] | None,
    conflicts: Sequence[Conflict],
    verdicts: Mapping[Type, Verdict],
    problems: Sequence[Problem],
) -> Verdict:
    """Accepted, available, and the current generation serves. Suspended on purpose is ready: there is no wait.

    What a policy of the cluster makes of a child is the platform's word on the spec; what another writer makes of it
    afterwards is not the spec.
    """
    if not verdicts[Type.ACCEPTED][0]:
        return verdicts[Type.ACCEPTED]
    fought = next((conflict for conflict in conflicts if conflict.managers), None)
    if fought is not None:
        return (False, Reason.CONFLICTED, conflict_problem(fought, ep.name).message)
    if verdicts[Type.AVAILABLE][1] in (Reason.ASLEEP, Reason.WAKING, Reason.GATEWAY_NOT_READY):
        return verdicts[Type.AVAILABLE]
    rollout = unfinished(ep, deployment)
    if not ep.wanted_replicas and rollout is None and verdicts[Type.AVAILABLE][1] != Reason.STARTING:
        return (True, Reason.SUSPENDED, _suspended(ep))
    for needed in READY_NEEDS:
        if not verdicts[needed][0]:
            return (False, verdicts[needed][1], verdicts[needed][2])
    if rollout is not None:
        worst = next((f"; {_told(problem)}" for problem in problems if not problem.waits), "")
        return (False, Reason.ROLLING_OUT, f"{rollout}{worst}")
    return (True, Reason.SERVING, verdicts[Type.AVAILABLE][2])


def _stalled(refusal: Refusal | None, problems: Sequence[Problem]) -> Verdict | None:
    if refusal is not None and refusal.reason != Reason.WAITING_FOR_DELETION:
        return (True, refusal.reason, refusal.message)
    for problem in problems:
        if problem.reason in PERMANENT or problem.reason == Reason.CONFLICTED:
            return (True, problem.reason, problem.message)
    return None


def condition(kind: Type, verdict: Verdict, generation: int, before: Mapping[str, Any], now: str) -> Condition:
    """One condition; its time moves only when it flips."""
    value, reason, message = verdict
    status = str(value)
    old = next((old for old in before.get("conditions") or [] if old["type"] == kind), None)
    flipped = old is None or old["status"] != status
    return {
        "type": str(kind),
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": now if flipped or old is None else old["lastTransitionTime"],
        "reason": str(reason),
        "message": message,
    }
