"""From an HTTP answer to a typed error: every status is mapped, every class can be reached."""

from typing import Any, NamedTuple

import pytest

from berth import errors


def _status(message: str, **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "message": message, "details": details}


TERMINATING = _status(
    "is forbidden: unable to create new content in namespace x because it is being terminated",
    causes=[
        {"reason": "NamespaceTerminating", "message": "namespace x is being terminated", "field": "metadata.namespace"}
    ],
)


class Case(NamedTuple):
    name: str
    status: int
    body: Any
    expect: type[errors.ApiError]


CASES = [
    Case("a body that is no JSON", 400, "bad", errors.Invalid),
    Case("the token is old", 401, _status("Unauthorized"), errors.Unauthorized),
    Case("no permission", 403, _status("forbidden"), errors.Forbidden),
    Case("no permission, without a body", 403, "", errors.Forbidden),
    Case("no permission, without details", 403, {"message": "x", "details": None}, errors.Forbidden),
    Case("the namespace goes away", 403, TERMINATING, errors.NamespaceTerminating),
    Case("not there", 404, _status("not found"), errors.NotFound),
    Case("no such method", 405, _status("x"), errors.ApiError),
    Case("changed in between", 409, _status("conflict"), errors.Conflict),
    Case("the watch has expired", 410, _status("too old resource version: 1 (2)"), errors.Gone),
    Case("the manifest is wrong", 422, _status("is invalid"), errors.Invalid),
    Case("too many requests", 429, _status("slow down"), errors.Busy),
    Case("an unknown field in an apply", 500,
         _status("failed to create typed patch object (a/b; apps/v1, Kind=Deployment): .spec.x: field not declared in "
                 "schema"), errors.Invalid),
    Case("a duplicate key in an apply", 500,
         _status("failed to create typed patch object (a/b; apps/v1, Kind=Deployment): .spec.x: duplicate entries"),
         errors.Invalid),
    Case("an admission webhook that is away", 500,
         _status('Internal error occurred: failed calling webhook "x.example.com": connection refused'),
         errors.Forbidden),
    Case("etcd has no leader", 500, _status("etcdserver: no leader"), errors.Busy),
    Case("a proxy in between", 502, "<html>", errors.Busy),
    Case("not ready", 503, _status("apiserver not ready"), errors.Busy),
    Case("a time-out of the API server", 504, _status("timeout"), errors.Busy),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_class(case: Case) -> None:
    found = errors.api_error(case.status, case.body)
    assert type(found) is case.expect
    assert found.status == case.status


def test_every_class_can_be_reached() -> None:
    known: set[type] = {errors.ApiError}
    while more := {child for parent in known for child in parent.__subclasses__()} - known:
        known |= more
    assert {case.expect for case in CASES} == known


def test_the_tree_at_the_top_of_the_module_names_every_class() -> None:
    named = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(named) > 5
    for name in named:
        assert name in (errors.__doc__ or "")


def test_the_message_is_the_api_server_s_own() -> None:
    assert errors.api_error(404, _status("no such thing")).message == "no such thing"
    assert errors.api_error(502, "<html>").message == "<html>"
    assert str(errors.api_error(404, _status("no such thing"))) == "404: no such thing"


TYPED = "failed to create typed patch object (a/b; apps/v1, Kind=Deployment): errors:\n"


def _invalid(*fields: str) -> dict[str, Any]:
    causes = [{"reason": "FieldValueInvalid", "message": "Invalid value: 1", "field": field} for field in fields]
    told = ", ".join(f"{field}: Invalid value: 1" for field in fields)
    return _status(f'Service "demo" is invalid: [{told}]', causes=causes)


def test_several_causes_are_told_in_one_order_whatever_the_answer() -> None:
    """Recorded from kube-apiserver 1.34: it goes through maps of Go, whose order is random."""
    assert (
        errors.api_error(422, _invalid("b", "a")).message
        == 'Service "demo" is invalid: [a: Invalid value: 1, b: Invalid value: 1]'
    )
    assert errors.api_error(422, _invalid("a", "b")).message == errors.api_error(422, _invalid("b", "a")).message
    found = errors.api_error(500, _status(f"{TYPED}  .spec.b: expected map\n  .spec.a: expected map"))
    assert found.message == f"{TYPED}  .spec.a: expected map\n  .spec.b: expected map"


@pytest.mark.parametrize(
    ("header", "expect"), [(None, None), ("", None), ("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None)]
)
def test_the_wish_when_to_come_again(header: str | None, expect: float | None) -> None:
    assert errors.api_error(429, _status("x"), header).retry_after_seconds == expect
