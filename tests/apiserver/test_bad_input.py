"""Input that the schema lets pass and that cannot be carried out: told on the object, nothing changed, mended at once.

Input: endpoints with one fault each, and objects of others under a child's name.  Output: conditions, and the children
that stay as they are.  Not mocked: anything but the kubelet, whose part tests play by patching pod status.
"""

import json
from typing import Any, NamedTuple

import pytest

from local.kubectl import Kubectl, condition
from tests.apiserver.endpoints import Calls
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("shared_operator")

Object = dict[str, Any]
SECONDS = 20.0


def apply(kubectl: Kubectl, namespace: str, name: str = "demo", **spec: Any) -> int:
    """Replace the spec; returns the generation."""
    found = {
        "apiVersion": "berth.dev/v1alpha1",
        "kind": "ModelEndpoint",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"source": "file:///models/tiny"}, **spec},
    }
    kubectl.apply([found])
    generation: int = kubectl.get("mep", name, "-n", namespace)["metadata"]["generation"]
    return generation


def judged(kubectl: Kubectl, namespace: str, generation: int, name: str = "demo") -> Object:
    """The endpoint, once the operator has judged this generation."""

    def look() -> Object | None:
        found = kubectl.get("mep", name, "-n", namespace)
        return found if condition(found, "Ready").get("observedGeneration") == generation else None

    endpoint: Object = eventually(look, SECONDS, f"generation {generation} is judged")
    return endpoint


def told(endpoint: Object, kind: str = "Accepted") -> tuple[str, str]:
    found = condition(endpoint, kind)
    return found.get("status", ""), found.get("reason", "")


def serve(kubectl: Kubectl, namespace: str) -> None:
    """Make the pods of `demo` ready, as their kubelet would."""
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}

    def pods() -> list[Object]:
        found: list[Object] = kubectl.get("pods", "-n", namespace)["items"]
        return found

    for pod in eventually(pods, SECONDS, "a pod"):
        name = pod["metadata"]["name"]
        kubectl.run(
            "patch", "pod", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", json.dumps(ready)
        )
    eventually(lambda: told(kubectl.get("mep", "demo", "-n", namespace), "Ready")[0] == "True", SECONDS, "Ready")


class Case(NamedTuple):
    """text: in the message, the field and the way out."""

    name: str
    spec: Object
    reason: str
    text: tuple[str, ...]


def _pod(**spec: Any) -> Object:
    return {"podTemplate": {"spec": spec}}


