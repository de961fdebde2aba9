"""What must hold once all is quiet, judged on the live objects; and what must hold of every status ever written.

Twice, so that neither hides a fault of the other: status and children are compared with what Berth's pure functions
make of the live objects, and with rules written by hand that know the steps of the model and nothing of Berth's code.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from berth import errors
from berth.api import names
from berth.api.spec import Endpoint
from berth.decide.admit import Refusal
from berth.decide.differs import differs
from berth.decide.observed import ChildId, Observed
from berth.decide.parse import parse
from berth.decide.plan import make_plan
from berth.decide.refused import refused
from berth.decide.rollout import yielding
from berth.decide.summarize import summarize
from berth.desired.children import children
from berth.desired.platform import Platform
from berth.kube.cache import trim
from berth.kube.resources import BASIC_CHILDREN, BY_KIND, DEPLOYMENTS, ENDPOINTS, PODS
from tests.apiserver.model.book import Book, Told, controller, mine
from tests.apiserver.model.choices import EDITS
from tests.apiserver.model.cluster import Cluster, PodState, Refused, Snapshot

Object = dict[str, Any]
NOW = "2026-01-02T03:04:05Z"
PENDING = PodState({}, "Starting")


def complaints(
    shot: Snapshot, book: Book, pods: dict[str, PodState], healthy: bool, platform: Platform, cluster: Cluster
) -> list[str]:
    """Everything in `shot` that is not as it should be. pods: by uid, as the test reported them.

    healthy: every pod serves, none is on its way out.
    """
    found = [*_dangling(shot, healthy), *_others(shot, book)]
    if over := shot.of(ENDPOINTS).keys() - book.endpoints.keys() - book.leaving:
        found.append(f"endpoints that should be gone: {over}")
    for name, told in book.endpoints.items():
        endpoint = shot.of(ENDPOINTS).get(name)
        if endpoint is None:
            found.append("is missing")
            continue
        said = [*_users(endpoint, told), *_derived(shot, endpoint, platform, cluster)]
        said += [*_by_hand(shot, endpoint, told, pods, healthy), *_as_before(shot, endpoint, told, book, platform)]
        found += [f"{name}: {text}" for text in said]
    return found


def _dangling(shot: Snapshot, healthy: bool) -> Iterator[str]:
    """Nothing is left of what was deleted."""
    alive = {obj["metadata"]["uid"] for obj in shot.every()}
    ours = {names.KIND, "Deployment", "ReplicaSet"}
    for obj in shot.every():
        owners = [owner for owner in obj["metadata"].get("ownerReferences") or [] if owner["kind"] in ours]
        what = f"{obj['kind']} {obj['metadata']['name']}"
        leaving = obj["metadata"].get("deletionTimestamp")
        if any(owner["uid"] not in alive for owner in owners) and (healthy or not leaving):
            yield f"{what} is left of a deleted owner"
        if healthy and leaving and obj["kind"] != names.KIND:
            yield f"{what} is still being deleted"


def _others(shot: Snapshot, book: Book) -> Iterator[str]:
    """What is not Berth's is as it was."""
    for (kind, name), was in book.strangers.items():
        live = shot.objects[kind].get(name)
        if live is None or live["metadata"]["uid"] != was["metadata"]["uid"]:
            yield f"{kind} {name} of somebody else is gone"
            continue
        managers = {entry["manager"] for entry in live["metadata"].get("managedFields") or []}
        same = live["spec"] == was["spec"] and live["metadata"].get("labels") == was["metadata"].get("labels")
        if not same or names.FIELD_MANAGER in managers or live["metadata"].get("ownerReferences"):
            yield f"{kind} {name} of somebody else was changed"
    for kind, name, uid in book.orphans:
        live = shot.objects[kind].get(name)
        if live is None or live["metadata"]["uid"] != uid or controller(live):
            yield f"{kind} {name} was left behind on purpose and is gone, or taken again"
    for kind, name, uid, addition in book.kept:
        live = shot.objects[kind].get(name)
        if live is not None and live["metadata"]["uid"] == uid and not addition.look(live):
            yield f"{kind} {name} lost what somebody else added: {addition.patch}"


def _users(endpoint: Object, told: Told) -> Iterator[str]:
    """The object is its user's; Berth writes status."""
    was = told.live
    for part in ("labels", "annotations", "finalizers"):
        if endpoint["metadata"].get(part) != was["metadata"].get(part):
            yield f"metadata.{part} is {endpoint['metadata'].get(part)}, its user wrote {was['metadata'].get(part)}"
    if endpoint["spec"] != was["spec"]:
        yield f"spec is {endpoint['spec']}, its user wrote {was['spec']}"


