"""What the steps of the model choose from: fields of a spec, ways to meddle with a child.

Each field says by itself what the children must show: written by hand, it does not ask Berth's own builders.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from berth.api.names import ENDPOINT_LABEL
from berth.kube.resources import DEPLOYMENTS, DISRUPTION_BUDGETS, SERVICES, Resource

Object = dict[str, Any]


class Field(NamedTuple):
    """A value of a field of spec, and what the child of that kind shows then: `look` of the child is `expect`."""

    name: str
    value: Any
    child: Resource = DEPLOYMENTS
    look: Callable[[Object], Any] = lambda child: None
    expect: Any = None

    def __repr__(self) -> str:
        return f"{self.name}={self.value}"


def _pod(child: Object) -> Object:
    found: Object = child["spec"]["template"]["spec"]
    return found


def _container(child: Object) -> Object:
    found: Object = next(item for item in _pod(child)["containers"] if item["name"] == "server")
    return found


def _after(flag: str) -> Callable[[Object], Any]:
    def look(child: Object) -> Any:
        words = _container(child)["args"]
        return words[words.index(flag) + 1] if flag in words else None

    return look


def _volume(name: str) -> Callable[[Object], Any]:
    return lambda child: next(item for item in _pod(child)["volumes"] if item["name"] == name)


def _env(name: str) -> Callable[[Object], Any]:
    return lambda child: [item.get("value") for item in _container(child)["env"] if item["name"] == name]


def _surge(child: Object) -> Any:
    return child["spec"]["strategy"]["rollingUpdate"]["maxSurge"]


FIELDS = [
    *(Field("replicas", count) for count in (0, 1, 2, 3)),
    Field("suspend", True),
    Field("suspend", False),
    Field("model", {"source": "hf://org/model", "revision": "v2"}, look=_after("serve"), expect="--source=hf://org/model"),
    Field("model", {"source": "file:///models/b", "servedNames": ["b", "c"]},
          look=_after("--served-model-name"), expect="b"),
    Field("server", {"args": {"max-model-len": 4096, "enforce-eager": True}},
          look=_after("--max-model-len"), expect="4096"),
    Field("server", {"args": {"seed": 7}, "extraArgs": ["--lora-modules", "x=y"]},
          look=_after("--lora-modules"), expect="x=y"),
    Field("server", {"image": "example.test/vllm:v2", "env": [{"name": "MINE", "value": "1"}]},
          look=_env("MINE"), expect=["1"]),
    Field("resources", {"limits": {"nvidia.com/gpu": 2, "memory": "1024Mi"}},
          look=_after("--tensor-parallel-size"), expect="2"),
    Field("resources", {"limits": {"cpu": "1000m"}, "requests": {"cpu": 0}},
          look=lambda child: _container(child)["resources"]["limits"], expect={"cpu": "1"}),
    Field("storage", {"engineCache": {"emptyDir": {"sizeLimit": "2048Mi"}}},
          look=_volume("berth-engine-cache"),
          expect={"name": "berth-engine-cache", "emptyDir": {"sizeLimit": "2Gi"}}),
    Field("storage", {"engineCache": {"persistentVolumeClaim": {"claimName": "cache"}}},
          look=_volume("berth-engine-cache"),
          expect={"name": "berth-engine-cache", "persistentVolumeClaim": {"claimName": "cache"}}),
    Field("rollout", {"maxSurge": 0, "maxUnavailable": 1}, look=_surge, expect=0),
    Field("rollout", {"maxSurge": "50%", "drainSeconds": 5},
          look=lambda child: _pod(child)["terminationGracePeriodSeconds"], expect=35),
    Field("podTemplate", {"spec": {"nodeSelector": {"pool": "gpu"}}},
          look=lambda child: _pod(child).get("nodeSelector"), expect={"pool": "gpu"}),
    Field("podTemplate", {"metadata": {"labels": {"team": "a"}},
                          "spec": {"containers": [{"name": "proxy", "image": "example.test/proxy"}]}},
          look=lambda child: [item["image"] for item in _pod(child)["containers"] if item["name"] == "proxy"],
          expect=["example.test/proxy"]),
    Field("podTemplate", {"spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}], "volumes": None}},
          look=lambda child: _pod(child)["tolerations"], expect=[{"key": "gpu", "operator": "Exists"}]),
    Field("service", {"port": 81}, SERVICES, lambda child: child["spec"]["ports"][0]["port"], 81),
    Field("service", {"type": "NodePort", "annotations": {"example.com/lb": "x"}}, SERVICES,
          lambda child: (child["spec"]["type"], child["metadata"]["annotations"]["example.com/lb"]),
          ("NodePort", "x")),
]  # fmt: skip


class Meddling(NamedTuple):
    """A merge patch or JSON patch that somebody sends to a child."""

    child: Resource
    patch: Object | list[Object]


class Edit(NamedTuple):
    """A merge patch or JSON patch of a field that Berth owns: it puts back that `look` of the child is `expect`."""

    child: Resource
    patch: Object | list[Object]
    look: Callable[[Object], Any]
    expect: Any


EDITS = {
    "image": Edit(
        DEPLOYMENTS, [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil"}],
        lambda child: _container(child)["image"] == "evil", False),
    "arguments": Edit(
        DEPLOYMENTS, [{"op": "remove", "path": "/spec/template/spec/containers/0/args/0"}],
        lambda child: _container(child)["args"][0], "serve"),
    "environment": Edit(
        DEPLOYMENTS, [{"op": "remove", "path": "/spec/template/spec/containers/0/env/0"}], _env("HOME"), ["/tmp"]),
    "strategy": Edit(
        DEPLOYMENTS, {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}},
        lambda child: child["spec"]["strategy"]["type"], "RollingUpdate"),
    "history": Edit(
        DEPLOYMENTS, {"spec": {"revisionHistoryLimit": 0}}, lambda child: child["spec"]["revisionHistoryLimit"], 3),
    "intent": Edit(
        DEPLOYMENTS, {"metadata": {"annotations": {"berth.dev/intent": "0"}}},
        lambda child: child["metadata"]["annotations"]["berth.dev/intent"] == "0", False),
    "target": Edit(
        SERVICES, [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 1}],
        lambda child: child["spec"]["ports"][0]["targetPort"], "http"),
    "selector": Edit(
        SERVICES, {"spec": {"selector": {ENDPOINT_LABEL: "other"}}},
        lambda child: child["spec"]["selector"][ENDPOINT_LABEL] == child["metadata"]["name"], True),
    "no intent": Edit(
        SERVICES, {"metadata": {"annotations": {"berth.dev/intent": None}}},
        lambda child: "berth.dev/intent" in child["metadata"]["annotations"], True),
    "budget": Edit(
        DISRUPTION_BUDGETS, {"spec": {"maxUnavailable": "100%"}}, lambda child: child["spec"]["maxUnavailable"], 1),
}  # fmt: skip


class Addition(NamedTuple):
    """Something of somebody else's in a child, that stays as long as the child: `look` of the child is true."""

    child: Resource
    patch: Object | list[Object]
    look: Callable[[Object], bool]


