"""What status says of an endpoint that may sleep: sleeping and waking never flip Ready, failing to wake does."""

from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from berth.api.conditions import Reason
from berth.api.names import Key
from berth.api.spec import Backend, Endpoint
from berth.decide.admit import Refusal
from berth.decide.asleep import proof
from berth.decide.observed import Conflict, Scaled
from berth.decide.plan import make_plan
from berth.decide.summarize import summarize
from tests.builders import NAMESPACE, PLATFORM, T0, T1, container, deployment, endpoint, observed, parsed, pod
from tests.unit.operator.test_summarize import CRASHED, GONE, conditions, message

Object = dict[str, Any]

ZERO = {"min": 0, "max": 3}
HELD = Backend(port=20001, addresses=("10.0.0.7",))
ALONE = Backend(port=20001)
TOLD = {"desired": 1, "explanation": "because", "startSeconds": 41}
STARTS = pod("demo-a", ready=False, containers=[container(running={})])
WAITS = pod(
    "demo-a", node=None, ready=False, phase="Pending",
    scheduled={"status": "False", "reason": "Unschedulable", "message": "0/1 nodes"},
)  # fmt: skip


def status(
    replicas: int,
    live: Object | None = None,
    *pods: Object,
    gateway: Backend | None = HELD,
    proven: bool = True,
    left: bool = False,
    refusal: Refusal | None = None,
    scaled: Scaled | None = None,
    now: str = T0,
    before: Object | None = None,
    conflicts: tuple[Conflict, ...] = (),
    **spec: Any,
) -> Object:
    """Status with so many replicas decided on. before: status so far, by default that the spec is proven."""
    ep = sleeper(**spec).model_copy(update={"decided_replicas": replicas, "gateway": gateway, "replicas_left": left})
    told = TOLD | ({"proven": proof(ep)} if proven else {})
    raw = endpoint(status=before or {"scaling": told}, **{"scaling": ZERO, **spec})
    seen = observed(raw, live_children=[live] if live else [], pods=pods, scaled=scaled, conflicts=conflicts)
    return summarize(ep, seen, refusal, PLATFORM, now)


def sleeper(**spec: Any) -> Endpoint:
    return parsed(**{"scaling": ZERO, **spec})


class Case(NamedTuple):
    name: str
    given: tuple[Any, ...]
    more: Object
    expect: dict[str, tuple[str, str]]
    says: str = ""


