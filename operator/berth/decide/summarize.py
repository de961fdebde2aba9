"""Status from what was seen, planned and done. Pure: `now` is an argument and moves only what flips."""

from collections.abc import Mapping
from typing import Any

from berth.api import names
from berth.api.conditions import Type
from berth.api.spec import Endpoint
from berth.api.status import MAX_PROBLEMS
from berth.decide.admit import Refusal, ignored
from berth.decide.asleep import proof, proven, sleeps
from berth.decide.claims import without_effect
from berth.decide.conflict import conflict_problem
from berth.decide.diagnose import Problem, diagnose
from berth.decide.observed import ChildId, Observed
from berth.decide.progress import progress, revision
from berth.decide.scaled import scaling_status
from berth.decide.verdicts import condition, conditions, since, unfinished
from berth.desired import engine
from berth.desired.platform import Platform
from berth.desired.service import url, urls


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
        status["scaling"] = {**told_of_scaling, **_proven(ep, deployment, seen, refusal, before)}
    status |= {
        "replicas": counts.get("replicas", 0),
        "readyReplicas": counts.get("readyReplicas", 0),
        "selector": ",".join(f"{key}={value}" for key, value in names.selector(ep.name).items()),
        "problems": [_with_since(problem, before, now) for problem in problems[:MAX_PROBLEMS]],
        "problemCount": len(problems),
        "ignored": [*ignored(ep), *without_effect(ep, seen.holders)],
        "conditions": conditions(ep, deployment, seen, refusal, problems, before, now),
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
    told = {kind: condition(kind, verdict, generation, before, now) for kind in (Type.READY, Type.ACCEPTED)}
    told[Type.STALLED] = condition(Type.STALLED, (True, *verdict[1:]), generation, before, now)
    kept = {old["type"]: old for old in before.get("conditions") or [] if old["type"] != Type.RECONCILING}
    conditions = kept | {str(kind): condition for kind, condition in told.items()}
    return {**before, "observedGeneration": generation, "conditions": [conditions[k] for k in Type if k in conditions]}


def _proven(
    ep: Endpoint,
    deployment: Mapping[str, Any] | None,
    seen: Observed,
    refusal: Refusal | None,
    before: Mapping[str, Any],
) -> dict[str, str]:
    """Which spec a pod has proven last, of an endpoint that may sleep."""
    if not sleeps(ep):
        return {}
    fought = any(conflict.kind == "Deployment" for conflict in seen.conflicts)
    serves = ((deployment or {}).get("status") or {}).get("readyReplicas", 0) > 0
    found = (
        proof(ep) if serves and not fought and refusal is None and not unfinished(ep, deployment) else proven(before)
    )
    return {"proven": found} if found else {}


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
    return {
        "pod": problem.pod,
        "container": problem.container,
        "reason": str(problem.reason),
        "message": problem.message,
        "suggestion": problem.suggestion,
        "since": since(problem, before, now),
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
