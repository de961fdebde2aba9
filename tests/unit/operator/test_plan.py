"""The plan: what a pass writes, and when it writes nothing."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given

from berth.api.conditions import Reason
from berth.api.spec import Backend, Endpoint
from berth.decide.plan import Plan, make_plan
from berth.desired.children import children
from tests.builders import PLATFORM, endpoint, live, observed, parsed
from tests.unit.operator.test_merge import TEMPLATES

Object = dict[str, Any]
Edit = Callable[[Object], None]


def present(edit: Edit = lambda obj: None, **spec: Any) -> list[Object]:
    """The live children of `spec`, the Deployment edited."""
    found = [live(manifest) for manifest in children(parsed(**spec), PLATFORM)]
    edit(found[0])
    return found


def plan(live_children: list[Object], **spec: Any) -> Plan:
    return make_plan(parsed(**spec), observed(endpoint(**spec), live_children=live_children), PLATFORM)


def kinds(manifests: tuple[Object, ...]) -> list[str]:
    return [manifest["kind"] for manifest in manifests]


def test_a_new_endpoint_gets_all_children_the_deployment_first() -> None:
    found = plan([])
    assert kinds(found.apply) == ["Deployment", "Service", "PodDisruptionBudget"]
    assert (found.delete, found.refusal) == ((), None)


def test_nothing_is_written_when_all_is_as_wanted() -> None:
    found = plan(present())
    assert (found.apply, found.delete, found.refusal) == ((), (), None)


@given(TEMPLATES)
def test_after_a_plan_was_applied_there_is_nothing_left_to_do(template: Object) -> None:
    spec = {"podTemplate": template}
    first = plan([], **spec)
    if first.refusal is None:
        assert plan([live(manifest) for manifest in first.apply], **spec).apply == ()


def _scale(obj: Object) -> None:
    obj["spec"]["replicas"] = 5


def _image(obj: Object) -> None:
    obj["spec"]["template"]["spec"]["containers"][0]["image"] = "other"


def _label(obj: Object) -> None:
    del obj["metadata"]["labels"]["app.kubernetes.io/managed-by"]


def _inject(obj: Object) -> None:
    obj["spec"]["template"]["spec"]["containers"].append({"name": "istio-proxy", "image": "x"})
    obj["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "now"


def _delete(obj: Object) -> None:
    _image(obj)
    obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


class Drift(NamedTuple):
    name: str
    edit: Edit
    expect: list[str]


DRIFT = [
    Drift("a changed replica count is set back", _scale, ["Deployment"]),
    Drift("a changed image is set back", _image, ["Deployment"]),
    Drift("a label that was taken is put back", _label, ["Deployment"]),
    Drift("sidecars and restart annotations of others stay", _inject, []),
    Drift("a child that is being deleted is left alone until it is gone", _delete, []),
]


@pytest.mark.parametrize("case", DRIFT, ids=lambda case: case.name)
def test_drift(case: Drift) -> None:
    assert kinds(plan(present(case.edit)).apply) == case.expect


class Change(NamedTuple):
    name: str
    spec: Object
    expect: list[str]


CHANGES = [
    Change("replicas", {"replicas": 3}, ["Deployment"]),
    Change("suspend", {"suspend": True}, ["Deployment"]),
    Change("a flag", {"server": {"args": {"seed": 1}}}, ["Deployment"]),
    Change("the Service's port", {"service": {"port": 8080}}, ["Service"]),
    Change("an annotation of the Service", {"service": {"annotations": {"a": "b"}}}, ["Service"]),
    Change("surge", {"rollout": {"maxSurge": "50%"}}, ["Deployment"]),
]


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.name)
def test_one_field_changes_one_child(case: Change) -> None:
    assert kinds(plan(present(), **case.spec).apply) == case.expect


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.name)
def test_taking_a_field_out_again_changes_the_same_child(case: Change) -> None:
    assert kinds(plan(present(**case.spec)).apply) == case.expect


def test_a_missing_child_is_made_again_alone() -> None:
    assert kinds(plan(present()[1:]).apply) == ["Deployment"]


def _owner(**fields: Any) -> Edit:
    def edit(obj: Object) -> None:
        obj["metadata"]["ownerReferences"] = [{**obj["metadata"]["ownerReferences"][0], **fields}]

    return edit


def _orphan(obj: Object) -> None:
    del obj["metadata"]["ownerReferences"]


def _foreign(obj: Object) -> None:
    del obj["metadata"]["ownerReferences"], obj["metadata"]["labels"]


class Owner(NamedTuple):
    name: str
    edit: Edit
    reason: Reason
    text: str


OWNERS = [
    Owner("nobody's", _foreign, Reason.NAME_TAKEN, "was not made by Berth"),
    Owner("left behind by --cascade=orphan", _orphan, Reason.NAME_TAKEN, "was left without an owner by an endpoint"),
    Owner("another kind's", _owner(uid="x", kind="Rollout", name="demo"), Reason.NAME_TAKEN,
          "is controlled by Rollout demo"),
    Owner("another endpoint's", _owner(uid="x", name="other"), Reason.NAME_TAKEN,
          "is controlled by ModelEndpoint other"),
    Owner("ours by uid, but not as controller", _owner(controller=False), Reason.NAME_TAKEN,
          "was left without an owner"),
    Owner("the deleted endpoint of the same name", _owner(uid="x"), Reason.WAITING_FOR_DELETION,
          "Deployment team-a/demo of the deleted endpoint of the same name is still being removed: wait"),
]  # fmt: skip


@pytest.mark.parametrize("case", OWNERS, ids=lambda case: case.name)
def test_an_object_that_is_not_ours_stops_everything(case: Owner) -> None:
    found = plan(present(case.edit), replicas=2)
    assert (found.apply, found.delete) == ((), ())
    assert found.refusal is not None
    assert found.refusal.reason == case.reason
    assert case.text in found.refusal.message
    assert found.refusal.message.startswith("Deployment team-a/demo ")


def test_the_last_child_taken_stops_the_first_too() -> None:
    foreign = copy.deepcopy(present()[2])
    _orphan(foreign)
    found = plan([foreign])
    assert found.apply == ()
    assert found.refusal is not None
    assert found.refusal.message.startswith("PodDisruptionBudget team-a/demo ")
    assert "delete that PodDisruptionBudget" in found.refusal.message


def test_a_refused_spec_changes_nothing_whatever_the_children_are() -> None:
    for there in ([], present(), present(_image)):
        found = plan(there, server={"args": {"max_model_len": 1}}, replicas=7)
        assert (found.apply, found.delete) == ((), ())
        assert found.refusal is not None
        assert found.refusal.reason == Reason.INVALID_SPEC


class Frozen(NamedTuple):
    """addresses: of the gateway now; None when the slice is not wanted.  expect: those that it has afterwards."""

    name: str
    spec: Object
    addresses: tuple[str, ...] | None
    reason: Reason
    expect: list[str] | None
    service: str = "berth-system/gateway"
    edit: Edit = lambda obj: None


FLAG = {"server": {"args": {"model": "x"}}}
SLEEPS: Object = {"scaling": {"min": 0, "max": 3}}
FROZEN = [
    Frozen("a flag of Berth's", SLEEPS | FLAG, ("10.1.0.7",), Reason.INVALID_SPEC, ["10.1.0.7"]),
    Frozen("a template that cannot be", SLEEPS | {"podTemplate": {"spec": {"restartPolicy": "Never"}}}, ("10.1.0.7",),
           Reason.INVALID_POD_TEMPLATE, ["10.1.0.7"]),
    Frozen("pods serve", SLEEPS | FLAG, (), Reason.INVALID_SPEC, []),
    Frozen("the gateway is as it was", SLEEPS | FLAG, ("10.1.0.1",), Reason.INVALID_SPEC, ["10.1.0.1"]),
    Frozen("it may not sleep any more", {"scaling": {"min": 1, "max": 3}} | FLAG, None, Reason.INVALID_SPEC, None),
    Frozen("no gateway is installed any more", SLEEPS, ("10.1.0.1",), Reason.GATEWAY_MISSING, [], ""),
    Frozen("the slice is somebody else's", SLEEPS | FLAG, ("10.1.0.7",), Reason.INVALID_SPEC, ["10.1.0.1"],
           edit=_orphan),
    Frozen("the Deployment is somebody else's", SLEEPS, ("10.1.0.7",), Reason.NAME_TAKEN, ["10.1.0.7"]),
]  # fmt: skip


def sleeper(addresses: tuple[str, ...] | None, spec: Object) -> Endpoint:
    gateway = None if addresses is None else Backend(port=20001, addresses=addresses)
    return parsed(**spec).model_copy(update={"decided_replicas": 0, "gateway": gateway})


@pytest.mark.parametrize("case", FROZEN, ids=lambda case: case.name)
def test_where_a_spec_is_refused_the_service_follows_the_gateway_s_pods_and_nothing_else_changes(case: Frozen) -> None:
    there = [live(manifest) for manifest in children(sleeper(("10.1.0.1",), SLEEPS), PLATFORM)]
    if case.reason == Reason.NAME_TAKEN:
        _orphan(there[0])
    case.edit(there[-1])
    platform = dataclasses.replace(PLATFORM, gateway_service=case.service)
    seen = observed(endpoint(**case.spec), live_children=there)
    found = make_plan(sleeper(case.addresses, case.spec), seen, platform)
    assert found.refusal is not None
    assert found.refusal.reason == case.reason
    assert {*kinds(found.apply), *kinds(found.delete)} <= {"EndpointSlice"}
    after: Object | None = None if found.delete else next(iter(found.apply), there[-1])
    assert (after and [each["addresses"][0] for each in after["endpoints"]]) == case.expect


def test_a_refused_spec_makes_no_way_to_the_gateway() -> None:
    platform = dataclasses.replace(PLATFORM, gateway_service="berth-system/gateway")
    found = make_plan(sleeper(("10.1.0.1",), SLEEPS | FLAG), observed(endpoint(**SLEEPS, **FLAG)), platform)
    assert (found.apply, found.delete) == ((), ())


def test_all_that_is_wrong_is_in_one_message() -> None:
    found = plan([], server={"args": {"a_b": 1, "c_d": 2}})
    assert found.refusal is not None
    assert "a_b" in found.refusal.message
    assert "c_d" in found.refusal.message


def _autoscaler(edit: Edit = lambda obj: None) -> Object:
    found = {**copy.deepcopy(present()[2]), "kind": "HorizontalPodAutoscaler"}
    edit(found)
    return found


def test_what_is_ours_and_no_longer_wanted_is_deleted() -> None:
    extra = _autoscaler()
    found = plan([*present(), extra])
    assert found.delete == (extra,)
    assert found.apply == ()


@pytest.mark.parametrize("edit", [_orphan, _owner(uid="x"), _owner(controller=False)])
def test_what_is_not_ours_is_never_deleted(edit: Edit) -> None:
    assert plan([*present(), _autoscaler(edit)]).delete == ()


def test_settings_of_the_operator_reach_the_children() -> None:
    other = dataclasses.replace(PLATFORM, payload_image="example.test/berth-server:v2")
    found = make_plan(parsed(), observed(live_children=present()), other)
    assert kinds(found.apply) == ["Deployment"]
