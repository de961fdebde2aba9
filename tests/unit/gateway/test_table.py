"""The table of the cluster: whose a name and a port are, which pods there are, and who is told.

Input: objects as the API server sends them. Output: endpoints found.
"""

from __future__ import annotations

from typing import Any

import pytest

from berth_gateway.table import Endpoint, Pod, Table
from tests.unit.gateway.objects import Object, address, endpoint, own_slice, pods_slice


def table_of(*objects: Object) -> Table:
    """A table with these endpoints and slices."""
    table = Table()
    for obj in objects:
        put(table, obj)
    return table


def put(table: Table, obj: Object) -> None:
    """An endpoint or a slice."""
    if "spec" in obj:
        table.put_endpoint(obj)
    else:
        table.put_slice(obj)


def key_of(table: Table, name: str, vendor: bool = False) -> str | None:
    """namespace/name of what a model's name means."""
    found = table.find(name, vendor)
    return found.key if found else None


def pods_of(found: Endpoint | None) -> dict[str, Pod]:
    """By host."""
    assert found is not None
    return {pod.host: pod for pod in found.pods.values()}


def hosts(found: Endpoint | None) -> list[str]:
    """Of the ready pods."""
    assert found is not None
    return sorted(pod.host for pod in found.ready)


# Names.


def test_an_endpoint_is_found_by_its_name_in_its_namespace_and_by_what_it_serves() -> None:
    table = table_of(endpoint("a/llama", 0), endpoint("a/qwen", 0, "qwen-7b", "qwen"))
    assert key_of(table, "llama") == key_of(table, "a/llama") == "a/llama"
    assert key_of(table, "qwen-7b") == key_of(table, "qwen") == key_of(table, "a/qwen") == "a/qwen"


def test_the_name_of_the_object_is_no_served_name_where_there_are_others() -> None:
    assert key_of(table_of(endpoint("a/llama", 0, "x")), "llama") is None


def test_the_repository_of_the_weights_is_a_name_too() -> None:
    table = table_of(endpoint("a/llama", 0, source="hf://meta/Llama-3"), endpoint("a/copy", 1, source="pvc://c/meta/x"))
    assert key_of(table, "meta/Llama-3") == "a/llama"
    assert key_of(table, "c/meta/x") is None


def test_the_older_endpoint_keeps_a_name_and_the_later_one_is_found_by_its_namespace() -> None:
    later, older = endpoint("a/new", 9, "llama"), endpoint("b/old", 3, "llama")
    table = table_of(later, older)
    assert key_of(table, "llama") == "b/old"
    assert key_of(table, "a/new") == "a/new"
    table.drop_endpoint("b", "old")
    assert key_of(table, "llama") == "a/new"
    table.put_endpoint(older)
    assert key_of(table, "llama") == "b/old"


def test_of_the_same_age_the_first_by_namespace_and_name_keeps_the_name() -> None:
    table = table_of(endpoint("b/a", 5, "llama"), endpoint("a/z", 5, "llama"), endpoint("a/y", 5, "llama"))
    assert key_of(table, "llama") == "a/y"


def test_a_suspended_endpoint_keeps_its_names() -> None:
    table = table_of(endpoint("a/old", 1, "llama", suspend=True), endpoint("b/new", 2, "llama"))
    assert key_of(table, "llama") == "a/old"


def test_a_name_that_is_given_up_is_the_next_ones() -> None:
    table = table_of(endpoint("a/old", 1, "llama", "x"), endpoint("b/new", 2, "llama"))
    table.put_endpoint(endpoint("a/old", 1, "x"))
    assert (key_of(table, "llama"), key_of(table, "x")) == ("b/new", "a/old")


def test_nobody_can_take_a_name_with_its_namespace() -> None:
    table = table_of(endpoint("b/other", 0, "a/llama"))
    other = table.find("a/llama")
    assert other is not None
    assert (other.key, other.holds) == ("b/other", {"a/llama"})
    table.put_endpoint(endpoint("a/llama", 9))
    assert (key_of(table, "a/llama"), other.holds) == ("a/llama", set())
    table.drop_endpoint("a", "llama")
    assert (key_of(table, "a/llama"), other.holds) == ("b/other", {"a/llama"})