CASES = [
    Case("a flag with underscores", {"server": {"args": {"max_model_len": 8192}}}, "InvalidSpec",
         ("spec.server.args[max_model_len]", "write max-model-len")),
    Case("an owned flag with underscores", {"server": {"args": {"served_model_name": "x"}}}, "InvalidSpec",
         ("spec.server.args[served_model_name]", "use spec.model.servedNames")),
    Case("an unknown field of the pod", _pod(nodeSelektor={"a": "b"}), "InvalidPodTemplate",
         ("spec.podTemplate.spec.nodeSelektor", "is not a field of a pod template: remove it, or correct its name")),
    Case("an unknown field of a container", _pod(containers=[{"name": "server", "imagePolicy": "Always"}]),
         "InvalidPodTemplate", ('spec.podTemplate.spec.containers[name="server"].imagePolicy', "is not a field")),
    Case("a wrong type", _pod(hostNetwork="yes"), "InvalidPodTemplate",
         ("spec.podTemplate.spec.hostNetwork: expected boolean, got yes",)),
    Case("lists where maps belong", _pod(containers=[["a"]], volumes=[{"name": {"a": 1}}]), "InvalidPodTemplate",
         ("spec.podTemplate.spec.containers",)),
    Case("a value that pods cannot have", _pod(dnsPolicy="Nope"), "InvalidPodTemplate",
         ("spec.podTemplate.spec.dnsPolicy", 'supported values: "ClusterFirstWithHostNet"')),
    Case("a field beside metadata and spec", {"podTemplate": {"tolerations": []}}, "InvalidPodTemplate",
         ("spec.podTemplate.tolerations", "only metadata and spec: move or remove it")),
    Case("the label that selects", {"podTemplate": {"metadata": {"labels": {"berth.dev/endpoint": "x"}}}},
         "InvalidPodTemplate", ("spec.podTemplate.metadata.labels[berth.dev/endpoint]", "use another label")),
    Case("the server's command", _pod(containers=[{"name": "server", "command": ["sleep"]}]), "InvalidPodTemplate",
         ("spec.podTemplate.spec.containers[server].command", "remove it")),
    Case("the server's probes", _pod(containers=[{"name": "server", "readinessProbe": {"exec": {}}}]),
         "InvalidPodTemplate", ("spec.podTemplate.spec.containers[server].readinessProbe", "remove it")),
    Case("the grace period", _pod(terminationGracePeriodSeconds=5), "InvalidPodTemplate",
         ("spec.podTemplate.spec.terminationGracePeriodSeconds", "use spec.rollout.drainSeconds")),
    Case("an extended resource requested without a limit", {"resources": {"requests": {"nvidia.com/gpu": 1}}},
         "InvalidSpec", ("spec.resources.requests[nvidia.com/gpu]", "set spec.resources.limits[nvidia.com/gpu]")),
    Case("a request above its limit", {"resources": {"limits": {"cpu": 1}, "requests": {"cpu": 2}}}, "InvalidSpec",
         ("spec.resources.requests", "must be less than or equal to cpu limit")),
    Case("more unavailable than there is", {"rollout": {"maxUnavailable": "150%"}}, "InvalidSpec",
         ("spec.rollout.maxUnavailable", "must not be greater than 100%")),
    Case("an annotation that no object may have", {"service": {"annotations": {"a b": "c"}}}, "InvalidSpec",
         ("spec.service.annotations[a b]", "is not the name of an annotation")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_new_endpoint_with_a_fault_is_told_so_and_works_once_it_is_mended(
    case: Case, kubectl: Kubectl, namespace: str
) -> None:
    found = judged(kubectl, namespace, apply(kubectl, namespace, **case.spec))
    assert told(found) == ("False", case.reason)
    assert told(found, "Ready") == ("False", case.reason)
    assert told(found, "Stalled") == ("True", case.reason)
    message = condition(found, "Accepted")["message"]
    assert [text for text in case.text if text not in message] == [], message

    mended = judged(kubectl, namespace, apply(kubectl, namespace))
    assert told(mended) == ("True", "Accepted")
    assert condition(mended, "Stalled") == {}
    for kind in ("deployment", "service", "poddisruptionbudget"):
        assert kubectl.find(kind, "demo", "-n", namespace), kind


@pytest.mark.parametrize("case", CASES[:4], ids=lambda case: case.name)
def test_a_faulty_edit_leaves_the_pods_of_the_last_valid_spec_alone(
    case: Case, kubectl: Kubectl, namespace: str
) -> None:
    apply(kubectl, namespace)
    serve(kubectl, namespace)
    before = {kind: kubectl.get(kind, "-n", namespace)["items"] for kind in ("deployment", "service", "pods")}
    found = judged(kubectl, namespace, apply(kubectl, namespace, replicas=3, service={"port": 81}, **case.spec))
    assert told(found) == told(found, "Ready") == ("False", case.reason)
    assert told(found, "Available") == ("True", "Serving")
    assert found["status"]["url"] == f"http://demo.{namespace}.svc.cluster.local"
    assert {kind: kubectl.get(kind, "-n", namespace)["items"] for kind in before} == before

    mended = judged(kubectl, namespace, apply(kubectl, namespace))
    assert told(mended, "Ready") == ("True", "Serving")
    assert condition(mended, "Stalled") == {}


def test_a_faulty_edit_changes_nothing_of_an_endpoint_without_a_serving_pod(kubectl: Kubectl, namespace: str) -> None:
    """Its old pods may leave at once: Berth then asks for 100% unavailable, which hides that 150% were refused."""
    apply(kubectl, namespace)
    eventually(lambda: kubectl.get("mep", "demo", "-n", namespace).get("status", {}).get("replicas"), SECONDS, "a pod")
    before = {kind: kubectl.get(kind, "demo", "-n", namespace)["spec"] for kind in CHILDREN}
    args = {"server": {"args": {"seed": 1}}}
    found = judged(kubectl, namespace, apply(kubectl, namespace, rollout={"maxUnavailable": "150%"}, **args))
    assert told(found) == ("False", "InvalidSpec")
    assert {kind: kubectl.get(kind, "demo", "-n", namespace)["spec"] for kind in CHILDREN} == before


def test_several_faults_are_told_in_one_order(kubectl: Kubectl, namespace: str, calls: Calls) -> None:
    """The API server tells them in another order each time: that alone must not be written."""
    faults = {"containers": [["a"]], "volumes": [{"name": {"a": 1}}], "nodeSelector": "b", "hostNetwork": "yes"}
    found = judged(kubectl, namespace, apply(kubectl, namespace, podTemplate={"spec": faults}))
    assert told(found) == ("False", "InvalidPodTemplate")
    for number in range(8):
        tried = calls(namespace)["patch", "deployments"]
        kubectl.run("annotate", "mep", "demo", "-n", namespace, f"example.com/touched={number}", "--overwrite")
        eventually(lambda tried=tried: calls(namespace)["patch", "deployments"] > tried, SECONDS, "another attempt")
    assert calls(namespace)["patch", "modelendpoints/status"] == 1


CHILDREN = {
    "service": {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 1}], "selector": {"app": "mine"}}},
    "poddisruptionbudget": {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "mine"}}},
    },
    "deployment": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "mine"}},
            "template": {
                "metadata": {"labels": {"app": "mine"}},
                "spec": {"containers": [{"name": "x", "image": "x"}]},
            },
        },
    },
}


