"""Status from what was seen, planned and done. Pure: `now` is an argument and moves only what flips."""

from collections.abc import Mapping, Sequence
from typing import Any

from berth.api import names
from berth.api.conditions import READY_NEEDS, Reason, Type
from berth.api.spec import Endpoint
from berth.api.status import MAX_PROBLEMS
from berth.decide.admit import Refusal, ignored
from berth.decide.conflict import conflict_problem
from berth.decide.diagnose import Problem, diagnose
from berth.decide.observed import ChildId, Conflict, Observed
from berth.decide.progress import progress, revision
from berth.decide.scaled import scaling_active, scaling_status
from berth.desired import engine
from berth.desired.platform import Platform
from berth.desired.service import url, urls

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


def summarize(ep: Endpoint, seen: Observed, refusal: Refusal | None, platform: Platform, now: str) -> dict[str, Any]:
    """The complete status. `refusal` is the plan's, or the API server's own. `now`: RFC 3339, seconds."""
    before = seen.endpoint.get("status") or {}
    deployment = seen.children.get(ChildId("Deployment", ep.name))
    if deployment is not None and not _is_ours(ep, deployment):
        deployment = None
    counts = (deployment or {}).get("status") or {}
    problems = _problems(ep, seen, deployment)
    status: dict[str, Any] = {"observedGeneration": ep.generation}
    if refusal is None:
        status |= {"url": url(ep, platform), "urls": urls(ep, platform), "engine": _engine(ep, seen, platform, before)}
        status |= _model(seen, status["engine"], before)
    else:
        # The last valid spec is the one in use.
        status |= {name: before[name] for name in ("url", "urls", "engine", "model") if name in before}
    if told := progress(seen):
        status["progress"] = told
    if told_of_scaling := scaling_status(ep, seen, before):
        status["scaling"] = told_of_scaling
    status |= {
        "replicas": counts.get("replicas", 0),
        "readyReplicas": counts.get("readyReplicas", 0),
        "selector": ",".join(f"{key}={value}" for key, value in names.selector(ep.name).items()),
        "problems": [_with_since(problem, before, now) for problem in problems[:MAX_PROBLEMS]],
        "problemCount": len(problems),
        "ignored": ignored(ep),
        "conditions": _conditions(ep, deployment, seen, refusal, problems, before, now),
    }
    return status


def _problems(ep: Endpoint, seen: Observed, deployment: Mapping[str, Any] | None) -> list[Problem]:
    """The most important first. That a policy of the cluster has its way is seldom why pods fail: it comes last."""
    fought = [conflict_problem(conflict, ep.name) for conflict in seen.conflicts if conflict.managers]
    admitted = [conflict_problem(conflict, ep.name) for conflict in seen.conflicts if not conflict.managers]
    return [*fought, *diagnose(seen, deployment), *admitted]


def unreadable(endpoint: Mapping[str, Any], refusal: Refusal, now: str) -> dict[str, Any]:
    """Status of an endpoint whose spec cannot be parsed: what was known stays, Accepted and Ready say why."""
    before = endpoint.get("status") or {}
    generation = endpoint["metadata"]["generation"]
    verdict = (False, refusal.reason, refusal.message)
    told = {kind: _condition(kind, verdict, generation, before, now) for kind in (Type.READY, Type.ACCEPTED)}
    told[Type.STALLED] = _condition(Type.STALLED, (True, *verdict[1:]), generation, before, now)
    kept = {old["type"]: old for old in before.get("conditions") or [] if old["type"] != Type.RECONCILING}
    conditions = kept | {str(kind): condition for kind, condition in told.items()}
    return {**before, "observedGeneration": generation, "conditions": [conditions[k] for k in Type if k in conditions]}


def _is_ours(ep: Endpoint, live: Mapping[str, Any]) -> bool:
    return any(owner["uid"] == ep.uid for owner in live["metadata"].get("ownerReferences") or [])


def _engine(ep: Endpoint, seen: Observed, platform: Platform, before: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"image": engine.image(ep, platform), "command": engine.command(ep, platform)}
    told = [
        answer["engine"]["version"] for answer in seen.progress.values() if (answer.get("engine") or {}).get("version")
    ]
    known = before.get("engine") or {}
    version = told[0] if told else known.get("version") if known.get("image") == found["image"] else None
    return found | ({"version": version} if version else {})