def test_an_endpoint_made_anew_under_its_name_is_another_one() -> None:
    told: list[Endpoint] = []
    table = Table(told.append)
    one = table.put_endpoint(endpoint("a/llama", 1, uid="one"))
    two = table.put_endpoint(endpoint("a/llama", 7, uid="two"))
    assert one is not two
    assert (table.find("llama"), told, one.wanted) == (two, [one], False)
    assert list(table.endpoints()) == [two]


def test_an_endpoint_stays_the_same_object_while_it_changes() -> None:
    table = table_of(endpoint("a/llama"))
    one = table.find("llama")
    table.put_endpoint(endpoint("a/llama", 0, "x"))
    assert table.find("x") is one


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        "/llama",
        "a//llama",
        "a/llama/",
        " a/llama",
        "a/llama ",
        "A/llama",
        "a/Llama",
        "LLAMA",
        "llama\0",
        "llama\n",
        "./llama",
        "a/../b/secret",
        "a%2fllama",
        "ａ/llama",  # full width
        "ⅼⅼama",  # Roman numerals that look like l
        "llаma",  # a Cyrillic а
        "llama\u200b",
        "x/a/llama",
        "a.b/llama",
    ],
)
def test_what_is_not_the_name_itself_finds_nothing(name: str) -> None:
    table = table_of(endpoint("a/llama"), endpoint("b/secret"))
    assert key_of(table, name) is None


def test_a_vendor_in_front_is_left_out_only_where_the_api_has_vendors() -> None:
    table = table_of(endpoint("a/llama"))
    assert key_of(table, "meta/llama", vendor=True) == "a/llama"
    assert key_of(table, "meta/llama") is None
    assert key_of(table, "meta/x/llama", vendor=True) is None


def test_a_namespace_is_no_vendor_so_that_what_was_deleted_is_not_looked_for_elsewhere() -> None:
    table = table_of(endpoint("a/llama"), endpoint("b/llama", 5), endpoint("b/other", 5))
    assert key_of(table, "b/llama", vendor=True) == "b/llama"
    table.drop_endpoint("b", "llama")
    assert key_of(table, "b/llama", vendor=True) is None


def test_an_exact_name_comes_before_the_one_without_its_vendor() -> None:
    table = table_of(endpoint("a/llama"), endpoint("b/x", 9, "meta/llama"))
    assert key_of(table, "meta/llama", vendor=True) == "b/x"


def test_the_reachable_names_are_those_that_lead_to_their_endpoint() -> None:
    table = table_of(
        endpoint("a/llama", 0, "llama", "l"), endpoint("b/llama", 1), endpoint("c/x", 2, "l", "y"), endpoint("d/l", 3)
    )
    names = [(name, found.key) for name, found in table.reachable()]
    assert names == [("b/llama", "b/llama"), ("d/l", "d/l"), ("l", "a/llama"), ("llama", "a/llama"), ("y", "c/x")]
    assert all(table.find(name) is found for name, found in table.reachable())


def test_a_name_that_leads_elsewhere_is_not_reachable() -> None:
    table = table_of(endpoint("a/llama", 9), endpoint("b/other", 0, "llama", "a/llama"))
    assert [(name, found.key) for name, found in table.reachable()] == [("a/llama", "a/llama"), ("llama", "b/other")]


def test_the_reachable_names_follow_what_changes() -> None:
    table = table_of(endpoint("a/llama"))
    assert [name for name, _ in table.reachable()] == ["llama"]
    table.put_endpoint(endpoint("b/x"))
    assert [name for name, _ in table.reachable()] == ["llama", "x"]
    table.put_endpoint(endpoint("b/x", 0, "y"))
    assert [name for name, _ in table.reachable()] == ["llama", "y"]
    table.drop_endpoint("a", "llama")
    assert [name for name, _ in table.reachable()] == ["y"]


# What an object says.


def one(**changes: Any) -> Endpoint:
    """The endpoint of an object with these fields."""
    return Table().put_endpoint(endpoint("a/llama", **changes))


def test_an_endpoint_that_says_nothing_has_the_defaults() -> None:
    found = one()
    assert found.apis == {"OpenAI", "LLMEngine", "ScaleEGP", "AlephAlpha"}
    assert (found.sleeps, found.wanted, found.own_keys, found.target) == (False, True, False, 8.0)
    assert (found.waking, found.failure, found.start_seconds, found.context_tokens) == ("", "", None, None)


