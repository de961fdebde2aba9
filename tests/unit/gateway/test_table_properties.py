"""The table depends on what is in the cluster, not on how that came about, and a change costs what one endpoint costs.

Input: any sequence of changes. Output: the table, and how many lines ran.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from berth_gateway import claims, objects
from berth_gateway import table as module
from berth_gateway.table import Table
from tests.unit.gateway.objects import Object, address, endpoint, own_slice, pods_slice

KEYS = ("a/x", "a/y", "b/x", "b/y", "c/x")
NAMES = ("x", "y", "m", "n", "a/x", "b/x", "v/m", "v/x")
PORTS = (20000, 20001)
HOSTS = ("1", "2", "3")


@st.composite
def endpoints(draw: st.DrawFn) -> Object:
    """Some state of some endpoint; the time of its creation belongs to its uid."""
    key, second = draw(st.sampled_from(KEYS)), draw(st.integers(0, 3))
    return endpoint(
        key,
        second,
        *draw(st.lists(st.sampled_from(NAMES), max_size=3)),
        source=draw(st.sampled_from(["file:///m", "hf://v/m"])),
        uid=f"{key} {second}",
        suspend=draw(st.booleans()),
    )


ENTRIES = st.builds(
    address,
    st.sampled_from(HOSTS),
    st.sampled_from(["p", "q", ""]),
    ready=st.booleans(),
    terminating=st.booleans(),
)


@st.composite
def slices(draw: st.DrawFn) -> Object:
    """Some state of some slice: the controller's, or Berth's."""
    key, suffix = draw(st.sampled_from(KEYS)), draw(st.sampled_from("st"))
    if draw(st.booleans()):
        return pods_slice(key, *draw(st.lists(ENTRIES, max_size=3)), suffix=suffix, port=draw(st.sampled_from([1, 2])))
    uid = f"{key} {draw(st.integers(0, 3))}"
    return own_slice(key, draw(st.sampled_from(PORTS)), draw(st.integers(0, 2)), uid=uid, suffix=suffix)


CHANGES = st.lists(st.tuples(st.sampled_from(["put", "put", "drop"]), endpoints() | slices()), max_size=30)


def identity(obj: Object) -> tuple[bool, str, str]:
    """Which object it is a state of."""
    return "spec" in obj, obj["metadata"]["namespace"], obj["metadata"]["name"]


def put(table: Table, obj: Object) -> None:
    """An endpoint or a slice."""
    (table.put_endpoint if "spec" in obj else table.put_slice)(obj)


def state(table: Table) -> Any:
    """All that can be asked of a table."""

    def key(found: Any) -> Any:
        return found and (found.key, found.uid)

    return {
        "names": {
            (name, vendor): key(table.find(name, vendor)) for name in (*NAMES, *KEYS) for vendor in (False, True)
        },
        "ports": {port: key(table.by_port(port)) for port in PORTS},
        "reachable": [(name, key(found)) for name, found in table.reachable()],
        "endpoints": {
            found.key: (
                found.uid,
                found.names,
                found.holds,
                found.wanted,
                found.port,
                {at: (pod.name, pod.ready, pod.seed) for at, pod in found.pods.items()},
                sorted((pod.host, pod.port) for pod in found.ready),
            )
            for found in table.endpoints()
        },
    }


def fresh(objects: list[Object]) -> Table:
    """Of these objects, one after the other."""
    table = Table()
    for obj in objects:
        put(table, obj)
    return table


@settings(max_examples=300)
@given(CHANGES, st.randoms(use_true_random=False))
def test_any_order_of_changes_makes_the_table_that_the_objects_left_make(
    changes: list[tuple[str, Object]], random: Any
) -> None:
    table, left = Table(), {}
    for act, obj in changes:
        is_endpoint, namespace, name = identity(obj)
        if act == "put":
            put(table, obj)
            left[identity(obj)] = obj
        else:
            (table.drop_endpoint if is_endpoint else table.drop_slice)(namespace, name)
            left.pop(identity(obj), None)
    objects = list(left.values())
    random.shuffle(objects)
    assert state(table) == state(fresh(objects))


@given(CHANGES)
def test_a_table_from_which_everything_is_gone_holds_nothing(changes: list[tuple[str, Object]]) -> None:
    table = fresh([obj for _, obj in changes])
    for _, obj in changes:
        is_endpoint, namespace, name = identity(obj)
        (table.drop_endpoint if is_endpoint else table.drop_slice)(namespace, name)
    kept = {name: value for name, value in vars(table).items() if name not in ("on_ready", "_reachable")}
    assert {name for name, value in kept.items() if list(value)} == set()


@given(CHANGES)
def test_every_reachable_name_is_found_and_every_holder_claims_its_name(changes: list[tuple[str, Object]]) -> None:
    table = fresh([obj for _, obj in changes])
    assert all(table.find(name) is found for name, found in table.reachable())
    for found in table.endpoints():
        # Its own namespace/name needs no claim.
        assert found.holds | {found.key} == {name for name in found.names if table.find(name) is found} | {found.key}


def lines(act: Callable[[], Any]) -> int:
    """Lines of the table's modules that run."""
    files = {module.__file__, claims.__file__, objects.__file__}
    count = 0

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename in files:
            count += event == "line"
            return trace
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def test_what_changes_and_look_ups_cost_does_not_grow_with_the_number_of_endpoints() -> None:
    def costs(others: int) -> dict[str, int]:
        table = Table()
        for number in range(others):
            key = f"n{number % 50}/e{number}"
            put(table, endpoint(key, number % 60, f"served-{number}", source=f"hf://org/m{number}"))
            put(table, pods_slice(key, "1", "2"))
            put(table, own_slice(key, 30000 + number))
        mine = endpoint("a/mine", 5, "mine", "other")
        return {
            "put": lines(lambda: put(table, mine)),
            "put slice": lines(lambda: put(table, pods_slice("a/mine", "1", "2", "3"))),
            "put own slice": lines(lambda: put(table, own_slice("a/mine", 20000))),
            "put again": lines(lambda: put(table, endpoint("a/mine", 5, "mine"))),
            "find": lines(lambda: table.find("mine")),
            "find namespace/name": lines(lambda: table.find("a/mine")),
            "find vendor/name": lines(lambda: table.find("v/mine", vendor=True)),
            "find nothing": lines(lambda: table.find("nothing", vendor=True)),
            "port": lines(lambda: table.by_port(20000)),
            "drop slice": lines(lambda: table.drop_slice("a", "mine-a")),
            "drop": lines(lambda: table.drop_endpoint("a", "mine")),
        }

    few = costs(10)
    assert all(count > 0 for count in few.values())
    assert costs(5000) == few


def test_a_name_that_everybody_claims_costs_little_more() -> None:
    def cost(others: int) -> int:
        table = Table()
        for number in range(others):
            put(table, endpoint(f"n/e{number}", number % 60, "llama"))
        return lines(lambda: put(table, endpoint("a/mine", 30, "llama"))) + lines(
            lambda: table.drop_endpoint("a", "mine")
        )

    # A step more of a binary search for each doubling; four searches, a line or two each.
    assert cost(5120) - cost(10) <= 9 * 4 * 3
