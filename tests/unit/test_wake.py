"""What an observer of a wake makes of the objects it sees."""

from typing import Any

import pytest

from tests.node import wake

POD = {"metadata": {}, "status": {"containerStatuses": [{"name": "server", "state": {"running": {}}}]}}
LEAVING = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": POD["status"]}
STARTING = {"metadata": {}, "status": {"containerStatuses": [{"name": "server", "state": {"waiting": {}}}]}}


def sliced(manager: str, *endpoints: dict[str, Any]) -> dict[str, Any]:
    labels = {"endpointslice.kubernetes.io/managed-by": manager}
    return {"metadata": {"labels": labels}, "endpoints": list(endpoints)}


def at(address: str, ready: bool | None) -> dict[str, Any]:
    return {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}


GATEWAY = sliced("berth.dev", at("10.0.0.9", True))
EMPTIED = sliced("berth.dev")
PODS = sliced("endpointslice-controller.k8s.io", at("10.0.0.1", True))
UNREADY = sliced("endpointslice-controller.k8s.io", at("10.0.0.1", False))


def test_who_is_behind_a_service_is_told_apart_by_who_made_the_slice() -> None:
    both = [sliced("endpointslice-controller.k8s.io", at("10.0.0.1", None), at("10.0.0.2", False)), GATEWAY]
    assert wake.in_service(both, berths=False) == ["10.0.0.1"]
    assert wake.in_service(both, berths=True) == ["10.0.0.9"]
    assert wake.in_service([{"metadata": {"labels": {}}, "endpoints": None}], berths=False) == []


@pytest.mark.parametrize(
    ("replicas", "pods", "slices", "phases", "expected"),
    [
        (0, [], [GATEWAY], [], []),
        (1, [], [GATEWAY], [], ["replicas wanted"]),
        (1, [LEAVING], [GATEWAY], [], ["replicas wanted"]),
        (1, [STARTING], [GATEWAY, UNREADY], [], ["replicas wanted", "pod made"]),
        (1, [POD], [GATEWAY], ["WarmingUp"], ["replicas wanted", "pod made", "container runs", "WarmingUp"]),
        (2, [POD, STARTING], [GATEWAY], ["Serving"], ["replicas wanted", "pod made", "container runs", "proven"]),
        (1, [POD], [GATEWAY, PODS], [], ["replicas wanted", "pod made", "container runs", "in the Service"]),
        (
            1,
            [POD],
            [EMPTIED, PODS],
            [],
            ["replicas wanted", "pod made", "container runs", "in the Service", "gateway out of the Service"],
        ),
    ],
)
def test_marks_follow_the_objects(
    replicas: int, pods: list[Any], slices: list[Any], phases: list[str], expected: list[str]
) -> None:
    assert wake.reached(replicas, pods, slices, phases) == expected


def test_a_phase_lasts_until_the_next_that_was_seen() -> None:
    marks = {"asked": 100.0, "pod made": 101.5, "StartingEngine": 103.0, "proven": 140.0, "first answer": 140.5}
    assert wake.durations(marks) == {"asked": 1.5, "pod made": 1.5, "StartingEngine": 37.0, "proven": 0.5}


def test_the_table_has_a_column_for_each_wake_and_a_row_for_what_any_has_seen() -> None:
    wakes = {"first": {"asked": 10.0, "pod made": 11.0}, "second": {"asked": 50.0, "proven": 90.0}}
    assert wake.table(wakes).splitlines() == [
        "| phase | first | second |",
        "|---|---|---|",
        "| asked | at 0.0 s, lasts 1.0 s | at 0.0 s, lasts 40.0 s |",
        "| pod made | at 1.0 s |  |",
        "| proven |  | at 40.0 s |",
    ]


def test_wanted_replicas_of_no_deployment_are_none() -> None:
    assert [wake.wanted(None), wake.wanted({"spec": {}}), wake.wanted({"spec": {"replicas": 2}})] == [0, 0, 2]
