"""The plan of one pass: which children to apply, which to delete, or why nothing may be touched."""

from dataclasses import dataclass
from typing import Any

from berth.api import names
from berth.api.conditions import Reason
from berth.api.spec import Endpoint
from berth.decide.admit import Refusal, no_gateway, refusals
from berth.decide.differs import differs
from berth.decide.observed import ChildId, Observed, child_id
from berth.decide.rollout import nothing_to_protect, yielding
from berth.desired.children import children
from berth.desired.gateway_slice import gateway_slice
from berth.desired.platform import Platform


@dataclass(frozen=True)
class Plan:
    """apply: manifests to send, in order.  delete: live children that should not exist.

    refusal: why nothing is done, but for the way to the gateway.
    """

    apply: tuple[dict[str, Any], ...] = ()
    delete: tuple[dict[str, Any], ...] = ()
    refusal: Refusal | None = None


def make_plan(ep: Endpoint, seen: Observed, platform: Platform) -> Plan:
    """What this pass writes. A refused spec changes no pods: children of the last valid one keep running."""
    if found := [*refusals(ep), *no_gateway(ep, platform.gateway_service, seen.children)]:
        refusal = Refusal(found[0].reason, "; ".join(refusal.message for refusal in found[:5]))
        return plan_of_refused(ep, seen, platform, refusal)
    wanted = children(ep, platform)
    deployment = next(manifest for manifest in wanted if manifest["kind"] == "Deployment")
    if nothing_to_protect(deployment, seen.children.get(child_id(deployment)), seen.pods):
        wanted = children(yielding(ep), platform)
    for manifest in wanted:
        live = seen.children.get(child_id(manifest))
        if live is not None and (taken := _owner_refusal(ep, live)):
            return plan_of_refused(ep, seen, platform, taken)
    ids = {child_id(manifest) for manifest in wanted}
    return Plan(
        apply=tuple(manifest for manifest in wanted if needs_apply(manifest, seen.children.get(child_id(manifest)))),
        delete=tuple(live for key, live in seen.children.items() if key not in ids and prunable(ep, live)),
    )


def plan_of_refused(ep: Endpoint, seen: Observed, platform: Platform, refusal: Refusal) -> Plan:
    """Where a spec is refused its Service still follows the gateway's pods: their addresses become those of others."""
    live = seen.children.get(ChildId("EndpointSlice", names.gateway_slice(ep.name)))
    if live is None or not prunable(ep, live):
        return Plan(refusal=refusal)
    if ep.gateway is not None and refusal.reason == Reason.GATEWAY_MISSING:
        ep = ep.model_copy(update={"gateway": ep.gateway.model_copy(update={"addresses": ()})})
    wanted = children(ep, platform, (gateway_slice,))
    apply = tuple(manifest for manifest in wanted if needs_apply(manifest, live))
    return Plan(apply=apply, delete=() if wanted else (live,), refusal=refusal)


def needs_apply(wanted: dict[str, Any], live: dict[str, Any] | None) -> bool:
    """True when `live` is missing, was applied with another intent, or was edited in a field that Berth owns."""
    if live is None:
        return True
    if live["metadata"].get("deletionTimestamp"):
        return False
    return differs(wanted, live) is not None


def _controller(live: dict[str, Any]) -> dict[str, Any] | None:
    owners = live["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def leaves_replicas(deployment: dict[str, Any]) -> bool:
    """Whether a Deployment, wanted or live, has a number of replicas that Berth does not write."""
    return names.REPLICAS_LEFT_ANNOTATION in (deployment["metadata"].get("annotations") or {})


def prunable(ep: Endpoint, live: dict[str, Any]) -> bool:
    """True for an object that this endpoint controls and that is not being deleted already."""
    owner = _controller(live)
    return owner is not None and owner["uid"] == ep.uid and not live["metadata"].get("deletionTimestamp")


def _owner_refusal(ep: Endpoint, live: dict[str, Any]) -> Refusal | None:
    """Never apply over an object that this endpoint does not control: garbage collection would later delete it."""
    owner = _controller(live)
    what = f"{live['kind']} {ep.namespace}/{live['metadata']['name']}"
    if owner is not None and owner["uid"] == ep.uid:
        return None
    if owner is not None and (owner["kind"], owner["name"]) == (names.KIND, ep.name):
        text = f"{what} of the deleted endpoint of the same name is still being removed: wait, Berth goes on by itself"
        return Refusal(Reason.WAITING_FOR_DELETION, text)
    orphaned = names.labels(ep.name).items() <= (live["metadata"].get("labels") or {}).items()
    by = "was left without an owner by an endpoint of this name" if orphaned else "was not made by Berth"
    by = f"is controlled by {owner['kind']} {owner['name']}" if owner else by
    text = (
        f"{what} exists already and {by}; Berth does not take over objects of others: "
        f"give the endpoint another name, or delete that {live['kind']}"
    )
    return Refusal(Reason.NAME_TAKEN, text)
