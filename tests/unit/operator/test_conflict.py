"""When Berth stops writing a field back.

Input: manifests with an intent, times in seconds.  Out: whether an apply is still worth while, and who is named.
Against a real API server: tests/apiserver/test_conflicts.py.
"""

from typing import Any, NamedTuple

import pytest

from berth.api.names import INTENT_ANNOTATION
from berth.decide.conflict import (
    REPAIRS,
    REPAIRS_WITHIN_SECONDS,
    TRUCE_SECONDS,
    Fight,
    after_apply,
    conflict_problem,
    is_truce,
    managers,
)
from berth.decide.observed import Conflict

FIELD = "spec.replicas"


def manifest(intent: str = "a") -> dict[str, Any]:
    return {"metadata": {"annotations": {INTENT_ANNOTATION: intent}}}


def fought(steps: list[tuple[float, str | None, str | None]], intent: str = "a") -> Fight | None:
    """After applies of one intent at these times, each with the field that differed before and after."""
    fight: Fight | None = None
    for at, before, after in steps:
        fight = after_apply(fight, manifest(intent), before, after, at)
    return fight


class Case(NamedTuple):
    name: str
    steps: list[tuple[float, str | None, str | None]]
    truce: bool


CASES = [
    Case("a first apply that is kept", [(0.0, None, None)], False),
    Case("one answer that differs", [(0.0, None, FIELD)], False),
    Case("the same answer twice", [(0.0, None, FIELD), (0.1, FIELD, FIELD)], True),
    Case("another field each time", [(0.0, None, FIELD), (0.1, FIELD, "spec.other")], False),
    Case("a person's edits, repaired", [(float(at), FIELD, None) for at in range(REPAIRS - 1)], False),
    Case("a controller's edits", [(float(at), FIELD, None) for at in range(REPAIRS)], True),
    Case("edits far apart", [((REPAIRS_WITHIN_SECONDS + 1) * at, FIELD, None) for at in range(REPAIRS)], False),
    Case("a repair after the truce that is undone again",
         [*((float(at), FIELD, None) for at in range(REPAIRS)), (REPAIRS + TRUCE_SECONDS, FIELD, None)], True),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_truce(case: Case) -> None:
    soon = case.steps[-1][0] + 1.0
    assert is_truce(fought(case.steps), manifest(), FIELD, soon) is case.truce


def test_a_truce_is_of_one_intent_one_field_and_some_minutes() -> None:
    fight = fought([(0.0, None, FIELD), (0.0, FIELD, FIELD)])
    assert is_truce(fight, manifest(), FIELD, TRUCE_SECONDS - 1)
    assert not is_truce(fight, manifest("b"), FIELD, 1.0)
    assert not is_truce(fight, manifest(), "spec.other", 1.0)
    assert not is_truce(fight, manifest(), None, 1.0)
    assert not is_truce(fight, manifest(), FIELD, TRUCE_SECONDS + 1)
    assert not is_truce(None, manifest(), FIELD, 1.0)


def test_managers_are_those_who_own_the_field() -> None:
    image = {"f:spec": {"f:containers": {'k:{"name":"server"}': {"f:image": {}}}}}
    live = {
        "metadata": {
            "managedFields": [
                {"manager": "berth", "fieldsV1": image},
                {"manager": "zebra", "fieldsV1": image},
                {"manager": "ant", "fieldsV1": {"f:spec": {"f:containers": {'k:{"name":"x"}': {"f:image": {}}}}}},
                {"manager": "scaler", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "empty"},
            ]
        }
    }
    assert managers(live, "spec.containers[0].image") == ("ant", "zebra")
    assert managers(live, "spec.replicas") == ("scaler",)
    assert managers(live, "spec.containers[0].command") == ()
    assert managers({"metadata": {}}, "spec") == ()


@pytest.mark.parametrize(
    ("who", "told"), [((), "an admission webhook or policy sets it"), (("a", "b"), "a and b sets it")]
)
def test_what_is_told(who: tuple[str, ...], told: str) -> None:
    found = conflict_problem(Conflict("Service", "spec.type", who), "demo")
    assert found.reason == "Conflicted"
    assert found.message.startswith("Service demo: spec.type is not what this endpoint says")
    assert told in found.message
    assert found.suggestion