_SIDECAR = {"name": "mesh", "image": "example.test/mesh"}

ADDITIONS = {
    "annotation": Addition(
        SERVICES,
        {"metadata": {"annotations": {"example.com/note": "mine"}}},
        lambda child: (child["metadata"].get("annotations") or {}).get("example.com/note") == "mine",
    ),
    "label": Addition(
        DISRUPTION_BUDGETS,
        {"metadata": {"labels": {"example.com/note": "mine"}}},
        lambda child: (child["metadata"].get("labels") or {}).get("example.com/note") == "mine",
    ),
    "port": Addition(
        SERVICES,
        [{"op": "add", "path": "/spec/ports/-", "value": {"name": "mine", "port": 9999}}],
        lambda child: any(port["name"] == "mine" for port in child["spec"]["ports"]),
    ),
    "rollout restart": Addition(
        DEPLOYMENTS,
        {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}},
        lambda child: "kubectl.kubernetes.io/restartedAt" in child["spec"]["template"]["metadata"]["annotations"],
    ),
    "sidecar": Addition(
        DEPLOYMENTS,
        [{"op": "add", "path": "/spec/template/spec/containers/-", "value": _SIDECAR}],
        lambda child: any(item["name"] == "mesh" for item in _pod(child)["containers"]),
    ),
    "variable": Addition(
        DEPLOYMENTS,
        [{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "THEIRS", "value": "1"}}],
        lambda child: _env("THEIRS")(child) == ["1"],
    ),
    "field": Addition(
        DEPLOYMENTS, {"spec": {"minReadySeconds": 1}}, lambda child: child["spec"].get("minReadySeconds") == 1
    ),
}

STRANGERS: dict[str, Object] = {
    DEPLOYMENTS.kind: {
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "theirs"}},
            "template": {
                "metadata": {"labels": {"app": "theirs"}},
                "spec": {"containers": [{"name": "x", "image": "x"}]},
            },
        }
    },
    SERVICES.kind: {"spec": {"ports": [{"port": 1}], "selector": {"app": "theirs"}}},
    DISRUPTION_BUDGETS.kind: {"spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "theirs"}}}},
}
