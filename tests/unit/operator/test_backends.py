"""What EndpointSlices say of the pods behind a Service."""

from typing import Any

import pytest

from berth.decide.backends import addresses, family, takes_requests, told_at
from berth.kube.gateways import Gateways

Object = dict[str, Any]


def slice_of(*endpoints: Object, controllers: bool = True, kind: str = "IPv4", **ports: int) -> Object:
    labels = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"} if controllers else {}
    return {
        "metadata": {"labels": labels},
        "addressType": kind,
        "endpoints": list(endpoints) or None,
        "ports": [{"name": name, "port": port} for name, port in ports.items()],
    }


def at(address: str, pod: str = "", **conditions: bool) -> Object:
    return {"addresses": [address], "conditions": conditions, **({"targetRef": {"name": pod}} if pod else {})}


READY: dict[str, bool] = {"ready": True, "serving": True, "terminating": False}
STARTS: dict[str, bool] = {"ready": False, "serving": False, "terminating": False}
LEAVES: dict[str, bool] = {"ready": False, "serving": True, "terminating": True}
PUBLISHED: dict[str, bool] = {"ready": True, "serving": True, "terminating": True}


@pytest.mark.parametrize(
    ("conditions", "expect"),
    [(READY, True), ({}, True), (STARTS, False), (LEAVES, False), (PUBLISHED, False)],
    ids=["ready", "not said", "starts", "leaves", "leaves and is published"],
)
def test_who_takes_requests(conditions: dict[str, bool], expect: bool) -> None:
    found = slice_of(at("10.0.0.1", **conditions))
    assert takes_requests([slice_of(), found]) == expect
    assert addresses(found) == (("10.0.0.1",) if expect else ())


def test_only_the_controller_s_slices_have_pods() -> None:
    assert not takes_requests([slice_of(at("10.0.0.1", **READY), controllers=False)])
    assert addresses(None) == addresses(slice_of()) == ()


def test_the_family_is_that_of_the_service() -> None:
    theirs = slice_of(kind="IPv6")
    assert family([slice_of(controllers=False), theirs], None) == "IPv6"
    assert family([theirs], slice_of(kind="IPv6", controllers=False)) == "IPv6"


def test_the_family_of_a_service_that_nothing_is_known_of_is_not_guessed() -> None:
    mine = slice_of(kind="IPv6", controllers=False)
    assert family([], None) is family([mine], None) is None
    assert family([mine], mine) == "IPv6", "what is there stays"


def test_a_slice_of_another_family_than_the_service_cannot_stay() -> None:
    assert family([slice_of(kind="IPv6")], slice_of(kind="IPv4", controllers=False)) is None


def test_of_a_service_of_two_families_it_is_always_the_same() -> None:
    both = [slice_of(kind="IPv6"), slice_of(kind="IPv4")]
    assert family(both, None) == family(both[::-1], None) == "IPv4"
    assert family(both, slice_of(kind="IPv6", controllers=False)) == "IPv6"


def test_every_pod_that_still_answers_is_asked_once() -> None:
    both = [
        slice_of(
            at("10.0.0.1", "a", **READY), at("10.0.0.2", "b", **LEAVES), at("10.0.0.3", "c", **STARTS), admin=9090
        ),
        slice_of(at("fd00::1", "a", **READY), at("fd00::4", "d", **READY), kind="IPv6", admin=9090),
        slice_of(at("10.0.0.9", "e", **READY), http=8080),
    ]
    assert told_at(both, "admin") == {"10.0.0.1:9090": True, "10.0.0.2:9090": False, "[fd00::4]:9090": True}


def test_a_pod_that_is_not_ready_for_a_moment_is_asked_on_and_one_that_starts_is_not() -> None:
    found = [slice_of(at("10.0.0.1", "a", **STARTS), at("10.0.0.2", "b", **STARTS), admin=9090)]
    assert told_at(found, "admin") == {}
    assert told_at(found, "admin", {"10.0.0.2:9090"}) == {"10.0.0.2:9090": False}
    gateways = Gateways("berth-system/gateway")
    for version, conditions in enumerate((READY, STARTS, STARTS), start=1):
        told = slice_of(at("10.0.0.1", "a", **conditions), at("10.0.0.2", "b", **STARTS), admin=9090)
        meta = {"name": "g", "namespace": "berth-system", "uid": "g", "resourceVersion": str(version)}
        told["metadata"] = meta | {"labels": {"kubernetes.io/service-name": "gateway"}}
        gateways.cache.put(gateways.resource, told)
        assert gateways.told_at() == {"10.0.0.1:9090": conditions is READY}
