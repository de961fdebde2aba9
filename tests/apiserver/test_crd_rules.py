"""The CRD on a real API server: what it accepts, what it refuses, and what it says.

Input: crds/.  Output: the API server's verdict, by field and message.  Not mocked: anything; there is no operator.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from kubernetes import client, config

from berth.api.conditions import Reason
from berth.api.flags import OWNED_FLAGS
from berth.desired.merge import MERGE_KEYS
from local.controlplane import ControlPlane
from local.kubectl import Kubectl

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
CRD_FILE = ROOT / "crds" / "berth.dev_modelendpoints.yaml"
SCHEMA = yaml.safe_load(CRD_FILE.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
HUB = {"source": "hf://org/model"}


class Rule(NamedTuple):
    """A CEL rule of the CRD. path: with [] for items and {} for values of a map."""

    path: str
    rule: str
    message: str


def rules(node: Object, path: str = "") -> list[Rule]:
    """All CEL rules of a schema."""
    found = [Rule(path, item["rule"], item["message"]) for item in node.get("x-kubernetes-validations", [])]
    for name, child in node.get("properties", {}).items():
        found += rules(child, f"{path}.{name}".lstrip("."))
    if isinstance(node.get("additionalProperties"), dict):
        found += rules(node["additionalProperties"], f"{path}{{}}")
    return found + (rules(node["items"], f"{path}[]") if "items" in node else [])


RULES = rules(SCHEMA)


class Case(NamedTuple):
    """index: which of the rules of `path`.  accepted, refused: spec, or `name`.  field: as the API server names it."""

    path: str
    index: int
    accepted: Object
    refused: Object
    field: str


def _model(**given: Any) -> Object:
    return {"model": {**HUB, **given}}


def _from(**source: Any) -> Object:
    return {"server": {"env": [{"name": "A", "valueFrom": source}]}}


METRIC = {
    "type": "External",
    "external": {"metric": {"name": "queue_depth"}, "target": {"type": "AverageValue", "averageValue": "24"}},
}


def _scaling(**given: Any) -> Object:
    return {"scaling": {"max": 2, **given}}


def _name_rules(path: str, accepted: Any, refused: Any) -> Case:
    return Case(path, 0, accepted, refused, path.replace("[]", "[0]"))


CASES = [
    Case("", 0, {"name": "llama-3-1-8b"}, {"name": "llama-3.1-8b"}, "<nil>"),
    Case("", 0, {"name": "a" * 50}, {"name": "a" * 51}, "<nil>"),
    Case("", 0, {"name": "a"}, {"name": "1a"}, "<nil>"),
    Case("spec.model", 0, _model(revision="main"), _model(source="pvc://c/m", revision="main"), "spec.model"),
    Case("spec.model.source", 0, _model(source="hf://org/name"), _model(source=""), "spec.model.source"),
    Case("spec.model.source", 1, _model(source="file:///m"), _model(source="s3://bucket/m"), "spec.model.source"),
    Case("spec.model.source", 1, _model(source="pvc://c"), _model(source="org/name"), "spec.model.source"),
    Case("spec.model.source", 2, _model(source="hf://Qwen/Qwen2.5-0.5B_x"), _model(source="hf://org/name@main"),
         "spec.model.source"),
    Case("spec.model.source", 2, _model(source="hf://gpt2"), _model(source="hf://a/b/c"), "spec.model.source"),
    Case("spec.model.source", 3, _model(source="pvc://models/a/b.c/"), _model(source="pvc:///a"), "spec.model.source"),
    Case("spec.model.source", 3, _model(source="pvc://models"), _model(source="pvc://Models/a"), "spec.model.source"),
    Case("spec.model.source", 4, _model(source="file:///m/llama-3.1"), _model(source="file://m"), "spec.model.source"),
    Case("spec.model.source", 5, _model(source="pvc://c/a..b/..c"), _model(source="pvc://c/../m"), "spec.model.source"),
    Case("spec.model.source", 5, _model(source="file:///a...b"), _model(source="file:///m/.."), "spec.model.source"),
    Case("spec.model.revision", 0, _model(revision="refs/pr/1"), _model(revision="-x"), "spec.model.revision"),
    Case("spec.model.revision", 0, _model(revision="0" * 40), _model(revision=""), "spec.model.revision"),
    Case("spec.model.servedNames[]", 0, _model(servedNames=["a/b:c@d"]), _model(servedNames=["a b"]),
         "spec.model.servedNames[0]"),
    Case("spec.model.servedNames[]", 0, _model(servedNames=["a"]), _model(servedNames=["a", ""]),
         "spec.model.servedNames[1]"),
    _name_rules("spec.model.secretRef.name", _model(secretRef={"name": "hf.token-1"}),
                _model(secretRef={"name": "HF_TOKEN"})),
    Case("spec.scaling", 0, {"scaling": {"min": 2, "max": 2}}, {"scaling": {"min": 3, "max": 2}}, "spec.scaling"),
    Case("spec.scaling", 1, _scaling(actuator="HPA", metric=METRIC), _scaling(actuator="HPA"), "spec.scaling"),
    Case("spec.scaling", 1, _scaling(actuator="KEDA"), _scaling(actuator="KEDA", metric=METRIC), "spec.scaling"),
    Case("spec.scaling", 1, _scaling(), _scaling(metric=METRIC), "spec.scaling"),
    Case("spec.scaling", 2, _scaling(min=0, idleSeconds=10), _scaling(min=1, idleSeconds=10), "spec.scaling"),
    Case("spec.scaling", 2, _scaling(min=0), _scaling(idleSeconds=10), "spec.scaling"),
    Case("spec.server.image", 0, {"server": {"image": "r.test:5000/a/b@sha256:00"}}, {"server": {"image": "a b"}},
         "spec.server.image"),
    *(Case(f"spec.server.args.{flag}", 0, {"server": {"args": {f"{flag}-of-mine": "x"}}},
           {"server": {"args": {flag: value}}}, f"spec.server.args.{flag}")
      for flag in OWNED_FLAGS for value in ("x", 1)),
    *(Case("spec.server.extraArgs[]", 0, {"server": {"extraArgs": [f"--{flag}-of-mine", flag]}},
           {"server": {"extraArgs": [f"--{flag}{value}"]}}, "spec.server.extraArgs[0]")
      for flag in OWNED_FLAGS for value in ("", "=x")),
    Case("spec.server.extraArgs[]", 1, {"server": {"extraArgs": ["--max-model-len=a_b", "a_b", "--cfg.some_key=1"]}},
         {"server": {"extraArgs": ["--x", "--max_model_len=1"]}}, "spec.server.extraArgs[1]"),
    _name_rules("spec.server.apiKeySecretRef.name", {"server": {"apiKeySecretRef": {"name": "team-keys.1"}}},
                {"server": {"apiKeySecretRef": {"name": "TEAM_KEYS"}}}),
    _name_rules("spec.server.env[].valueFrom.secretKeyRef.name", _from(secretKeyRef={"name": "a", "key": "k"}),
                _from(secretKeyRef={"name": "A", "key": "k"})),
    _name_rules("spec.server.env[].valueFrom.configMapKeyRef.name", _from(configMapKeyRef={"name": "a", "key": "k"}),
                _from(configMapKeyRef={"name": "-", "key": "k"})),
    _name_rules("spec.server.env[].valueFrom.resourceFieldRef.divisor",
                _from(resourceFieldRef={"resource": "limits.cpu", "divisor": "1m"}),
                _from(resourceFieldRef={"resource": "limits.cpu", "divisor": "tiny"})),
    *(Case(f"spec.resources.{kind}{{}}", 0, {"resources": {kind: {"cpu": good}}}, {"resources": {kind: {"cpu": bad}}},
           f"spec.resources.{kind}[cpu]")
      for kind in ("limits", "requests")
      for good, bad in (("1500m", "lots"), (0, -1), ("1.5Gi", "16GB"), ("2e3", "-1"), ("0", ""))),
    *(Case(f"spec.storage.{kind}", 0, {"storage": {kind: {"emptyDir": {}}}}, {"storage": {kind: given}},
           f"spec.storage.{kind}")
      for kind in ("weights", "engineCache")
      for given in ({}, {"emptyDir": {}, "persistentVolumeClaim": {"claimName": "a"}})),
    *(_name_rules(f"spec.storage.{kind}.emptyDir.sizeLimit", {"storage": {kind: {"emptyDir": {"sizeLimit": "40Gi"}}}},
                  {"storage": {kind: {"emptyDir": {"sizeLimit": "big"}}}})
      for kind in ("weights", "engineCache")),
    *(_name_rules(f"spec.storage.{kind}.persistentVolumeClaim.claimName",
                  {"storage": {kind: {"persistentVolumeClaim": {"claimName": "a.b"}}}},
                  {"storage": {kind: {"persistentVolumeClaim": {"claimName": "a/b"}}}})
      for kind in ("weights", "engineCache")),
    *(Case("spec.rollout", 0, {"rollout": good}, {"rollout": bad}, "spec.rollout")
      for good, bad in (
          ({"maxSurge": 0, "maxUnavailable": 1}, {"maxSurge": 0, "maxUnavailable": 0}),
          ({"maxUnavailable": 0}, {"maxSurge": 0}),
          ({"maxSurge": "25%"}, {"maxSurge": "0%", "maxUnavailable": "0%"}),
          ({"maxSurge": "0%", "maxUnavailable": "10%"}, {"maxSurge": "0%", "maxUnavailable": 0}))),
    *(_name_rules(f"spec.rollout.{name}", {"rollout": {name: good}}, {"rollout": {name: bad}})
      for name in ("maxSurge", "maxUnavailable")
      for good, bad in ((2, -1), ("50%", "half"), ("100%", "1"))),
]  # fmt: skip


@pytest.fixture(scope="module")
def endpoints(control_plane: ControlPlane) -> client.CustomObjectsApi:
    return client.CustomObjectsApi(config.new_client_from_config(str(control_plane.kubeconfig)))


def body(name: str = "demo", **spec: Any) -> Object:
    return {
        "apiVersion": "berth.dev/v1alpha1",
        "kind": "ModelEndpoint",
        "metadata": {"name": name},
        "spec": {"model": HUB, **spec},
    }


def refusals(api: client.CustomObjectsApi, endpoint: Object, **options: Any) -> dict[str, str]:
    """Message by field, of a create that is not stored; empty when it is accepted."""
    try:
        api.create_namespaced_custom_object(
            "berth.dev", "v1alpha1", "default", "modelendpoints", endpoint, dry_run="All", **options
        )
    except client.ApiException as error:
        answer = json.loads(error.body)
        return {cause["field"]: cause["message"] for cause in (answer.get("details") or {}).get("causes") or []} or {
            "": answer["message"]
        }
    return {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.path or 'root'}[{case.index}]-{case.refused}")
def test_rule(case: Case, endpoints: client.CustomObjectsApi) -> None:
    rule = [found for found in RULES if found.path == case.path][case.index]
    assert refusals(endpoints, body(**case.accepted)) == {}
    told = refusals(endpoints, body(**case.refused))
    assert list(told) == [case.field]
    assert told[case.field].endswith(f": {rule.message}")


def test_every_rule_has_a_case() -> None:
    indexed = {(rule.path, [same for same in RULES if same.path == rule.path].index(rule)) for rule in RULES}
    assert len(indexed) == len(RULES)
    assert {(case.path, case.index) for case in CASES} == indexed


def test_every_rule_says_what_to_write() -> None:
    for rule in RULES:
        assert len(rule.message.split()) >= 5, rule


class Bound(NamedTuple):
    name: str
    given: Object
    field: str
    says: str


BOUNDS = [
    Bound("no source", {"model": {}}, "spec.model.source", "Required value"),
    Bound("negative replicas", {"replicas": -1}, "spec.replicas", "greater than or equal to 0"),
    Bound("too many replicas", {"replicas": 1001}, "spec.replicas", "less than or equal to 1000"),
    Bound("replicas in words", {"replicas": "two"}, "spec.replicas", 'must be of type integer: "string"'),
    Bound("port 0", {"service": {"port": 0}}, "spec.service.port", "greater than or equal to 1"),
    Bound("port 65536", {"service": {"port": 65536}}, "spec.service.port", "less than or equal to 65535"),
    Bound("an unknown type of Service", {"service": {"type": "ExternalName"}}, "spec.service.type",
          'supported values: "ClusterIP", "NodePort", "LoadBalancer"'),
    Bound("an unknown medium", {"storage": {"weights": {"emptyDir": {"medium": "SSD"}}}},
          "spec.storage.weights.emptyDir.medium", 'supported values: "", "Memory"'),
    Bound("a negative drain", {"rollout": {"drainSeconds": -1}}, "spec.rollout.drainSeconds",
          "greater than or equal to 0"),
    Bound("a fraction as quantity", {"resources": {"limits": {"cpu": 0.5}}}, "spec.resources.limits.cpu",
          'must be of type integer,string: "number"'),
    Bound("too many served names", {"model": {**HUB, "servedNames": [f"n{i}" for i in range(17)]}},
          "spec.model.servedNames", "must have at most 16 items"),
    Bound("a variable without a name", {"server": {"env": [{"name": "", "value": "x"}]}}, "spec.server.env[0].name",
          "should be at least 1 chars long"),
    Bound("a variable twice", {"server": {"env": [{"name": "A"}, {"name": "A"}]}}, "spec.server.env[1]",
          'Duplicate value: {"name":"A"}'),
    Bound("too many flags", {"server": {"args": {f"f{i}": 1 for i in range(101)}}}, "spec.server.args",
          "must have at most 100 items"),
    Bound("no API", {"server": {"apis": []}}, "spec.server.apis", "should have at least 1 items"),
    Bound("an unknown API", {"server": {"apis": ["Cohere"]}}, "spec.server.apis[0]",
          'Unsupported value: "Cohere": supported values: "OpenAI", "LLMEngine", "ScaleEGP", "AlephAlpha"'),
    Bound("an API twice", {"server": {"apis": ["OpenAI", "OpenAI"]}}, "spec.server.apis[1]", "Duplicate value"),
    Bound("suspend in words", {"suspend": "yes"}, "spec.suspend", 'must be of type boolean: "string"'),
    Bound("a template that is no object", {"podTemplate": []}, "spec.podTemplate", 'must be of type object: "array"'),
]  # fmt: skip


@pytest.mark.parametrize("case", BOUNDS, ids=lambda case: case.name)
def test_types_and_bounds(case: Bound, endpoints: client.CustomObjectsApi) -> None:
    told = refusals(endpoints, body(**case.given))
    assert case.says in told.get(case.field, ""), told


def test_a_spec_is_needed(endpoints: client.CustomObjectsApi) -> None:
    without = {key: value for key, value in body().items() if key != "spec"}
    assert refusals(endpoints, without)["spec"] == "Required value"


def test_an_unknown_field_is_an_error_for_kubectl_and_pruned_for_who_does_not_ask(
    kubectl: Kubectl, namespace: str, endpoints: client.CustomObjectsApi
) -> None:
    wrong = body(replica=3, model={**HUB, "sauce": "x"})
    # On the server's side one of them is named, not always the same one.
    for side, told in (("--server-side=true", any), ("--server-side=false", all)):
        done = kubectl.try_run("apply", "-n", namespace, side, "-f", "-", stdin=json.dumps(wrong))
        assert done.returncode == 1
        assert told(field in done.stderr for field in ("replica", "sauce"))
    assert kubectl.find("mep", "demo", "-n", namespace) is None
    stored = endpoints.create_namespaced_custom_object(
        "berth.dev", "v1alpha1", namespace, "modelendpoints", wrong, field_validation="Ignore"
    )
    assert stored["spec"] == {"model": HUB, "replicas": 1}


def test_podtemplate_and_flags_keep_what_the_schema_does_not_know(kubectl: Kubectl, namespace: str) -> None:
    spec = {
        "podTemplate": {"spec": {"nodeSelector": {"a": "b"}, "nonsense": [1, {"a": True}]}},
        "server": {"args": {"max-model-len": 8192, "x": {"a": [1.5]}, "list": ["a", 1], "on": True}},
    }
    kubectl.run("apply", "-n", namespace, "-f", "-", stdin=json.dumps(body(**spec)))
    stored = kubectl.get("mep", "demo", "-n", namespace)["spec"]
    assert {name: stored[name] for name in spec} == spec


def test_only_replicas_has_a_default_in_the_stored_object(kubectl: Kubectl, namespace: str) -> None:
    """What the API server adds shows up as drift in GitOps tools; and without replicas, GET /scale would fail."""
    kubectl.apply([{**body(), "metadata": {"name": "demo", "namespace": namespace}}])
    assert kubectl.get("mep", "demo", "-n", namespace)["spec"] == {"model": HUB, "replicas": 1}


def test_get_shows_where_one_stands(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply([{**body(), "metadata": {"name": "demo", "namespace": namespace}}])
    condition = {
        "type": "Ready", "status": "False", "reason": str(Reason.ROLLING_OUT), "message": "x",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }  # fmt: skip
    status = {"conditions": [condition], "url": "http://demo.x.svc.cluster.local", "readyReplicas": 2}
    patch = json.dumps({"status": status})
    kubectl.run("patch", "mep", "demo", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    for name in ("mep", "modelendpoints", "modelendpoint"):
        header, row = kubectl.run("get", name, "-n", namespace).splitlines()
        assert header.split() == ["NAME", "READY", "REASON", "PROGRESS", "URL", "REPLICAS", "MODEL", "AGE"]
        assert row.split()[:6] == [
            "demo", "False", "RollingOut", "http://demo.x.svc.cluster.local", "2", "hf://org/model",
        ]  # fmt: skip
    assert "modelendpoint.berth.dev/demo" in kubectl.run("get", "all", "-n", namespace, "-o", "name")


def test_scale_works_before_anything_else_does(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply([{**body(), "metadata": {"name": "demo", "namespace": namespace}}])
    path = f"/apis/berth.dev/v1alpha1/namespaces/{namespace}/modelendpoints/demo/scale"
    assert json.loads(kubectl.run("get", "--raw", path))["spec"] == {"replicas": 1}
    kubectl.run("scale", "mep", "demo", "-n", namespace, "--replicas=3")
    assert kubectl.get("mep", "demo", "-n", namespace)["spec"]["replicas"] == 3
    patch = json.dumps({"status": {"replicas": 2, "selector": "berth.dev/endpoint=demo"}})
    kubectl.run("patch", "mep", "demo", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    scale = json.loads(kubectl.run("get", "--raw", path))
    assert scale["status"] == {"replicas": 2, "selector": "berth.dev/endpoint=demo"}


def test_status_is_written_apart_from_the_spec(kubectl: Kubectl, namespace: str) -> None:
    given = {**body(), "metadata": {"name": "demo", "namespace": namespace}, "status": {"url": "x"}}
    kubectl.apply([given])
    assert "status" not in kubectl.get("mep", "demo", "-n", namespace)


def test_variables_of_two_appliers_stand_side_by_side(kubectl: Kubectl, namespace: str) -> None:
    for manager in ("one", "two"):
        spec = body(server={"env": [{"name": manager.upper(), "value": "x"}]})
        command = ["apply", "-n", namespace, "--server-side", f"--field-manager={manager}", "-f", "-"]
        kubectl.run(*command, stdin=json.dumps(spec))
    env = kubectl.get("mep", "demo", "-n", namespace)["spec"]["server"]["env"]
    assert sorted(var["name"] for var in env) == ["ONE", "TWO"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (lambda word: {"model": {**HUB, "servedNames": [word]}}, ".spec.model.servedNames"),
        (lambda word: {"server": {"extraArgs": [f"--{word}"]}}, ".spec.server.extraArgs"),
    ],
)
def test_lists_in_which_the_order_counts_belong_to_one_applier(
    given: Any, field: str, kubectl: Kubectl, namespace: str
) -> None:
    command = ["apply", "-n", namespace, "--server-side", "-f", "-", "--field-manager"]
    kubectl.run(*command, "one", stdin=json.dumps(body(**given("one"))))
    done = kubectl.try_run(*command, "two", stdin=json.dumps(body(**given("two"))))
    assert done.returncode == 1
    assert f'conflict with "one": {field}' in done.stderr


def test_conditions_of_two_writers_stand_side_by_side(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply([{**body(), "metadata": {"name": "demo", "namespace": namespace}}])
    for kind in ("One", "Two"):
        condition = {
            "type": kind,
            "status": "True",
            "reason": "X",
            "message": "",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        }
        given = {**body(), "status": {"conditions": [condition]}}
        command = ["apply", "-n", namespace, "--server-side", "--subresource=status", f"--field-manager={kind.lower()}"]
        kubectl.run(*command, "-f", "-", stdin=json.dumps(given))
    found = kubectl.get("mep", "demo", "-n", namespace)["status"]["conditions"]
    assert sorted(item["type"] for item in found) == ["One", "Two"]


def test_the_crd_fits_into_the_annotation_of_a_client_side_apply(kubectl: Kubectl) -> None:
    assert CRD_FILE.stat().st_size < 200_000
    kubectl.run("apply", "--server-side=false", "-f", str(CRD_FILE))
    stored = kubectl.get("crd", "modelendpoints.berth.dev")["metadata"]["annotations"]
    assert len(stored["kubectl.kubernetes.io/last-applied-configuration"]) < 200_000


def test_explain_says_what_every_field_is_for(kubectl: Kubectl) -> None:
    text = kubectl.run("explain", "mep.spec.model.source")
    assert "Where the model is: `hf://org/name`" in " ".join(text.split())
    assert undescribed(SCHEMA["properties"]["spec"]) == []
    assert undescribed(SCHEMA["properties"]["status"]) == []


def undescribed(node: Object, path: str = "") -> list[str]:
    """Paths of the properties without a description."""
    found = []
    for name, child in node.get("properties", {}).items():
        found += [] if child.get("description") else [f"{path}.{name}"]
        found += undescribed(child, f"{path}.{name}")
    return found + (undescribed(node["items"], f"{path}[]") if "items" in node else [])


def test_every_list_says_what_kind_of_list_it_is() -> None:
    assert untyped(SCHEMA) == []


def untyped(node: Object, path: str = "") -> list[str]:
    """Paths of the lists without x-kubernetes-list-type."""
    found = [path] if node.get("type") == "array" and "x-kubernetes-list-type" not in node else []
    for name, child in node.get("properties", {}).items():
        found += untyped(child, f"{path}.{name}")
    return found + (untyped(node["items"], f"{path}[]") if "items" in node else [])


def test_lists_of_a_pod_merge_by_the_keys_of_the_api_server(kubectl: Kubectl) -> None:
    schemas = json.loads(kubectl.run("get", "--raw", "/openapi/v3/api/v1"))["components"]["schemas"]
    found: dict[str, tuple[str, ...]] = {}
    todo, done = ["io.k8s.api.core.v1.PodSpec"], set[str]()
    while todo:
        name = todo.pop()
        done.add(name)
        for field, schema in schemas[name].get("properties", {}).items():
            if keys := schema.get("x-kubernetes-list-map-keys"):
                found[field] = tuple(keys)
            references = re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(schema))
            todo += [reference for reference in references if reference not in done]
    # Of a volume's claim template: metadata that nobody writes there.
    del found["ownerReferences"]
    assert found == MERGE_KEYS
