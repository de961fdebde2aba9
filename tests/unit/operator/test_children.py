"""What the children have in common, and the Service and PodDisruptionBudget."""

import dataclasses
from typing import Any, NamedTuple

import pytest

from berth.api.names import INTENT_ANNOTATION
from berth.api.spec import Backend
from berth.decide.differs import differs
from berth.desired.children import children
from berth.desired.service import url
from tests.builders import PLATFORM, parsed

Object = dict[str, Any]


def by_kind(**spec: Any) -> dict[str, Object]:
    return {manifest["kind"]: manifest for manifest in children(parsed(**spec), PLATFORM)}


def test_every_child_has_the_endpoint_s_name_labels_and_owner() -> None:
    for manifest in by_kind().values():
        meta = manifest["metadata"]
        assert (meta["namespace"], meta["name"]) == ("team-a", "demo")
        assert meta["labels"] == {"app.kubernetes.io/managed-by": "berth", "berth.dev/endpoint": "demo"}
        assert meta["ownerReferences"] == [
            {
                "apiVersion": "berth.dev/v1alpha1",
                "kind": "ModelEndpoint",
                "name": "demo",
                "uid": "uid-of-demo",
                "controller": True,
            }
        ]


def test_pods_are_selected_by_the_endpoint_s_label_alone() -> None:
    found = by_kind()
    selector = {"berth.dev/endpoint": "demo"}
    assert found["Deployment"]["spec"]["selector"] == {"matchLabels": selector}
    assert found["PodDisruptionBudget"]["spec"]["selector"] == {"matchLabels": selector}
    assert found["Service"]["spec"]["selector"] == selector
    assert selector.items() <= found["Deployment"]["spec"]["template"]["metadata"]["labels"].items()


def test_intent_is_the_same_for_the_same_spec_and_another_for_another() -> None:
    def intents(**spec: Any) -> dict[str, str]:
        return {kind: found["metadata"]["annotations"][INTENT_ANNOTATION] for kind, found in by_kind(**spec).items()}

    one, other = intents(), intents(service={"port": 81})
    assert one == intents()
    assert one["Service"] != other["Service"]
    assert one["Deployment"] == other["Deployment"]
    assert len(set(one.values())) == 3


def test_annotations_of_the_service_stay_beside_the_intent() -> None:
    found = by_kind(service={"annotations": {"a": "b"}})["Service"]["metadata"]["annotations"]
    assert found["a"] == "b"
    assert INTENT_ANNOTATION in found


def test_an_eviction_never_waits_for_a_pod_that_does_not_serve() -> None:
    spec = by_kind()["PodDisruptionBudget"]["spec"]
    assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


class Replicas(NamedTuple):
    name: str
    spec: Object
    expect: int


@pytest.mark.parametrize(
    "case",
    [
        Replicas("as the spec says", {"replicas": 3}, 3),
        Replicas("none", {"replicas": 0}, 0),
        Replicas("suspended", {"replicas": 3, "suspend": True}, 0),
    ],
    ids=lambda case: case.name,
)
def test_replicas(case: Replicas) -> None:
    assert by_kind(**case.spec)["Deployment"]["spec"]["replicas"] == case.expect


def test_a_rollout_is_as_the_spec_says_and_has_no_deadline_of_kubernetes() -> None:
    spec = by_kind(rollout={"maxSurge": "25%", "maxUnavailable": 1})["Deployment"]["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}
    assert spec["progressDeadlineSeconds"] == 2**31 - 1


class Url(NamedTuple):
    name: str
    spec: Object
    domain: str
    expect: str


@pytest.mark.parametrize(
    "case",
    [
        Url("port 80 is not said", {}, "cluster.local", "http://demo.team-a.svc.cluster.local"),
        Url("another port is", {"service": {"port": 81}}, "cluster.local", "http://demo.team-a.svc.cluster.local:81"),
        Url("the cluster's own domain", {}, "k8s.corp", "http://demo.team-a.svc.k8s.corp"),
    ],
    ids=lambda case: case.name,
)
def test_url(case: Url) -> None:
    assert url(parsed(**case.spec), dataclasses.replace(PLATFORM, cluster_domain=case.domain)) == case.expect


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
def test_the_service_leads_to_the_server_s_port(kind: str) -> None:
    spec = by_kind(service={"type": kind, "port": 8080})["Service"]["spec"]
    assert spec["type"] == kind
    assert spec["ports"] == [{"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}]


def test_the_way_to_the_gateway_is_a_slice_beside_those_of_the_service() -> None:
    ep = parsed(scaling={"min": 0, "max": 2})
    assert "EndpointSlice" not in {manifest["kind"] for manifest in children(ep, PLATFORM)}
    held = Backend(port=20007, addresses=("10.0.0.9", "10.0.0.10"))
    *before, found = children(ep.model_copy(update={"gateway": held}), PLATFORM)
    assert before == children(ep, PLATFORM)
    assert found["metadata"]["name"] == "demo-gateway"
    assert found["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "berth",
        "berth.dev/endpoint": "demo",
        "endpointslice.kubernetes.io/managed-by": "berth.dev",
        "kubernetes.io/service-name": "demo",
    }
    assert found["metadata"]["ownerReferences"] == before[0]["metadata"]["ownerReferences"]
    assert found["ports"] == [{"name": "http", "port": 20007, "protocol": "TCP"}]
    assert [each["addresses"] for each in found["endpoints"]] == [["10.0.0.10"], ["10.0.0.9"]]
    emptied = children(ep.model_copy(update={"gateway": Backend(port=20007)}), PLATFORM)[-1]
    assert (emptied["endpoints"], emptied["ports"]) == ([], found["ports"])
    assert differs(emptied, found) == "metadata.annotations.berth.dev/intent"
    assert differs({"endpoints": []}, found) == "endpoints"
    assert differs({"ports": [{"name": "http", "port": 20008}]}, found) == "ports[0].port"


def test_an_autoscaler_of_another_kind_knows_nothing_of_zero() -> None:
    scaling = {"min": 0, "max": 2, "actuator": "KEDA"}
    ep = parsed(scaling=scaling).model_copy(update={"autoscaler": "KEDA"})
    (found,) = (manifest for manifest in children(ep, PLATFORM) if manifest["kind"] == "ScaledObject")
    assert found["spec"]["minReplicaCount"] == 1