def test_the_spec_is_read() -> None:
    server = {"apis": ["OpenAI"], "apiKeySecretRef": {"name": "k"}, "args": {"max-model-len": 4096}}
    found = one(server=server, scaling={"min": 0, "max": 3, "target": {"inFlightPerReplica": 5}})
    assert (set(found.apis), found.own_keys, found.context_tokens) == ({"OpenAI"}, True, 4096)
    assert (found.sleeps, found.target) == (True, 5.0)


@pytest.mark.parametrize(("value", "tokens"), [("4096", 4096), ("8k", None), (True, None), (None, None), ([1], None)])
def test_only_a_number_is_a_context_length(value: Any, tokens: int | None) -> None:
    assert one(server={"args": {"max-model-len": value}}).context_tokens == tokens


def test_what_the_operator_decided_comes_before_what_the_spec_wishes() -> None:
    scaling = {"targetPerReplica": 17.5, "startSeconds": 42.0}
    found = one(scaling={"max": 3, "target": {"inFlightPerReplica": 5}}, status={"scaling": scaling})
    assert (found.target, found.start_seconds, found.sleeps) == (17.5, 42.0, False)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"suspend": True}, False),
        ({"replicas": 0}, False),
        ({"replicas": 0, "scaling": {"min": 0, "max": 1}}, True),
        ({"replicas": 2, "suspend": False}, True),
    ],
)
def test_whether_pods_are_wanted(spec: Any, wanted: bool) -> None:
    assert one(**spec).wanted is wanted


def test_an_endpoint_that_is_being_deleted_is_not_wanted() -> None:
    obj = endpoint("a/llama")
    obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert Table().put_endpoint(obj).wanted is False