def _derived(shot: Snapshot, endpoint: Object, platform: Platform, cluster: Cluster) -> Iterator[str]:
    """The plan for the live objects is empty, or refused; status is what a fresh look makes of them."""
    ep = parse(endpoint)
    if isinstance(ep, Refusal):
        yield f"the schema let pass what cannot be read: {ep.message}"
        return
    seen = _observed(shot, ep, endpoint)
    plan = make_plan(ep, seen, platform)
    refusal = plan.refusal
    for manifest in plan.apply:
        kind = manifest["kind"]
        try:
            cluster.dry_run(BY_KIND[kind], manifest)
        except Refused as answer:
            error = errors.api_error(answer.status, answer.body)
            if isinstance(error, errors.Invalid):
                refusal = refused(kind, error.message)
                break
            yield f"{kind}: {error}"
        else:
            where = differs(manifest, seen.children.get(ChildId(kind, ep.name)))
            yield f"{kind} is not what is wanted: {where}"
    for gone in plan.delete if refusal is None else ():
        yield f"{gone['kind']} {gone['metadata']['name']} is not pruned"
    wanted = _timeless(summarize(ep, seen, refusal, platform, NOW))
    live = _timeless(endpoint.get("status") or {})
    for part in sorted(wanted.keys() | live.keys()):
        if wanted.get(part) != live.get(part):
            yield f"status.{part} is {live.get(part)}, the truth is {wanted.get(part)}"


def _observed(shot: Snapshot, ep: Endpoint, endpoint: Object) -> Observed:
    def belongs(obj: Object) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return bool(names.labels(ep.name).items() <= labels.items())

    live = {
        ChildId(resource.kind, name): trim(resource, obj)
        for resource in BASIC_CHILDREN
        for name, obj in shot.of(resource).items()
        if name == ep.name or belongs(obj)
    }
    pods = [trim(PODS, pod) for pod in shot.of(PODS).values() if belongs(pod)]
    staying = tuple(pod for pod in pods if not pod["metadata"].get("deletionTimestamp"))
    return Observed(endpoint=endpoint, children=live, pods=staying)


def _timeless(status: Object) -> Object:
    def without(items: Iterable[Object] | None, clock: str) -> list[Object]:
        return [{name: value for name, value in item.items() if name != clock} for item in items or []]

    return {
        **status,
        "conditions": without(status.get("conditions"), "lastTransitionTime"),
        "problems": without(status.get("problems"), "since"),
    }


def _by_hand(shot: Snapshot, endpoint: Object, told: Told, pods: dict[str, PodState], healthy: bool) -> Iterator[str]:
    name, spec, status = endpoint["metadata"]["name"], endpoint["spec"], endpoint.get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    generations = {status.get("observedGeneration"), *(item["observedGeneration"] for item in conditions.values())}
    if generations != {endpoint["metadata"]["generation"]} or not {"Ready", "Accepted"} <= conditions.keys():
        yield f"status is of generations {generations}, the spec of {endpoint['metadata']['generation']}"
        return
    own = {child["kind"]: child for child in mine(shot, endpoint)}
    taken = any(name in shot.of(resource) and resource.kind not in own for resource in BASIC_CHILDREN)
    accepted = conditions["Accepted"]
    if (accepted["status"] == "True") != (not told.fault and not taken):
        yield f"Accepted is {accepted['status']}; fault {told.fault!r}, a name is taken: {taken}"
    if told.fault and not taken and accepted["reason"] != told.fault:
        yield f"Accepted says {accepted['reason']}, the spec is {told.fault}"
    if taken and accepted["reason"] not in ("NameTaken", "WaitingForDeletion", told.fault):
        yield f"Accepted says {accepted['reason']}, a child's name is taken"
    deployment = shot.of(DEPLOYMENTS).get(name)
    uids = [owner["uid"] for owner in (deployment or {"metadata": {}})["metadata"].get("ownerReferences") or []]
    deployment = deployment if endpoint["metadata"]["uid"] in uids else None
    counts = (deployment or {}).get("status") or {}
    wanted = 0 if spec.get("suspend") else spec["replicas"]
    for count in ("replicas", "readyReplicas"):
        if status.get(count) != counts.get(count, 0):
            yield f"status.{count} is {status.get(count)}, the Deployment has {counts.get(count, 0)}"
    current = deployment is not None and counts.get("observedGeneration") == deployment["metadata"]["generation"]
    current = current and counts.get("replicas", 0) == counts.get("updatedReplicas", 0)
    serves = bool(counts.get("readyReplicas")) or wanted == 0
    if (conditions["Ready"]["status"] == "True") != (accepted["status"] == "True" and current and serves):
        yield f"Ready is {conditions['Ready']}, the Deployment {counts}"
    yield from _problems(shot, endpoint, deployment, status, pods)
    if told.fault or taken:
        return
    if set(own) != {resource.kind for resource in BASIC_CHILDREN}:
        yield f"the children are {set(own)}"
        return
    if own["Deployment"]["spec"]["replicas"] != wanted:
        yield f"the Deployment wants {own['Deployment']['spec']['replicas']} pods, the spec {wanted}"
    for child in own.values():
        if not names.labels(name).items() <= child["metadata"].get("labels", {}).items():
            yield f"{child['kind']} lacks a label"
    for edited, edit in EDITS.items():
        if edit.look(own[edit.child.kind]) != edit.expect:
            yield f"{edit.child.kind}: {edited} is not put back"
    for chosen in told.fields.values():
        if chosen.look(own[chosen.child.kind]) != chosen.expect:
            yield f"spec.{chosen.name} is {chosen.value}, the child shows {chosen.look(own[chosen.child.kind])}"
    healthy_now = conditions["Ready"]["status"] == "True" and not status["problems"]
    if healthy and not (healthy_now and counts.get("readyReplicas", 0) == counts.get("replicas", 0) == wanted):
        yield f"all pods serve, status is {conditions['Ready']}, {status['problems']}, the Deployment {counts}"


