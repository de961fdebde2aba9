"""When a live object counts as different: only fields that Berth sends, by value, lists by their keys."""

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.decide.differs import differs
from berth.desired.children import children
from tests.builders import PLATFORM, live, parsed


class Case(NamedTuple):
    name: str
    wanted: Any
    live: Any
    expect: str | None


CASES = [
    Case("the same", {"a": {"b": 1}}, {"a": {"b": 1}}, None),
    Case("another value", {"a": {"b": 1}}, {"a": {"b": 2}}, "a.b"),
    Case("a missing field", {"a": {"b": 1}}, {"a": {}}, "a.b"),
    Case("a missing object", {"a": {"b": 1}}, {}, "a.b"),
    Case("what others add stays", {"a": 1}, {"a": 1, "x": {"y": 2}}, None),
    Case("an annotation of others stays", {"metadata": {"annotations": {"a": "1"}}},
         {"metadata": {"annotations": {"a": "1", "deployment.kubernetes.io/revision": "3"}}}, None),
    Case("another type of the same text", {"a": 1}, {"a": "1"}, "a"),
    Case("empty text was dropped", {"env": [{"name": "A", "value": ""}]}, {"env": [{"name": "A"}]}, None),
    Case("an empty map was dropped", {"a": {}}, {}, None),
    Case("an empty list was dropped", {"a": []}, {}, None),
    Case("false was dropped", {"hostNetwork": False}, {}, None),
    Case("zero was dropped", {"a": 0}, {}, None),
    Case("an empty map is not any map's opposite", {"emptyDir": {}}, {"emptyDir": {"medium": ""}}, None),
    Case("false is not true", {"a": False}, {"a": True}, "a"),
    Case("zero is not one", {"a": 0}, {"a": 1}, "a"),
    Case("one is not nothing", {"a": 1}, {"a": 0}, "a"),
    Case("a token that is mounted by default", {"spec": {"automountServiceAccountToken": False}}, {"spec": {}},
         "spec.automountServiceAccountToken"),
    Case("escalation that is allowed by default", {"securityContext": {"allowPrivilegeEscalation": False}},
         {"securityContext": {}}, "securityContext.allowPrivilegeEscalation"),
    Case("a quantity in other words", {"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1"}}, None),
    Case("a quantity as a number", {"limits": {"cpu": 1}}, {"limits": {"cpu": "1"}}, None),
    Case("bytes in other words", {"requests": {"memory": "1024Mi"}}, {"requests": {"memory": "1Gi"}}, None),
    Case("another quantity", {"resources": {"limits": {"memory": "1G"}}}, {"resources": {"limits": {"memory": "1Gi"}}},
         "resources.limits.memory"),
    Case("a quantity that is gone", {"limits": {"cpu": "1"}}, {"limits": {}}, "limits.cpu"),
    Case("a size limit in other words", {"sizeLimit": "1024Mi"}, {"sizeLimit": "1Gi"}, None),
    Case("another size limit", {"emptyDir": {"sizeLimit": "2Gi"}}, {"emptyDir": {"sizeLimit": "1Gi"}},
         "emptyDir.sizeLimit"),
    Case("a list without keys, in order", {"args": ["a", "b"]}, {"args": ["a", "b"]}, None),
    Case("a list without keys, in another order", {"args": ["a", "b"]}, {"args": ["b", "a"]}, "args[0]"),
    Case("a longer list without keys", {"args": ["a"]}, {"args": ["a", "b"]}, "args"),
    Case("a shorter list without keys", {"args": ["a", "b"]}, {"args": ["a"]}, "args"),
    Case("a keyed list in another order", {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
         {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]}, None),
    Case("another value in a keyed list", {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
         {"env": [{"name": "B", "value": "3"}, {"name": "A", "value": "1"}]}, "env[1].value"),
    Case("an injected sidecar stays", {"containers": [{"name": "server", "image": "a"}]},
         {"containers": [{"name": "istio-proxy"}, {"name": "server", "image": "a"}]}, None),
    Case("an injected variable stays", {"env": [{"name": "A", "value": "1"}]},
         {"env": [{"name": "X", "value": "9"}, {"name": "A", "value": "1"}]}, None),
    Case("a container that is gone", {"containers": [{"name": "server", "image": "a"}]}, {"containers": []},
         "containers[0].name"),
    Case("a container port without its protocol", {"ports": [{"containerPort": 80, "name": "a"}]},
         {"ports": [{"containerPort": 80, "name": "a", "protocol": "TCP"}]}, None),
    Case("a Service port that somebody added stays", {"spec": {"ports": [{"port": 80, "name": "http"}]}},
         {"spec": {"ports": [{"port": 80, "name": "http", "protocol": "TCP"},
                             {"port": 90, "name": "x", "protocol": "TCP"}]}}, None),
    Case("a Service port that somebody changed", {"spec": {"ports": [{"port": 80, "name": "http"}]}},
         {"spec": {"ports": [{"port": 81, "name": "http", "protocol": "TCP"}]}}, "spec.ports[0].port"),
    Case("a second owner that somebody added stays", {"metadata": {"ownerReferences": [{"uid": "a"}]}},
         {"metadata": {"ownerReferences": [{"uid": "b"}, {"uid": "a"}]}}, None),
    Case("our owner reference that somebody removed", {"metadata": {"ownerReferences": [{"uid": "a"}]}},
         {"metadata": {"ownerReferences": []}}, "metadata.ownerReferences[0].uid"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_differs(case: Case) -> None:
    assert differs(case.wanted, case.live) == case.expect


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab1", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(["a", "args", "limits", "sizeLimit"]), JSON, max_size=3)


@given(OBJECTS)
def test_nothing_differs_from_itself(value: Any) -> None:
    assert differs(value, value) is None


@given(OBJECTS, JSON)
def test_what_others_add_never_counts(value: dict[str, Any], foreign: Any) -> None:
    assert differs(value, {**value, "foreign": foreign}) is None


def test_children_as_the_api_server_returns_them_do_not_differ() -> None:
    ep = parsed(
        resources={"limits": {"cpu": "1500m", "memory": "1024Mi"}},
        storage={"weights": {"emptyDir": {"sizeLimit": "40Gi"}}},
        server={"env": [{"name": "EMPTY", "value": ""}]},
    )
    for manifest in children(ep, PLATFORM):
        assert differs(manifest, live(manifest)) is None


def test_a_field_that_left_the_intent_is_told_by_the_hash_of_it() -> None:
    before = parsed(podTemplate={"spec": {"nodeSelector": {"zone": "a"}}})
    was = live(children(before, PLATFORM)[0])
    wanted = children(parsed(), PLATFORM)[0]
    assert "nodeSelector" not in wanted["spec"]["template"]["spec"]
    assert differs(wanted, was) == "metadata.annotations.berth.dev/intent"
