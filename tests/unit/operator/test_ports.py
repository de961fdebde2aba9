"""Which port of the gateway is whose."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.api.names import Key
from berth.api.spec import Backend
from berth.decide.ports import REST_SECONDS, Ports, port_of
from berth.desired.children import children
from tests.builders import NAMESPACE, PLATFORM, T0, T1, live, parsed

Object = dict[str, Any]

ONE = range(20000, 20001)
THREE = range(20000, 20003)
UIDS = [f"uid-{number}" for number in range(6)]


def slice_of(uid: str, port: int, created: str = T0) -> Object:
    """Berth's own slice of an endpoint."""
    ep = parsed(uid, uid=uid, scaling={"min": 0, "max": 2}).model_copy(update={"gateway": Backend(port=port)})
    found = live(children(ep, PLATFORM)[-1])
    found["metadata"]["creationTimestamp"] = created
    return found


def name_of(uid: str) -> tuple[str, str]:
    return NAMESPACE, f"{uid}-gateway"


def seen(ports: Ports, uid: str, port: int, now: float = 0.0, created: str = T0) -> list[Key]:
    return ports.see(name_of(uid), slice_of(uid, port, created), now)


def test_no_two_endpoints_get_one_port_and_then_there_is_none() -> None:
    ports = Ports(THREE)
    given = [ports.give(f"uid-{number}", 0.0) for number in range(4)]
    assert sorted(port for port in given if port) == [20000, 20001, 20002]
    assert given[3] is None


def test_an_endpoint_gets_the_same_port_again_also_from_a_new_process() -> None:
    ports = Ports(range(20000, 20500))
    first = ports.give("a", 0.0)
    assert ports.give("a", 1.0) == first
    assert Ports(range(20000, 20500)).give("a", 0.0) == first


def test_an_endpoint_gets_the_port_again_that_another_one_made_it_take() -> None:
    ports = Ports(range(20000, 20500))
    first = ports.give("a", 0.0)
    assert first is not None
    ports = Ports(range(20000, 20500))
    seen(ports, "b", first)
    second = ports.give("a", 0.0)
    assert second not in (first, None)
    ports.see(name_of("b"), None, 1.0)
    assert ports.give("a", 2.0 + REST_SECONDS) == second


def test_what_is_live_is_taken() -> None:
    ports = Ports(THREE)
    seen(ports, "b", 20000)
    seen(ports, "c", 20001)
    assert ports.give("a", 0.0) == 20002


def test_a_port_that_was_left_rests_but_not_for_who_left_it() -> None:
    """Of an endpoint that never asked for it: this process came when it had it."""
    for asks_again in (True, False):
        ports, now = Ports(ONE), 5000.0
        seen(ports, "a", 20000)
        assert ports.give("b", now) is None
        ports.see(name_of("a"), None, now)
        assert ports.give("b", now) is None
        assert ports.give("b", now + REST_SECONDS - 1) is None
        assert ports.give("a" if asks_again else "b", now + REST_SECONDS - asks_again) == 20000


def test_the_port_that_an_endpoint_had_before_rests_too() -> None:
    ports = Ports(THREE)
    seen(ports, "a", 20000)
    seen(ports, "a", 20001, 10.0)
    assert [ports.holder(port, 10.0) for port in THREE] == ["a", "a", None]
    assert ports.holder(20000, 10.0 + REST_SECONDS) is None


def test_a_port_that_was_given_is_taken_before_its_slice_is_there() -> None:
    ports = Ports(ONE)
    assert ports.give("a", 0.0) == 20000
    assert ports.give("b", 0.0) is None
    assert ports.give("a", 1.0) == 20000


def test_the_older_slice_has_the_port_and_the_other_endpoint_is_told() -> None:
    ports = Ports(THREE)
    assert seen(ports, "b", 20000, created=T1) == []
    assert seen(ports, "a", 20000, created=T0) == [Key(NAMESPACE, "b")]
    assert ports.holder(20000, 0.0) == "a"
    assert seen(ports, "c", 20000, created=T1) == [Key(NAMESPACE, "b"), Key(NAMESPACE, "c")]
    assert seen(ports, "c", 20000, created=T1) == [], "it is told once"
    ports.see(name_of("a"), None, 0.0)
    assert ports.holder(20000, 0.0) == "b"


def test_a_slice_that_was_left_behind_keeps_its_port_from_everybody() -> None:
    ports, orphan = Ports(ONE), slice_of("a", 20000)
    ports.see(name_of("a"), orphan, 0.0)
    orphan = copy.deepcopy(orphan)
    del orphan["metadata"]["ownerReferences"]
    ports.see(name_of("a"), orphan, 0.0)
    for uid in ("a", "b"):
        assert ports.give(uid, 0.0) is None
    ports.see(name_of("a"), None, 10.0)
    assert ports.give("b", 10.0 + REST_SECONDS - 1) is None
    assert ports.give("b", 10.0 + REST_SECONDS) == 20000


@pytest.mark.parametrize("theirs", [None, [], [{"name": "other", "port": 20000}], [{"name": "http"}]])
def test_a_slice_without_a_port_is_nobody_s(theirs: list[Object] | None) -> None:
    ports, found = Ports(ONE), slice_of("a", 20000) | {"ports": theirs}
    assert ports.see(name_of("a"), found, 0.0) == []
    assert port_of(found) is ports.holder(20000, 0.0) is None


@pytest.mark.parametrize("by", ["endpointslice-controller.k8s.io", "somebody.example", None])
def test_slices_of_others_have_no_port_of_the_gateway(by: str | None) -> None:
    ports, found = Ports(ONE), slice_of("a", 20000)
    found["metadata"]["labels"] |= {"endpointslice.kubernetes.io/managed-by": by}
    ports.see(name_of("a"), found, 0.0)
    assert ports.holder(20000, 0.0) is None


@given(st.lists(st.tuples(st.sampled_from(UIDS), st.booleans(), st.floats(0, 200)), max_size=40))
def test_nobody_gets_a_port_within_its_rest(steps: list[tuple[str, bool, float]]) -> None:
    """Endpoints that come and go, each slice seen as soon as it is there."""
    ports, has, left, now = Ports(THREE), dict[int, str](), dict[int, tuple[str, float]](), 0.0
    for uid, stays, wait in steps:
        now += wait
        mine = next((port for port, owner in has.items() if owner == uid), None)
        if stays and mine is None:
            port = ports.give(uid, now)
            if port is not None:
                assert port not in has
                owner, at = left.get(port, (uid, now))
                assert owner == uid or now - at >= REST_SECONDS
                has[port] = uid
                seen(ports, uid, port, now)
        elif not stays and mine is not None:
            del has[mine]
            left[mine] = uid, now
            ports.see(name_of(uid), None, now)
        assert {port: ports.holder(port, now) for port in has} == has