def _problems(
    shot: Snapshot, endpoint: Object, deployment: Object | None, status: Object, reported: dict[str, PodState]
) -> Iterator[str]:
    """Each pod that is not ready is in `problems` with the reason that was reported, and no other is."""
    label = {names.ENDPOINT_LABEL: endpoint["metadata"]["name"]}
    counts = (deployment or {}).get("status") or {}
    complete = deployment is not None and counts.get("readyReplicas", 0) >= deployment["spec"]["replicas"]
    expected = set()
    for name, pod in shot.of(PODS).items():
        state = reported.get(pod["metadata"]["uid"], PENDING)
        over = pod["status"].get("phase") == "Failed"
        if label.items() <= (pod["metadata"].get("labels") or {}).items() and not pod["metadata"].get(
            "deletionTimestamp"
        ):
            expected |= {(name, state.reason)} if state.reason and not (over and complete) else set()
    told = {(problem["pod"], problem["reason"]) for problem in status["problems"]}
    if status["problemCount"] != len(expected) or len(status["problems"]) != min(len(expected), 10):
        yield f"{len(status['problems'])} of {status['problemCount']} problems are told, there are {len(expected)}"
    if not told <= expected:
        yield f"problems are {told}, the pods say {expected}"


def _as_before(shot: Snapshot, endpoint: Object, told: Told, book: Book, platform: Platform) -> Iterator[str]:
    """While the spec is not accepted, children are those of a valid spec before it."""
    name, uid = endpoint["metadata"]["name"], endpoint["metadata"]["uid"]
    if not told.fault or name in book.meddled:
        return
    before = book.settled.get(uid, {})
    wanted: dict[str, list[Object]] = {kind: [{"spec": spec}] for kind, spec in before.items()}
    for body in told.valid:
        ep = parse(body)
        assert isinstance(ep, Endpoint)
        for manifest in (*children(ep, platform), *children(yielding(ep), platform)):
            wanted.setdefault(manifest["kind"], []).append({"spec": manifest["spec"]})
    for child in mine(shot, endpoint):
        where = [differs(spec, child) for spec in wanted.get(child["kind"], [])]
        if all(where):
            yield f"{child['kind']} follows a spec that is not accepted: {where}"
    if missing := set(before) - {child["kind"] for child in mine(shot, endpoint)}:
        yield f"{missing} of the last valid spec are gone"


class History:
    """Every state that an endpoint went through, from watch events."""

    def __init__(self) -> None:
        self._last: dict[str, Object] = {}

    def complaints(self, events: Iterable[Object]) -> list[str]:
        """What must never be, not even for a moment."""
        found = []
        for event in events:
            new = event["object"]
            if event["type"] == "ERROR":
                return [*found, f"the history has a hole: {new}"]
            name, uid = new["metadata"]["name"], new["metadata"]["uid"]
            found += [f"{name}, once: {text}" for text in _moment(new, self._last.get(uid))]
            self._last[uid] = new
        return found


def _moment(new: Object, old: Object | None) -> Iterator[str]:
    for entry in new["metadata"]["managedFields"]:
        if entry["manager"] == names.FIELD_MANAGER and entry.get("subresource") != "status":
            yield f"Berth wrote more than status: {entry}"
    status, before = new.get("status") or {}, (old or {}).get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    if len(conditions) != len(status.get("conditions") or []):
        yield "two conditions of one type"
    if status.get("observedGeneration", 0) < before.get("observedGeneration", 0):
        yield "status went back to an older generation"
    if status.get("observedGeneration", 0) > new["metadata"]["generation"]:
        yield "status is of a generation that does not exist yet"
    if len(status.get("problems") or []) > min(10, status.get("problemCount", 0)):
        yield f"{len(status['problems'])} problems, of {status['problemCount']}"
    ready, accepted = (conditions.get(kind, {}).get("status") for kind in ("Ready", "Accepted"))
    if ready == "True" and (accepted != "True" or "Stalled" in conditions):
        yield f"Ready with {conditions}"
    for item in before.get("conditions") or []:
        now = conditions.get(item["type"])
        if now and now["status"] == item["status"] and now["lastTransitionTime"] != item["lastTransitionTime"]:
            yield f"lastTransitionTime of {item['type']} moved without a flip"