def condition(kind: str, status: str, reason: str, message: str, generation: int = 2) -> Object:
    """Of an object of generation 2."""
    return {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": generation}


def test_a_start_is_told_without_how_long_one_takes() -> None:
    ready = condition("Ready", "True", "Waking", "waking: pod x: downloading 40 %; a start takes about 40 s")
    assert one(status={"conditions": [ready]}).waking == "pod x: downloading 40 %"


def test_a_first_start_is_told_in_the_launchers_words() -> None:
    ready = condition("Ready", "False", "Starting", "pod x is starting")
    status = {"conditions": [ready], "progress": {"phase": "LoadingWeights", "message": "Loading weights"}}
    assert one(status=status).waking == "Loading weights"


@pytest.mark.parametrize(
    ("stalled", "failure"),
    [
        (condition("Stalled", "True", "ModelNotFound", "no such model"), "no such model"),
        (condition("Stalled", "False", "ModelNotFound", "no such model"), ""),
        # Said of a spec that somebody has changed since.
        (condition("Stalled", "True", "ModelNotFound", "no such model", 1), ""),
        # Of a child, whose other fields are written: it may start.
        (condition("Stalled", "True", "Conflicted", "somebody sets spec.maxUnavailable"), ""),
    ],
)
def test_only_what_no_waiting_mends_is_a_failure(stalled: Object, failure: str) -> None:
    assert one(status={"conditions": [stalled]}).failure == failure


# Pods.


def test_the_pods_are_those_of_all_slices() -> None:
    table = table_of(endpoint("a/llama"), pods_slice("a/llama", "1", "2"), pods_slice("a/llama", "3", suffix="b"))
    assert hosts(table.find("llama")) == ["1", "2", "3"]
    table.drop_slice("a", "llama-a")
    assert hosts(table.find("llama")) == ["3"]


def test_slices_may_come_before_their_endpoint() -> None:
    table = table_of(pods_slice("a/llama", "1"), own_slice("a/llama", 20000), endpoint("a/llama"))
    found = table.find("llama")
    assert hosts(found) == ["1"]
    assert table.by_port(20000) is found


def test_slices_of_a_service_of_the_same_name_elsewhere_are_not_this_endpoints() -> None:
    table = table_of(endpoint("a/llama"), endpoint("b/llama", 1), pods_slice("b/llama", "9"))
    assert hosts(table.find("a/llama")) == []
    assert hosts(table.find("b/llama")) == ["9"]


@pytest.mark.parametrize(
    "change",
    [
        {"kubernetes.io/service-name": "other"},
        {"kubernetes.io/service-name": None},
        {"endpointslice.kubernetes.io/managed-by": "someone"},
        {"endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"},
        {"endpointslice.kubernetes.io/managed-by": None},
    ],
)
def test_slices_of_others_are_nobodys_and_what_turns_into_one_is_forgotten(change: Any) -> None:
    obj = pods_slice("a/llama", "1")
    table = table_of(endpoint("a/llama"), obj)
    obj["metadata"]["labels"].update(change)
    table.put_slice(obj)
    assert hosts(table.find("llama")) == []


def test_only_the_port_with_the_name_http_is_the_servers() -> None:
    found = table_of(endpoint("a/llama"), pods_slice("a/llama", "1", port=8123)).find("llama")
    assert found is not None
    assert [(pod.host, pod.port, pod.name) for pod in found.ready] == [("1", 8123, "pod-1")]
    assert hosts(table_of(endpoint("a/x"), pods_slice("a/x", "1", port_name="berth")).find("x")) == []


@pytest.mark.parametrize(
    ("conditions", "ready", "known"),
    [
        ({}, True, True),
        ({"ready": None}, True, True),  # as the API has it: unknown is ready
        ({"ready": False}, False, True),
        ({"ready": False, "serving": True, "terminating": True}, False, False),
        ({"ready": True, "terminating": True}, False, False),
    ],
)
def test_which_pods_are_chosen_from(conditions: Any, ready: bool, known: bool) -> None:
    found = table_of(endpoint("a/llama"), pods_slice("a/llama", address("1", **conditions))).find("llama")
    assert (hosts(found), list(pods_of(found))) == (["1"] * ready, ["1"] * known)


def test_a_pod_in_two_slices_is_one_and_ready_if_one_says_so() -> None:
    unready = pods_slice("a/llama", address("1", ready=False), suffix="b")
    for slices in ((pods_slice("a/llama", "1"), unready), (unready, pods_slice("a/llama", "1"))):
        assert hosts(table_of(endpoint("a/llama"), *slices).find("llama")) == ["1"]


def test_of_two_pods_at_one_address_the_ready_one_is_meant() -> None:
    leaving = pods_slice("a/llama", address("1", "z", ready=False), suffix="b")
    for slices in (
        (pods_slice("a/llama", address("1", "y")), leaving),
        (leaving, pods_slice("a/llama", address("1", "y"))),
    ):
        found = table_of(endpoint("a/llama"), *slices).find("llama")
        assert [pod.name for pod in pods_of(found).values()] == ["y"]


def test_a_pod_keeps_its_counts_while_its_slice_changes() -> None:
    table = table_of(endpoint("a/llama"), pods_slice("a/llama", "1"))
    pod = pods_of(table.find("llama"))["1"]
    pod.in_flight = 3
    table.put_slice(pods_slice("a/llama", "1", "2"))
    assert pods_of(table.find("llama"))["1"] is pod


def test_another_pod_at_the_address_of_a_former_one_begins_anew() -> None:
    table = table_of(endpoint("a/llama"), pods_slice("a/llama", address("1", "x")))
    pod = pods_of(table.find("llama"))["1"]
    pod.in_flight, pod.failures = 2, 7
    table.put_slice(pods_slice("a/llama", address("1", "y")))
    found = pods_of(table.find("llama"))["1"]
    assert (found.name, found.in_flight, found.failures, found.ready, pod.ready) == ("y", 0, 0, True, False)


def test_a_pod_that_leaves_is_known_until_its_last_request_and_not_chosen() -> None:
    table = table_of(endpoint("a/llama"), pods_slice("a/llama", "1", "2"))
    leaving = pods_of(table.find("llama"))["1"]
    leaving.in_flight = 1
    table.put_slice(pods_slice("a/llama", address("1", ready=False, terminating=True), "2"))
    assert hosts(table.find("llama")) == ["2"]
    assert (sorted(pods_of(table.find("llama"))), leaving.ready) == (["1", "2"], False)
    leaving.in_flight = 0
    table.put_slice(pods_slice("a/llama", "2"))
    assert list(pods_of(table.find("llama"))) == ["2"]


def test_a_deleted_endpoint_has_no_pod_to_choose_from() -> None:
    told: list[Endpoint] = []
    table = Table(told.append)
    found = table.put_endpoint(endpoint("a/llama"))
    put(table, pods_slice("a/llama", "1"))
    pod = found.ready[0]
    told.clear()
    table.drop_endpoint("a", "llama")
    assert (found.ready, found.wanted, pod.ready, told) == ([], False, False, [found])
    assert key_of(table, "llama") is None
    assert key_of(table, "a/llama") is None
    table.drop_endpoint("a", "llama")
    table.drop_slice("a", "nothing")
    assert told == [found]


# Ports.


def test_a_port_leads_to_the_endpoint_of_the_slice() -> None:
    table = table_of(
        endpoint("a/llama"), endpoint("b/llama", 1), own_slice("b/llama", 20001), own_slice("a/llama", 20000)
    )
    assert [table.by_port(port) for port in (20000, 20001, 20002)] == [
        table.find("a/llama"),
        table.find("b/llama"),
        None,
    ]
    found = table.find("b/llama")
    assert found is not None
    assert found.port == 20001
    table.drop_slice("b", "llama-gateway")
    assert table.by_port(20001) is None
    assert found.port is None


def test_a_port_does_not_lead_to_an_endpoint_made_anew_under_the_name() -> None:
    table = table_of(endpoint("a/llama", uid="two"), own_slice("a/llama", 20000, uid="one"))
    assert table.by_port(20000) is None
    found = table.find("llama")
    assert found is not None
    assert found.port is None


def test_nobody_takes_a_port_that_leads_somewhere() -> None:
    objects = (
        endpoint("a/llama", 5),
        endpoint("b/evil", 0),
        own_slice("a/llama", 20000, 6),
        own_slice("b/evil", 20000, 9),
    )
    for order in (objects, objects[::-1]):
        table = table_of(*order)
        assert table.by_port(20000) is table.find("a/llama")


def test_of_two_ports_of_one_endpoint_the_older_slices_is_told() -> None:
    slices = (own_slice("a/llama", 20009, 1, suffix="g"), own_slice("a/llama", 20000, 5, suffix="h"))
    for order in (slices, slices[::-1]):
        found = table_of(endpoint("a/llama"), *order).find("llama")
        assert found is not None
        assert found.port == 20009


def test_a_slice_that_gets_another_port_frees_its_own() -> None:
    table = table_of(endpoint("a/llama"), own_slice("a/llama", 20000))
    table.put_slice(own_slice("a/llama", 20005))
    assert (table.by_port(20000), table.by_port(20005)) == (None, table.find("llama"))


# Who is told.


def test_the_holds_are_told_of_a_ready_pod_a_failure_and_an_end_only() -> None:
    told: list[Endpoint] = []
    table = Table(told.append)
    failing = {"conditions": [condition("Stalled", "True", "ModelNotFound", "no such model")]}

    def tells(act: Any) -> bool:
        told.clear()
        act()
        return bool(told)

    assert not tells(lambda: put(table, endpoint("a/llama")))
    assert not tells(lambda: put(table, pods_slice("a/llama", address("1", ready=False))))
    assert tells(lambda: put(table, pods_slice("a/llama", "1")))
    assert not tells(lambda: put(table, pods_slice("a/llama", "1")))
    assert tells(lambda: put(table, pods_slice("a/llama", "1", "2")))
    assert not tells(lambda: put(table, pods_slice("a/llama", "2")))
    assert not tells(lambda: put(table, pods_slice("a/llama")))
    assert tells(lambda: put(table, pods_slice("a/llama", "2")))
    assert not tells(lambda: put(table, own_slice("a/llama", 20000)))
    assert tells(lambda: put(table, endpoint("a/llama", status=failing)))
    assert not tells(lambda: put(table, endpoint("a/llama", status=failing)))
    assert not tells(lambda: put(table, endpoint("a/llama")))
    assert tells(lambda: put(table, endpoint("a/llama", suspend=True)))
    assert not tells(lambda: put(table, endpoint("a/llama")))
    assert tells(lambda: table.drop_endpoint("a", "llama"))


def test_an_endpoint_whose_pods_were_known_first_is_told_of() -> None:
    told: list[Endpoint] = []
    table = Table(told.append)
    put(table, pods_slice("a/llama", "1"))
    assert told == []
    assert [table.put_endpoint(endpoint("a/llama"))] == told
