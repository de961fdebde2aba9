"""Which port of the gateway is whose."""

from hypothesis import given
from hypothesis import strategies as st

from berth.api.spec import Backend
from berth.decide.ports import REST_SECONDS, Ports, owners
from berth.desired.children import children
from tests.builders import PLATFORM, live, parsed

THREE = range(20000, 20003)
UIDS = st.sampled_from([f"uid-{number}" for number in range(6)])


def test_no_two_endpoints_get_one_port_and_then_there_is_none() -> None:
    ports = Ports(THREE)
    given = [ports.give(f"uid-{number}", {}, 0.0) for number in range(4)]
    assert sorted(port for port in given if port) == [20000, 20001, 20002]
    assert given[3] is None


def test_an_endpoint_gets_the_same_port_again_also_from_a_new_process() -> None:
    ports = Ports(range(20000, 20500))
    first = ports.give("a", {}, 0.0)
    assert ports.give("a", {}, 1.0) == first
    assert Ports(range(20000, 20500)).give("a", {}, 0.0) == first


def test_what_is_live_is_taken() -> None:
    assert {Ports(THREE).give("a", {20000: "b", 20001: "c"}, 0.0)} == {20002}


def test_a_port_that_was_left_rests_but_not_for_who_left_it() -> None:
    ports = Ports(range(20000, 20001))
    assert ports.give("a", {20000: "a"}, 0.0) == 20000
    now = 1.0
    assert ports.give("b", {}, now) is None
    assert ports.give("b", {}, now + REST_SECONDS - 1) is None
    assert ports.give("a", {}, now + 1) == 20000
    ports = Ports(range(20000, 20001))
    ports.give("a", {20000: "a"}, 0.0)
    ports.give("b", {}, now)
    assert ports.give("b", {}, now + REST_SECONDS) == 20000


def test_a_port_that_was_given_is_taken_before_its_slice_is_there() -> None:
    ports = Ports(range(20000, 20001))
    assert ports.give("a", {}, 0.0) == 20000
    assert ports.give("b", {}, 0.0) is None
    assert ports.give("a", {}, 1.0) == 20000


@given(st.lists(st.tuples(UIDS, st.booleans(), st.floats(0, 200)), max_size=40))
def test_nobody_gets_a_port_within_its_rest(steps: list[tuple[str, bool, float]]) -> None:
    """Endpoints that come and go, each slice seen as soon as it is there."""
    ports, live, left, now = Ports(THREE), dict[int, str](), dict[int, tuple[str, float]](), 0.0
    for uid, stays, wait in steps:
        now += wait
        mine = next((port for port, owner in live.items() if owner == uid), None)
        if stays and mine is None:
            port = ports.give(uid, live, now)
            if port is not None:
                assert port not in live
                owner, at = left.get(port, (uid, now))
                assert owner == uid or now - at >= REST_SECONDS
                live[port] = uid
        elif not stays and mine is not None:
            del live[mine]
            left[mine] = uid, now


def test_owners_are_those_of_berth_s_own_slices() -> None:
    ep = parsed(scaling={"min": 0, "max": 2}).model_copy(update={"gateway": Backend(port=20001)})
    mine = live(children(ep, PLATFORM)[-1])
    labels = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
    theirs = {"metadata": {"labels": labels, "ownerReferences": [{"uid": "service"}]}, "ports": [{"port": 8000}]}
    assert owners([mine, theirs]) == {20001: "uid-of-demo"}