@pytest.mark.parametrize("labels", [{}, {"app.kubernetes.io/managed-by": "berth", "berth.dev/endpoint": "demo"}])
@pytest.mark.parametrize("kind", CHILDREN)
def test_an_object_of_somebody_else_under_a_child_s_name_stays_untouched(
    kind: str, labels: Object, kubectl: Kubectl, namespace: str
) -> None:
    foreign = {**CHILDREN[kind], "metadata": {"name": "demo", "namespace": namespace, "labels": labels}}
    kubectl.apply([foreign])
    before = kubectl.get(kind, "demo", "-n", namespace)
    found = judged(kubectl, namespace, apply(kubectl, namespace))
    assert told(found) == told(found, "Ready") == ("False", "NameTaken")
    message = condition(found, "Accepted")["message"]
    assert message.startswith(f"{foreign['kind']} {namespace}/demo exists already")
    assert f"give the endpoint another name, or delete that {foreign['kind']}" in message
    assert "url" not in found["status"]
    after = kubectl.get(kind, "demo", "-n", namespace)
    # The controllers of Kubernetes may write their status at any time.
    assert {**after["metadata"], "resourceVersion": ""} == {**before["metadata"], "resourceVersion": ""}
    assert after["spec"] == before["spec"]
    others = [other for other in CHILDREN if other != kind]
    assert [other for other in others if kubectl.find(other, "demo", "-n", namespace)] == []

    kubectl.run("delete", "mep", "demo", "-n", namespace, "--wait=true")
    assert kubectl.get(kind, "demo", "-n", namespace)["metadata"]["uid"] == before["metadata"]["uid"]


