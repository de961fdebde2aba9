"""When to stop writing a field back: somebody else sets it again each time. Pure; `now` is monotonic seconds."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from berth.api import names
from berth.api.conditions import REASON_EXPLANATION, Reason
from berth.decide.diagnose import Problem
from berth.decide.observed import Conflict

# An admission webhook answers the same apply the same way: the second time proves it.
SAME_ANSWERS = 2
# A person undoes something once or twice; a controller within moments, again and again.
REPAIRS = 5
REPAIRS_WITHIN_SECONDS = 60.0
# How long a conflict is believed in before one apply tries again.
TRUCE_SECONDS = 600.0

_STEP = re.compile(r"[^.\[\]]+|\[\d+\]")


class Fight(NamedTuple):
    """What happened to a child's intent so far.

    intent: hash of what was applied.  field: that differed.  repairs: applies of that intent, one soon after the other.
    answers: of these, how many came back different.  until: no apply before, 0 while there is no conflict.
    """

    intent: str
    field: str
    repairs: int
    answers: int
    at: float
    until: float = 0.0


def intent(manifest: Mapping[str, Any]) -> str:
    """Hash of what a manifest, or a live child, was made from."""
    return str((manifest["metadata"].get("annotations") or {}).get(names.INTENT_ANNOTATION, ""))


def is_truce(fight: Fight | None, manifest: Mapping[str, Any], field: str | None, now: float) -> bool:
    """True when applying `manifest` once more would change nothing. field: that differs in the live child."""
    return fight is not None and (fight.intent, fight.field) == (intent(manifest), field) and now < fight.until


def after_apply(
    fight: Fight | None, manifest: Mapping[str, Any], before: str | None, after: str | None, now: float
) -> Fight | None:
    """The state after an apply. before, after: first field that differed in the live child and in the answer."""
    field = after or before
    if field is None:
        return None
    same = fight is not None and (fight.intent, fight.field) == (intent(manifest), field)
    if fight is None or not same or now > max(fight.at, fight.until) + REPAIRS_WITHIN_SECONDS:
        return Fight(intent(manifest), field, 1, int(after is not None), now)
    repairs, answers = fight.repairs + 1, fight.answers + (after is not None)
    stop = answers >= SAME_ANSWERS or repairs >= REPAIRS
    return Fight(fight.intent, field, repairs, answers, now, now + TRUCE_SECONDS if stop else 0.0)


def managers(live: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """Field managers other than Berth that own a field of an object, by its managedFields.

    The path's list positions match any item: managedFields name items by their keys.
    """
    steps = list(_STEP.findall(field))
    found = {
        str(entry.get("manager"))
        for entry in live["metadata"].get("managedFields") or []
        if entry.get("manager") != names.FIELD_MANAGER and _owns(entry.get("fieldsV1") or {}, steps)
    }
    return tuple(sorted(found))


def _owns(fields: Mapping[str, Any], steps: Sequence[str]) -> bool:
    if not steps:
        return True
    if steps[0].startswith("["):
        return any(_owns(inside, steps[1:]) for key, inside in fields.items() if key[:2] in ("k:", "v:"))
    inside = fields.get(f"f:{steps[0]}")
    return inside is not None and _owns(inside, steps[1:])


def conflict_problem(conflict: Conflict, name: str) -> Problem:
    """What is told of a conflict."""
    who = (
        f"{' and '.join(conflict.managers)} sets it" if conflict.managers else "an admission webhook or policy sets it"
    )
    message = (
        f"{conflict.kind} {name}: {conflict.field} is not what this endpoint says: {who} again after each write; "
        f"Berth has stopped writing it, and tries again every {TRUCE_SECONDS / 60:.0f} min"
    )
    return Problem("", "", Reason.CONFLICTED, message, REASON_EXPLANATION[Reason.CONFLICTED].action)
