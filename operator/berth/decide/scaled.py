"""What status says of scaling: what was decided last; until something is, what was told before."""

from collections.abc import Mapping
from typing import Any

from berth.api.conditions import Type
from berth.api.spec import Endpoint
from berth.decide.admit import Refusal
from berth.decide.observed import Observed

Status = Mapping[str, Any]


def scaling_status(ep: Endpoint, seen: Observed, before: Status) -> Status | None:
    """`status.scaling`."""
    if seen.scaled is not None:
        return seen.scaled.status
    told: Status | None = before.get("scaling")
    if told is None or ep.spec.scaling is None:
        return None
    return _suspended(told) if ep.spec.suspend else told


def _suspended(told: Status) -> Status | None:
    """What an endpoint that may sleep knows when it goes on: without it, it would start a pod to prove its spec."""
    if "proven" not in told:
        return None
    kept = {name: told[name] for name in ("targetPerReplica", "startSeconds", "proven") if name in told}
    return {"desired": 0, "explanation": "spec.suspend is true: no pods are wanted", **kept}


def scaling_active(
    ep: Endpoint, seen: Observed, refusal: Refusal | None, before: Status
) -> tuple[bool, str, str] | None:
    """Value, reason and message of the condition ScalingActive."""
    if refusal is not None and ep.spec.scaling is not None:
        return (False, refusal.reason, refusal.message)  # nothing is written, the number of replicas neither
    if seen.scaled is not None:
        return seen.scaled.active
    old = next((old for old in before.get("conditions") or [] if old["type"] == Type.SCALING_ACTIVE), None)
    if old is None or ep.spec.scaling is None or ep.spec.suspend:
        return None
    return (old["status"] == "True", old["reason"], old["message"])