CASES = [
    Case("asleep", (0, deployment(0, 0)), {},
         {"Ready": ("True", "Asleep"), "Available": ("True", "Asleep"), "Progressing": ("False", "Asleep")},
         "asleep: a request wakes it, which takes about 41 s"),
    Case("edited in its sleep", (0, deployment(0, 0)), {"proven": False},
         {"Ready": ("False", "Starting"), "Available": ("False", "Starting"), "Progressing": ("True", "Starting"),
          "Reconciling": ("True", "Starting")},
         "a pod has to prove this spec before the endpoint may sleep"),
    Case("asleep, the last pod still leaves", (0, deployment(1, 1), pod()), {},
         {"Ready": ("True", "Asleep"), "Available": ("True", "Asleep"), "Progressing": ("False", "Asleep")}),
    Case("asleep before the controller has seen it", (0, deployment(1, 1, generation=2, observed=1), pod()), {},
         {"Ready": ("True", "Asleep"), "Available": ("True", "Asleep"), "Progressing": ("False", "Asleep")}),
    Case("asleep, and nobody could wake it", (0, deployment(0, 0)), {"gateway": ALONE},
         {"Ready": ("False", "GatewayNotReady"), "Available": ("False", "GatewayNotReady"),
          "Progressing": ("False", "Asleep")},
         "asleep, and no pod of the gateway is ready to take requests"),
    Case("asleep, and no gateway is installed", (0, deployment(0, 0)),
         {"gateway": ALONE, "refusal": Refusal(Reason.GATEWAY_MISSING, "install it")},
         {"Ready": ("False", "GatewayMissing"), "Accepted": ("False", "GatewayMissing"),
          "Available": ("False", "GatewayNotReady"), "Progressing": ("False", "GatewayMissing"),
          "ScalingActive": ("False", "GatewayMissing"), "Stalled": ("True", "GatewayMissing")}),
    Case("waking, no pod yet", (1, deployment(0, 1)), {},
         {"Ready": ("True", "Waking"), "Available": ("True", "Waking"), "Progressing": ("True", "Waking"),
          "Reconciling": ("True", "Waking")},
         "waking: the pods are being created; a start takes about 41 s"),
    Case("waking", (1, deployment(0, 1), STARTS), {},
         {"Ready": ("True", "Waking"), "Available": ("True", "Waking"), "Progressing": ("True", "Waking"),
          "Reconciling": ("True", "Waking")},
         "waking: pod demo-a: the server container runs, its launcher has not answered yet; a start takes about 41 s"),
    Case("awake", (1, deployment(1, 1), pod()), {"gateway": ALONE},
         {"Ready": ("True", "Serving"), "Available": ("True", "Serving"), "Progressing": ("False", "Complete")}),
    Case("a wake that fails", (1, deployment(0, 1), CRASHED), {},
         {"Ready": ("False", "ContainerFailed"), "Available": ("False", "ContainerFailed"),
          "Progressing": ("True", "Starting"), "Reconciling": ("True", "Starting")}),
    Case("a wake that fails for good", (1, deployment(0, 1), GONE), {},
         {"Ready": ("False", "ModelNotFound"), "Available": ("False", "ModelNotFound"),
          "Progressing": ("True", "Starting"), "Stalled": ("True", "ModelNotFound")}),
    Case("no room to wake yet", (1, deployment(0, 1), WAITS), {},
         {"Ready": ("True", "Waking"), "Available": ("True", "Waking"), "Progressing": ("True", "Waking"),
          "Reconciling": ("True", "Waking")},
         "waking: pod demo-a: scheduler: 0/1 nodes; a start takes about 41 s"),
    Case("a first start is no wake", (1, deployment(0, 1), STARTS), {"proven": False},
         {"Ready": ("False", "Starting"), "Available": ("False", "Starting"), "Progressing": ("True", "Starting"),
          "Reconciling": ("True", "Starting")}),
    Case("a start that nobody holds requests for is no wake", (1, deployment(0, 1), STARTS), {"gateway": ALONE},
         {"Ready": ("False", "Starting"), "Available": ("False", "Starting"), "Progressing": ("True", "Starting"),
          "Reconciling": ("True", "Starting")}),
    Case("a rollout is no wake", (1, deployment(0, 2, updated=1), STARTS), {},
         {"Ready": ("False", "Starting"), "Available": ("False", "Starting"), "Progressing": ("True", "Starting"),
          "Reconciling": ("True", "Starting")}),
    Case("suspended is not asleep", (0, deployment(0, 0)), {"suspend": True, "gateway": None},
         {"Ready": ("True", "Suspended"), "Available": ("False", "Suspended"), "Progressing": ("False", "Suspended")}),
    Case("what another autoscaler has set to zero is not asleep", (0, deployment(0, 0)), {"left": True},
         {"Ready": ("True", "Suspended"), "Available": ("False", "Suspended"), "Progressing": ("False", "Suspended")}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_conditions_at_zero(case: Case) -> None:
    found = status(*case.given, **case.more)
    assert {"Accepted": ("True", "Accepted")} | case.expect == conditions(found)
    if case.says:
        assert message(found, "Ready") == case.says


def test_no_room_to_wake_is_a_failure_when_it_has_lasted() -> None:
    before = status(1, deployment(0, 1), WAITS, now="2026-01-02T03:00:00Z")
    for now, expect in (
        ("2026-01-02T03:09:59Z", ("True", "Waking")),
        ("2026-01-02T03:10:00Z", ("False", "Unschedulable")),
    ):
        found = status(1, deployment(0, 1), WAITS, now=now, before=before)
        assert conditions(found)["Ready"] == expect
        assert found["problems"][0]["since"] == "2026-01-02T03:00:00Z"
    assert conditions(status(1, deployment(0, 1), WAITS, proven=False))["Ready"] == ("False", "Unschedulable")


def test_without_a_measured_start_nothing_is_estimated() -> None:
    before = {"scaling": {"proven": proof(sleeper())}}
    assert message(status(0, deployment(0, 0), before=before), "Ready") == "asleep: a request wakes it"
    assert message(status(1, deployment(0, 1), before=before), "Ready") == "waking: the pods are being created"


def test_sleeping_and_waking_move_no_time_of_ready() -> None:
    life: list[tuple[Any, ...]] = [
        (1, deployment(1, 1), pod()),
        (0, deployment(1, 1), pod()),
        (0, deployment(0, 0)),
        (2, deployment(0, 2)),
        (2, deployment(0, 2), STARTS),
        (2, deployment(1, 2), pod()),
    ]
    before = status(*life[0], now=T0)
    for given in life[1:]:
        before = status(*given, before=before | {"scaling": before["scaling"]}, now=T1)
        found = {item["type"]: item for item in before["conditions"]}
        for kind in ("Ready", "Available"):
            assert (found[kind]["status"], found[kind]["lastTransitionTime"]) == ("True", T0)


def test_a_pod_that_serves_the_spec_of_now_proves_it() -> None:
    other = {"scaling": TOLD | {"proven": "another"}}
    mine = proof(sleeper())
    assert status(1, deployment(1, 1), pod(), before=other)["scaling"]["proven"] == mine
    assert status(1, deployment(0, 1), STARTS, before=other)["scaling"]["proven"] == "another"
    assert status(1, deployment(1, 2, updated=1), pod(), before=other)["scaling"]["proven"] == "another"
    unseen = deployment(1, 1, generation=2, observed=1)
    assert status(1, unseen, pod(), before=other)["scaling"]["proven"] == "another"
    refused = Refusal(Reason.INVALID_SPEC, "x")
    assert status(1, deployment(1, 1), pod(), before=other, refusal=refused)["scaling"]["proven"] == "another"
    fought = (Conflict("Deployment", "spec.template", ("them",)),)
    assert status(1, deployment(1, 1), pod(), before=other, conflicts=fought)["scaling"]["proven"] == "another"
    assert "proven" not in status(1, deployment(0, 1), proven=False)["scaling"]
    decided = Scaled(1, (), TOLD, (True, Reason.LOAD_KNOWN, "known"))
    kept = {"min": 1, "max": 2}
    assert "proven" not in status(1, deployment(1, 1), pod(), scaling=kept, scaled=decided)["scaling"]


def test_a_decision_keeps_what_was_proven() -> None:
    scaled = Scaled(0, (), {"desired": 0, "explanation": "no requests"}, (True, Reason.LOAD_KNOWN, "known"))
    found = status(0, deployment(0, 0), scaled=scaled)["scaling"]
    assert found == {"desired": 0, "explanation": "no requests", "proven": proof(sleeper())}


SILENT = "the gateway at 10.0.0.7:9090 does not tell what it holds"


def test_asleep_with_a_gateway_that_cannot_be_asked_is_not_ready_before_and_after_a_restart() -> None:
    told = {"desired": 0, "explanation": "kept at 0", "proven": proof(sleeper())}
    silent = Scaled(0, (), told, (False, Reason.GATEWAY_NOT_READY, SILENT))
    found = status(0, deployment(0, 0), scaled=silent)
    for kind in ("Ready", "Available"):
        assert conditions(found)[kind] == ("False", "GatewayNotReady")
    assert message(found, "Ready") == f"asleep, and {SILENT}"
    found = status(0, deployment(0, 0), before=found)
    assert conditions(found)["Ready"] == ("False", "GatewayNotReady"), "a new operator has decided nothing yet"
    known = Scaled(0, (), told, (True, Reason.LOAD_KNOWN, "no pod is ready; the gateway tells what waits"))
    assert conditions(status(0, deployment(0, 0), before=found, scaled=known))["Ready"] == ("True", "Asleep")


def test_awake_a_gateway_that_cannot_be_asked_takes_nothing_from_ready() -> None:
    silent = Scaled(1, (), TOLD, (False, Reason.GATEWAY_NOT_READY, SILENT))
    assert conditions(status(1, deployment(1, 1), pod(), scaled=silent))["Ready"] == ("True", "Serving")


def test_suspended_it_keeps_what_was_proven_and_how_long_that_took() -> None:
    told = {"desired": 0, "explanation": "no requests", "startSeconds": 41, "targetPerReplica": 179}
    before = {"scaling": told | {"proven": proof(sleeper())}}
    suspended = status(0, deployment(0, 0), before=before, suspend=True, gateway=None)
    again = status(0, deployment(0, 0), before=suspended)
    assert again["scaling"].items() >= {"proven": proof(sleeper()), "startSeconds": 41, "targetPerReplica": 179}.items()
    assert conditions(again)["Ready"] == ("True", "Asleep")


def test_names_that_others_hold_are_without_effect() -> None:
    ep = sleeper(model={"source": "pvc://a/b", "servedNames": ["one", "two"]}, replicas=3)
    found = summarize(ep, observed(holders={"two": Key("b", "older")}), None, PLATFORM, T0)["ignored"]
    assert [entry["field"] for entry in found] == ["spec.replicas", "spec.model.servedNames[two]"]


@pytest.mark.parametrize(
    ("spec", "service", "namespaces", "refused"),
    [
        ({"scaling": ZERO}, "", (), True),
        ({"scaling": ZERO}, "berth-system/gateway", (), False),
        ({"scaling": ZERO}, "berth-system/gateway", ("team-b", NAMESPACE), False),
        ({"scaling": ZERO}, "berth-system/gateway", ("team-b",), True),
        ({"scaling": {"min": 1, "max": 2}}, "", (), False),
        ({"scaling": {"min": 1, "max": 2}}, "berth-system/gateway", ("team-b",), False),
        ({"scaling": ZERO, "suspend": True}, "", (), False),
        ({}, "", (), False),
    ],
    ids=[
        "none installed", "installed", "one of its namespaces", "none of its namespaces",
        "never sleeps", "never sleeps elsewhere", "suspended", "no scaling",
    ],
)  # fmt: skip
def test_what_may_sleep_needs_a_gateway(spec: Object, service: str, namespaces: tuple[str, ...], refused: bool) -> None:
    platform = replace(PLATFORM, gateway_service=service, gateway_namespaces=namespaces).within(NAMESPACE)
    found = make_plan(parsed(**spec), observed(endpoint(**spec)), platform)
    assert (found.refusal is not None) == refused
    if found.refusal is not None:
        assert found.refusal.reason == Reason.GATEWAY_MISSING
        assert found.apply == found.delete == ()
        assert not found.refusal.message.endswith("until then")
        for said in ("spec.scaling.min is 0", f"namespace {NAMESPACE}", "gateway.enabled", "gateway.namespaces"):
            assert said in found.refusal.message


def test_asleep_without_a_gateway_it_is_said() -> None:
    seen = observed(endpoint(scaling=ZERO), live_children=[deployment(0, 0)])
    found = make_plan(sleeper(), seen, PLATFORM)
    assert found.refusal is not None
    assert found.refusal.message.endswith("It is asleep, and stays so until then")