def _model(seen: Observed, planned: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What pods told, or have told before of the same model path: it has the source and the revision in it."""
    if told := revision(seen):
        return {"model": {"revision": told}}
    same = (before.get("engine") or {}).get("command", [])[2:3] == planned["command"][2:3]
    return {"model": before["model"]} if same and "model" in before else {}


def _with_since(problem: Problem, before: Mapping[str, Any], now: str) -> dict[str, Any]:
    same = (problem.pod, problem.container, problem.reason)
    since = next(
        (
            old["since"]
            for old in before.get("problems") or []
            if (old.get("pod", ""), old.get("container", ""), old["reason"]) == same
        ),
        now,
    )
    return {
        "pod": problem.pod,
        "container": problem.container,
        "reason": str(problem.reason),
        "message": problem.message,
        "suggestion": problem.suggestion,
        "since": since,
    }


def settling(deployment: Mapping[str, Any] | None, pods: int) -> bool:
    """True while the Deployment controller still acts on the last write: its status is about to change.

    pods: how many are known.
    """
    if deployment is None:
        return True
    status = deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return True
    if any(item["type"] == "ReplicaFailure" and item["status"] == "True" for item in status.get("conditions") or []):
        return False
    wanted, exist = deployment["spec"].get("replicas", 1), status.get("replicas", 0)
    return bool(exist < wanted or pods < exist or (wanted and not status.get("updatedReplicas")))


def _conditions(
    ep: Endpoint,
    deployment: Mapping[str, Any] | None,
    seen: Observed,
    refusal: Refusal | None,
    problems: Sequence[Problem],
    before: Mapping[str, Any],
    now: str,
) -> list[Condition]:
    accepted: Verdict = (True, Reason.ACCEPTED, "the spec can be carried out")
    if refusal is not None:
        accepted = (False, refusal.reason, refusal.message)
    verdicts: dict[Type, Verdict] = {
        Type.ACCEPTED: accepted,
        Type.AVAILABLE: _available(ep, deployment, problems),
        Type.PROGRESSING: _progressing(ep, deployment, refusal, problems),
    }
    verdicts[Type.READY] = _ready(ep, deployment, seen.conflicts, verdicts, problems)
    if active := scaling_active(ep, seen, refusal, before):
        verdicts[Type.SCALING_ACTIVE] = active
    stuck = _stalled(refusal, problems)
    if stuck and not verdicts[Type.READY][0]:
        verdicts[Type.STALLED] = stuck
    elif verdicts[Type.PROGRESSING][0]:
        verdicts[Type.RECONCILING] = verdicts[Type.PROGRESSING]
    return [_condition(kind, verdicts[kind], ep.generation, before, now) for kind in Type if kind in verdicts]


def _available(ep: Endpoint, deployment: Mapping[str, Any] | None, problems: Sequence[Problem]) -> Verdict:
    counts = (deployment or {}).get("status") or {}
    ready, wanted = counts.get("readyReplicas", 0), ep.wanted_replicas
    if ready:
        return (True, Reason.SERVING, f"{ready} of {wanted} replicas serve")
    if not wanted:
        return (False, Reason.SUSPENDED, _suspended(ep))
    if problems:
        return (False, problems[0].reason, _told(problems[0]))
    return (False, Reason.STARTING, "waiting for the pods to be created")


def _suspended(ep: Endpoint) -> str:
    if ep.decided_replicas == 0 and not ep.spec.suspend:
        return "the autoscaler of the Deployment has set the number of replicas to 0"
    return f"{'spec.suspend is true' if ep.spec.suspend else 'spec.replicas is 0'}: no pods are wanted"


def _told(problem: Problem) -> str:
    return f"pod {problem.pod}: {problem.message}" if problem.pod else problem.message


def _rollout(ep: Endpoint, deployment: Mapping[str, Any] | None) -> str | None:
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
    ep: Endpoint, deployment: Mapping[str, Any] | None, refusal: Refusal | None, problems: Sequence[Problem]
) -> Verdict:
    counts = (deployment or {}).get("status") or {}
    ready, wanted = counts.get("readyReplicas", 0), ep.wanted_replicas
    if refusal is not None:
        if deployment is not None and (rollout := _rollout(ep, deployment)):
            return (True, Reason.ROLLING_OUT, f"{rollout}; nothing more is changed while the spec is not accepted")
        waits = refusal.reason == Reason.WAITING_FOR_DELETION
        return (waits, refusal.reason, "waiting" if waits else "nothing is changed while the spec is not accepted")
    if rollout := _rollout(ep, deployment):
        reason = Reason.ROLLING_OUT if counts.get("readyReplicas") else Reason.STARTING
        return (True, reason, rollout)
    if counts.get("replicas", 0) != wanted or ready != wanted:
        reason = Reason.SCALING if ready else Reason.STARTING
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
    rollout = _rollout(ep, deployment)
    if not ep.wanted_replicas and rollout is None:
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


def _condition(kind: Type, verdict: Verdict, generation: int, before: Mapping[str, Any], now: str) -> Condition:
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
