"""What happens to an endpoint, or to the operator, in the middle of a pass."""

import json

import pytest

from local.kubectl import Kubectl
from tests.apiserver.endpoints import CHILDREN, endpoint, status, waits_for_pods
from tests.apiserver.faults.actions import Hold
from tests.apiserver.faults.ledger import LIMIT_SECONDS, Ledger, new_endpoint
from tests.apiserver.faults.proxy import Proxy
from tests.apiserver.operators import Operator
from tests.waiting import eventually


@pytest.mark.parametrize("resource", ["deployments", "services", "poddisruptionbudgets", "modelendpoints/status"])
def test_a_pass_that_a_kill_ended_is_finished_by_the_next_operator(
    resource: str, kubectl: Kubectl, namespace: str, operator_process: Operator, proxy: Proxy, ledger: Ledger
) -> None:
    operator_process.start(LEASE_SECONDS="3")  # the next one waits for it
    hold = Hold()
    proxy.once("patch", resource, hold)
    kubectl.apply([endpoint(namespace)])
    hold.wait()
    operator_process.kill()
    assert sum(ledger.written().values()) == list(new_endpoint()).index(("patch", resource, "demo"))
    operator_process.start()
    eventually(lambda: waits_for_pods(kubectl, namespace), LIMIT_SECONDS, "the endpoint waits for its pods")
    assert ledger.settled() == new_endpoint()


def test_the_last_of_several_edits_wins(
    kubectl: Kubectl, namespace: str, operator: Operator, proxy: Proxy, ledger: Ledger
) -> None:
    kubectl.apply([endpoint(namespace, replicas=3)])
    eventually(lambda: status(kubectl, namespace).get("replicas") == 3, LIMIT_SECONDS, "three pods")
    before = ledger.settled()
    hold = Hold()
    proxy.once("patch", "deployments", hold)
    kubectl.apply([endpoint(namespace, replicas=2)])
    hold.wait()
    kubectl.apply([endpoint(namespace, replicas=3)])
    hold.release()
    generation = kubectl.get("mep", "demo", "-n", namespace)["metadata"]["generation"]
    eventually(
        lambda: status(kubectl, namespace)["observedGeneration"] == generation, LIMIT_SECONDS, "status of the last edit"
    )
    spent = ledger.settled() - before
    assert spent[("patch", "deployments", "demo")] == 2
    assert set(spent) <= {("patch", "deployments", "demo"), ("patch", "modelendpoints/status", "demo")}
    assert kubectl.get("deployment", "demo", "-n", namespace)["spec"]["replicas"] == 3
    assert status(kubectl, namespace)["replicas"] == 3
    assert status(kubectl, namespace)["observedGeneration"] == generation


def no_children(kubectl: Kubectl, namespace: str) -> bool:
    return not any(kubectl.find(kind, "demo", "-n", namespace) for kind in (*CHILDREN, "pods"))


@pytest.mark.parametrize("resource", ["deployments", "services", "modelendpoints/status"])
def test_an_endpoint_deleted_in_the_middle_of_a_pass_leaves_nothing(
    resource: str, kubectl: Kubectl, namespace: str, operator: Operator, proxy: Proxy, ledger: Ledger
) -> None:
    hold = Hold()
    proxy.once("patch", resource, hold)
    kubectl.apply([endpoint(namespace)])
    hold.wait()
    kubectl.run("delete", "mep", "demo", "-n", namespace)
    hold.release()
    eventually(lambda: no_children(kubectl, namespace), LIMIT_SECONDS, "no child is left")
    spent = ledger.settled()
    assert spent <= new_endpoint()
    assert no_children(kubectl, namespace)
    assert ("patch", "modelendpoints/status", "demo") not in spent


@pytest.mark.parametrize("resource", ["deployments", "modelendpoints/status"])
def test_a_pass_for_a_deleted_endpoint_does_not_touch_the_one_made_again(
    resource: str, kubectl: Kubectl, namespace: str, operator: Operator, proxy: Proxy, ledger: Ledger
) -> None:
    """The old one was suspended: whatever of it landed on the new one would say so."""
    hold = Hold()
    old = proxy.once("patch", resource, hold)
    kubectl.apply([endpoint(namespace, suspend=True)])
    hold.wait()
    kubectl.run("delete", "mep", "demo", "-n", namespace)
    kubectl.apply([endpoint(namespace)])
    new = kubectl.get("mep", "demo", "-n", namespace)["metadata"]["uid"]
    hold.release()
    eventually(lambda: waits_for_pods(kubectl, namespace), LIMIT_SECONDS, "the new one waits for its pods")
    ledger.settled()
    told = [call for call in proxy.calls if (call.resource, call.name) == ("modelendpoints/status", "demo")]
    for call in told:
        of, status_sent = json.loads(call.body)
        reasons = {item["reason"] for item in status_sent["value"]["conditions"]}
        assert ("Suspended" in reasons) == (of["value"] != new)
    assert status(kubectl, namespace)["replicas"] == 1
    for kind in CHILDREN:
        owner = kubectl.get(kind, "demo", "-n", namespace)["metadata"]["ownerReferences"][0]
        assert owner["uid"] == new
    assert len(old.calls) == 1


def test_foreground_deletion_is_not_worked_against(
    kubectl: Kubectl, namespace: str, operator: Operator, ledger: Ledger
) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), LIMIT_SECONDS, "the endpoint waits for its pods")
    before = ledger.settled()
    kubectl.run("delete", "mep", "demo", "-n", namespace, "--cascade=foreground", "--wait=false")
    eventually(lambda: kubectl.find("mep", "demo", "-n", namespace) is None, LIMIT_SECONDS, "the endpoint is gone")
    assert ledger.settled() == before
    eventually(lambda: no_children(kubectl, namespace), LIMIT_SECONDS, "no child is left")


def test_a_terminating_namespace_is_left_alone(
    kubectl: Kubectl, namespace: str, operator: Operator, proxy: Proxy, ledger: Ledger
) -> None:
    hold = Hold()
    proxy.once("patch", "services", hold)
    kubectl.apply([endpoint(namespace), pin(namespace)])
    hold.wait()
    kubectl.run("delete", "namespace", namespace, "--wait=false")
    eventually(
        lambda: kubectl.get("namespace", namespace)["status"]["phase"] == "Terminating",
        LIMIT_SECONDS,
        "the namespace is going",
    )
    hold.release()
    assert set(ledger.settled()) <= {("patch", "deployments", "demo"), ("patch", "modelendpoints/status", "demo")}
    kubectl.run("patch", "configmap", "pin", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    eventually(lambda: kubectl.find("namespace", namespace) is None, LIMIT_SECONDS, "the namespace is gone")
    ledger.settled()
    sent = [call for call in proxy.calls if call.namespace == namespace and call.verb in ("patch", "delete")]
    assert len(sent) <= 16, "one try for each child that goes, and status, is enough"
    assert not operator.events("reconcile_postponed"), "there is nothing to come back for"


def pin(namespace: str) -> dict[str, object]:
    """Keeps its namespace in the state Terminating."""
    metadata = {"name": "pin", "namespace": namespace, "finalizers": ["example.com/pin"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
