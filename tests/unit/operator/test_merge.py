"""`spec.podTemplate` laid over Berth's pod template: the merge keys of core/v1."""

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.desired.merge import merge
from berth.desired.pod import pod_template
from tests.builders import PLATFORM, parsed


class Case(NamedTuple):
    name: str
    base: Any
    over: Any
    expect: Any


CASES = [
    Case("nothing on top changes nothing", {"a": 1}, {}, {"a": 1}),
    Case("a new field is added", {"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
    Case("a value is replaced", {"a": 1}, {"a": 2}, {"a": 2}),
    Case("false replaces true", {"a": True}, {"a": False}, {"a": False}),
    Case("a null says nothing", {"a": 1, "b": {"c": 1}}, {"a": None, "b": {"c": None}, "d": None},
         {"a": 1, "b": {"c": 1}}),
    Case("maps merge to any depth", {"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}}, {"a": {"b": {"c": 1, "d": 2}}}),
    Case("a container is found by name, and keeps what is not named",
         {"containers": [{"name": "server", "image": "i", "args": ["x"]}]},
         {"containers": [{"name": "server", "image": "j"}]},
         {"containers": [{"name": "server", "image": "j", "args": ["x"]}]}),
    Case("a sidecar comes after ours", {"containers": [{"name": "server"}]}, {"containers": [{"name": "proxy"}]},
         {"containers": [{"name": "server"}, {"name": "proxy"}]}),
    Case("variables merge by name inside a container",
         {"containers": [{"name": "server", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}]},
         {"containers": [{"name": "server", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]},
         {"containers": [{"name": "server", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"},
                                                    {"name": "C", "value": "4"}]}]}),
    Case("volumes merge by name",
         {"volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}]},
         {"volumes": [{"name": "shm", "emptyDir": {"sizeLimit": "8Gi"}}, {"name": "x", "hostPath": {"path": "/y"}}]},
         {"volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}},
                      {"name": "x", "hostPath": {"path": "/y"}}]}),
    Case("another source of a volume replaces ours", {"volumes": [{"name": "cache", "emptyDir": {}}]},
         {"volumes": [{"name": "cache", "hostPath": {"path": "/fast"}}]},
         {"volumes": [{"name": "cache", "hostPath": {"path": "/fast"}}]}),
    Case("a volume that is only named stays", {"volumes": [{"name": "cache", "emptyDir": {}}]},
         {"volumes": [{"name": "cache"}]}, {"volumes": [{"name": "cache", "emptyDir": {}}]}),
    Case("a container is no choice: what it adds is added", {"containers": [{"name": "server", "image": "i"}]},
         {"containers": [{"name": "server", "tty": True}]},
         {"containers": [{"name": "server", "image": "i", "tty": True}]}),
    Case("host aliases merge by address", {"hostAliases": [{"ip": "1", "hostnames": ["a"]}]},
         {"hostAliases": [{"ip": "1", "hostnames": ["b"]}, {"ip": "2"}]},
         {"hostAliases": [{"ip": "1", "hostnames": ["b"]}, {"ip": "2"}]}),
    Case("mounts merge by path, not by name", {"volumeMounts": [{"name": "a", "mountPath": "/x"}]},
         {"volumeMounts": [{"name": "a", "mountPath": "/y"}]},
         {"volumeMounts": [{"name": "a", "mountPath": "/x"}, {"name": "a", "mountPath": "/y"}]}),
    Case("ports merge by number and protocol, TCP when it is not said",
         {"ports": [{"containerPort": 80, "protocol": "TCP", "name": "a"}]},
         {"ports": [{"containerPort": 80, "name": "b"}, {"containerPort": 80, "protocol": "UDP"}]},
         {"ports": [{"containerPort": 80, "protocol": "TCP", "name": "b"}, {"containerPort": 80, "protocol": "UDP"}]}),
    Case("tolerations are appended, twice the same is once", {"tolerations": [{"key": "a"}]},
         {"tolerations": [{"key": "a"}, {"key": "b"}]}, {"tolerations": [{"key": "a"}, {"key": "b"}]}),
    Case("a list without a key is replaced", {"args": ["a"]}, {"args": ["b", "c"]}, {"args": ["b", "c"]}),
    Case("pull secrets merge by name", {"imagePullSecrets": [{"name": "a"}]}, {"imagePullSecrets": [{"name": "b"}]},
         {"imagePullSecrets": [{"name": "a"}, {"name": "b"}]}),
    Case("spread constraints merge by topology and strictness",
         {"topologySpreadConstraints": [{"topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1}]},
         {"topologySpreadConstraints": [{"topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2}]},
         {"topologySpreadConstraints": [{"topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2}]}),
    Case("what is no list is handed on, for the API server to refuse", {"containers": [{"name": "a"}]},
         {"containers": {"name": "b"}}, {"containers": {"name": "b"}}),
    Case("items that are no maps are handed on", {"containers": [{"name": "a"}]}, {"containers": [[1], "x"]},
         {"containers": [{"name": "a"}, [1], "x"]}),
    Case("a name that is no text is handed on", {"containers": [{"name": "a"}]}, {"containers": [{"name": {"b": 1}}]},
         {"containers": [{"name": "a"}, {"name": {"b": 1}}]}),
    Case("an item without its key is handed on", {"containers": [{"name": "a"}]}, {"containers": [{"image": "i"}]},
         {"containers": [{"name": "a"}, {"image": "i"}]}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_merge(case: Case) -> None:
    assert merge(case.base, case.over) == case.expect


_NAMES = st.sampled_from(["server", "proxy", "berth-tmp", "a"])


def _named(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Items with different names: Kubernetes refuses two of one name."""
    item = st.fixed_dictionaries({"name": _NAMES}, optional=optional)
    return st.lists(item, max_size=3, unique_by=lambda found: found["name"])


TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({"labels": st.dictionaries(_NAMES, st.text(max_size=3), max_size=2)}),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "containers": _named(image=st.text(max_size=3), env=_named(value=st.text(max_size=3))),
                "tolerations": st.lists(st.fixed_dictionaries({"key": _NAMES}), max_size=3),
                "volumes": _named(emptyDir=st.just({})) | _named(hostPath=st.just({"path": "/x"})),
                "nodeSelector": st.dictionaries(_NAMES, st.text(max_size=3), max_size=2),
            },
        ),
    },
)


@given(TEMPLATES)
def test_merging_twice_is_merging_once(over: dict[str, Any]) -> None:
    base = pod_template(parsed(), PLATFORM)
    once = merge(base, over)
    assert merge(once, over) == once


@given(TEMPLATES)
def test_neither_side_is_changed(over: dict[str, Any]) -> None:
    base = pod_template(parsed(), PLATFORM)
    before = repr((base, over))
    merge(base, over)
    assert repr((base, over)) == before


@given(TEMPLATES)
def test_our_containers_and_volumes_stay(over: dict[str, Any]) -> None:
    merged = merge(pod_template(parsed(), PLATFORM), over)["spec"]
    assert merged["containers"][0]["name"] == "server"
    assert {"berth-payload", "berth-tmp", "berth-shm", "berth-engine-cache"} <= {v["name"] for v in merged["volumes"]}