def test_a_name_that_becomes_free_is_used(kubectl: Kubectl, namespace: str) -> None:
    """The foreign Service carries the watched label: its end is seen at once, not at the next look."""
    labels = {"app.kubernetes.io/managed-by": "berth", "berth.dev/endpoint": "demo"}
    kubectl.apply([{**CHILDREN["service"], "metadata": {"name": "demo", "namespace": namespace, "labels": labels}}])
    generation = apply(kubectl, namespace)
    assert told(judged(kubectl, namespace, generation)) == ("False", "NameTaken")
    kubectl.run("delete", "service", "demo", "-n", namespace)
    eventually(
        lambda: told(kubectl.get("mep", "demo", "-n", namespace)) == ("True", "Accepted"), SECONDS, "the name is free"
    )


def test_an_endpoint_made_again_waits_for_the_children_of_the_old_one(kubectl: Kubectl, namespace: str) -> None:
    """A finalizer keeps the old Service: its owner is an endpoint of the same name that is gone."""
    apply(kubectl, namespace)
    eventually(lambda: kubectl.find("service", "demo", "-n", namespace), SECONDS, "the Service")
    hold = json.dumps({"metadata": {"finalizers": ["example.com/hold"]}})
    kubectl.run("patch", "service", "demo", "-n", namespace, "--type=merge", "-p", hold)
    kubectl.run("delete", "mep", "demo", "-n", namespace, "--wait=true")
    # The garbage collector looks for new kinds every 30 s; the CRD may be younger than that.
    eventually(
        lambda: kubectl.get("service", "demo", "-n", namespace)["metadata"].get("deletionTimestamp"), 90, "its end"
    )
    old = kubectl.get("service", "demo", "-n", namespace)["metadata"]["uid"]
    found = judged(kubectl, namespace, apply(kubectl, namespace))
    assert told(found) == ("False", "WaitingForDeletion")
    assert told(found, "Reconciling") == ("True", "WaitingForDeletion")
    assert condition(found, "Stalled") == {}

    release = json.dumps({"metadata": {"finalizers": None}})
    kubectl.run("patch", "service", "demo", "-n", namespace, "--type=merge", "-p", release)
    eventually(lambda: told(kubectl.get("mep", "demo", "-n", namespace)) == ("True", "Accepted"), SECONDS, "accepted")
    assert kubectl.get("service", "demo", "-n", namespace)["metadata"]["uid"] != old


def test_a_quota_that_forbids_the_pods_is_on_the_object(kubectl: Kubectl, namespace: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace}}
    kubectl.apply([{**quota, "spec": {"hard": {"pods": "0"}}}])
    eventually(lambda: kubectl.get("quota", "none", "-n", namespace).get("status", {}).get("hard"), SECONDS, "a quota")
    apply(kubectl, namespace)
    eventually(
        lambda: told(kubectl.get("mep", "demo", "-n", namespace), "Ready") == ("False", "PodsNotCreated"),
        SECONDS,
        "the quota's refusal",
    )
    (problem,) = kubectl.get("mep", "demo", "-n", namespace)["status"]["problems"]
    assert "exceeded quota: none" in problem["message"]
    assert problem["pod"] == ""


def test_a_null_takes_nothing_away(kubectl: Kubectl, namespace: str) -> None:
    """Where it knows no types, the API server keeps a null. `spec:` with nothing behind it is one."""
    for template in ({"spec": None}, {"metadata": None, "spec": {"containers": None, "securityContext": None}}):
        found = judged(kubectl, namespace, apply(kubectl, namespace, podTemplate=template))
        assert told(found) == ("True", "Accepted")
    spec = kubectl.get("deployment", "demo", "-n", namespace)["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True


def test_a_flag_that_is_null_is_refused(kubectl: Kubectl, namespace: str) -> None:
    found = judged(kubectl, namespace, apply(kubectl, namespace, server={"args": {"seed": None}}))
    assert told(found) == ("False", "InvalidSpec")
    assert "spec.server.args[seed]" in condition(found, "Accepted")["message"]
