"""The reconcile core against a real API server: calls counted, nothing written twice, drift repaired."""

import json
import time
from collections import Counter
from typing import Any

from local.kubectl import Kubectl, condition
from tests.apiserver.endpoints import (
    CHILDREN,
    ONE_ENDPOINT,
    Calls,
    Object,
    endpoint,
    only_pod,
    patch_pod_status,
    reason,
    status,
    versions,
    waits_for_pods,
    writes,
)
from tests.waiting import eventually


def test_an_endpoint_costs_one_write_per_child_and_one_status(
    kubectl: Kubectl, namespace: str, operator: Any, calls: Calls
) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    assert writes(calls(namespace)) == ONE_ENDPOINT
    assert status(kubectl, namespace)["replicas"] == 1


def test_work_per_endpoint_does_not_grow_with_their_number_and_a_quiet_minute_writes_nothing(
    kubectl: Kubectl, namespace: str, operator: Any, calls: Calls
) -> None:
    for count, names in ((10, range(10)), (100, range(10, 110))):
        before = calls(namespace)
        kubectl.apply([endpoint(namespace, f"e{number}") for number in names])
        eventually(
            lambda names=names: all_wait(kubectl, namespace, names), 120, f"{count} endpoints wait for their pods"
        )
        spent = writes(calls(namespace)) - writes(before)
        print(f"{count} endpoints: {dict(spent)}")
        assert spent == Counter({call: number * count for call, number in ONE_ENDPOINT.items()})
    settled = writes(calls(namespace))
    time.sleep(60)  # the quiet minute is what is tested
    assert writes(calls(namespace)) == settled


def all_wait(kubectl: Kubectl, namespace: str, names: range) -> bool:
    found = {
        item["metadata"]["name"]: item.get("status") or {} for item in kubectl.get("mep", "-n", namespace)["items"]
    }
    return all(found[f"e{number}"].get("problems") for number in names)


def test_a_restart_writes_nothing(kubectl: Kubectl, namespace: str, operator: Any, calls: Calls) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    before, counted = versions(kubectl, namespace), writes(calls(namespace))
    assert operator.stop() == 0
    operator.start()
    marker = endpoint(namespace, "marker")
    kubectl.apply([marker])
    eventually(lambda: waits_for_pods(kubectl, namespace, "marker"), 20, "a pass after the restart")
    assert versions(kubectl, namespace) == before
    assert writes(calls(namespace)) - counted == ONE_ENDPOINT


def test_one_changed_field_changes_exactly_one_child(kubectl: Kubectl, namespace: str, operator: Any) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    before = versions(kubectl, namespace)
    kubectl.apply([endpoint(namespace, service={"port": 8080})])
    url = f"http://demo.{namespace}.svc.cluster.local:8080"
    eventually(lambda: status(kubectl, namespace)["url"] == url, 20, "the URL with the new port")
    after = versions(kubectl, namespace)
    assert {kind for kind in CHILDREN if before[kind] != after[kind]} == {"service"}


def test_a_deleted_or_edited_child_is_repaired_and_additions_of_others_stay(
    kubectl: Kubectl, namespace: str, operator: Any
) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    kubectl.run("annotate", "deployment", "demo", "-n", namespace, "example.com/note=mine")
    for kind in CHILDREN:
        old = kubectl.get(kind, "demo", "-n", namespace)["metadata"]["uid"]
        if kind != "deployment":
            kubectl.run("delete", kind, "demo", "-n", namespace)
            eventually(
                lambda kind=kind, old=old: (
                    (found := kubectl.find(kind, "demo", "-n", namespace)) and found["metadata"]["uid"] != old
                ),
                10,
                f"the {kind} is made again",
            )
    kubectl.run("scale", "deployment", "demo", "-n", namespace, "--replicas=5")
    kubectl.run("set", "env", "deployment/demo", "-n", namespace, "HF_HOME=/elsewhere", "MINE=yes")

    def repaired() -> bool:
        spec = kubectl.get("deployment", "demo", "-n", namespace)["spec"]
        env = {item["name"]: item.get("value") for item in spec["template"]["spec"]["containers"][0]["env"]}
        return bool(spec["replicas"] == 1 and env["HF_HOME"] == "/tmp/huggingface" and env["MINE"] == "yes")

    eventually(repaired, 10, "our fields are repaired, the foreign variable stays")
    found = kubectl.get("deployment", "demo", "-n", namespace)
    assert found["metadata"]["annotations"]["example.com/note"] == "mine"


def test_a_labelled_child_that_is_not_wanted_is_pruned_and_a_foreign_one_stays(
    kubectl: Kubectl, namespace: str, operator: Any
) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    ours = kubectl.get("service", "demo", "-n", namespace)["metadata"]
    for name, owners in (("stale", ours["ownerReferences"]), ("foreign", [])):
        metadata = {"name": name, "namespace": namespace, "labels": ours["labels"], "ownerReferences": owners}
        kubectl.apply([{"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 1}]}}])
    eventually(lambda: kubectl.find("service", "stale", "-n", namespace) is None, 10, "the stale Service is pruned")
    assert kubectl.find("service", "foreign", "-n", namespace)
    assert kubectl.find("service", "demo", "-n", namespace)


def test_rollout_restart_is_not_undone(kubectl: Kubectl, namespace: str, operator: Any) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    kubectl.run("rollout", "restart", "deployment/demo", "-n", namespace)
    kubectl.apply([endpoint(namespace, service={"port": 81})])
    eventually(lambda: status(kubectl, namespace)["url"].endswith(":81"), 20, "a later pass")
    template = kubectl.get("deployment", "demo", "-n", namespace)["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]


def test_a_field_that_leaves_the_spec_leaves_the_child(kubectl: Kubectl, namespace: str, operator: Any) -> None:
    kubectl.apply([endpoint(namespace, podTemplate={"spec": {"nodeSelector": {"a": "b"}}})])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    kubectl.apply([endpoint(namespace)])
    eventually(
        lambda: "nodeSelector" not in kubectl.get("deployment", "demo", "-n", namespace)["spec"]["template"]["spec"],
        10,
        "the node selector is gone",
    )


def test_the_reason_of_a_failed_pod_is_on_the_object_after_one_status_write(
    kubectl: Kubectl, namespace: str, operator: Any, calls: Calls
) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    before = writes(calls(namespace))
    told = {
        "v": 1,
        "reason": "UnknownEngineArgument",
        "message": "vLLM does not know --max-modle-len",
        "suggestion": "x",
    }
    ended = {"exitCode": 1, "reason": "Error", "message": json.dumps(told), "startedAt": None, "finishedAt": None}
    container = {
        "name": "server", "image": "i", "imageID": "", "ready": False, "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
        "lastState": {"terminated": {key: value for key, value in ended.items() if value is not None}},
    }  # fmt: skip
    pod = only_pod(kubectl, namespace)
    patch_pod_status(kubectl, namespace, pod, {"phase": "Running", "containerStatuses": [container]})
    eventually(lambda: reason(kubectl, namespace) == "UnknownEngineArgument", 10, "the reason")
    found = status(kubectl, namespace)
    assert [(item["pod"], item["container"], item["message"], item["suggestion"]) for item in found["problems"]] == [
        (pod, "server", "vLLM does not know --max-modle-len", "x")
    ]
    assert condition({"status": found}, "Stalled")["status"] == "True"
    assert writes(calls(namespace)) - before == Counter({("patch", "modelendpoints/status"): 1})

    ready = {**container, "ready": True, "state": {"running": {}}}
    conditions = [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]
    patch_pod_status(kubectl, namespace, pod, {"containerStatuses": [ready], "conditions": conditions})
    eventually(lambda: reason(kubectl, namespace) == "Serving", 10, "Ready once the pod is")
    assert status(kubectl, namespace)["problems"] == []


def pod_names(kubectl: Kubectl, namespace: str) -> set[str]:
    return {item["metadata"]["name"] for item in kubectl.get("pods", "-n", namespace)["items"]}


def rolling_update(kubectl: Kubectl, namespace: str) -> Object:
    found: Object = kubectl.get("deployment", "demo", "-n", namespace)["spec"]["strategy"]["rollingUpdate"]
    return found


def change_with_a_pod_in(kubectl: Kubectl, namespace: str, state: Object) -> str:
    """An endpoint whose only pod, returned, is unready with this container state, and a change of its template."""
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    old = only_pod(kubectl, namespace)
    container = {"name": "server", "image": "i", "imageID": "", "ready": False, "restartCount": 1, "state": state}
    patch_pod_status(kubectl, namespace, old, {"phase": "Running", "containerStatuses": [container]})
    kubectl.apply([endpoint(namespace, server={"args": {"seed": 1}})])
    return old


def test_a_broken_pod_yields_to_the_corrected_one(kubectl: Kubectl, namespace: str, operator: Any) -> None:
    old = change_with_a_pod_in(kubectl, namespace, {"waiting": {"reason": "CrashLoopBackOff"}})
    eventually(lambda: old not in pod_names(kubectl, namespace), 20, "the broken pod is gone")
    protects = {"maxSurge": 1, "maxUnavailable": 0}
    eventually(lambda: rolling_update(kubectl, namespace) == protects, 20, "the next rollout protects again")
    assert len(pod_names(kubectl, namespace)) == 1


def test_a_pod_whose_server_runs_stays_until_its_successor_is_ready(
    kubectl: Kubectl, namespace: str, operator: Any
) -> None:
    old = change_with_a_pod_in(kubectl, namespace, {"running": {}})
    eventually(lambda: len(pod_names(kubectl, namespace)) == 2, 20, "old and new side by side")
    eventually(
        lambda: reason(kubectl, namespace, "Progressing") in ("Starting", "RollingOut"), 20, "a pass that saw it"
    )
    assert rolling_update(kubectl, namespace)["maxUnavailable"] == 0
    assert old in pod_names(kubectl, namespace)


def test_suspend_keeps_everything_but_the_pods_and_is_ready(kubectl: Kubectl, namespace: str, operator: Any) -> None:
    kubectl.apply([endpoint(namespace, suspend=True)])
    eventually(lambda: reason(kubectl, namespace) == "Suspended", 20, "Suspended")
    assert condition({"status": status(kubectl, namespace)}, "Ready")["status"] == "True"
    assert kubectl.get("pods", "-n", namespace)["items"] == []
    assert kubectl.get("service", "demo", "-n", namespace)
    kubectl.apply([endpoint(namespace, suspend=False)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "a pod again")


def test_kubectl_scale_sets_the_replicas(kubectl: Kubectl, namespace: str, operator: Any) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    kubectl.run("scale", "mep", "demo", "-n", namespace, "--replicas=3")
    eventually(lambda: len(kubectl.get("pods", "-n", namespace)["items"]) == 3, 10, "three pods")
    eventually(lambda: status(kubectl, namespace)["replicas"] == 3, 10, "status.replicas")


def test_deleting_the_endpoint_removes_its_children_also_without_the_operator(
    kubectl: Kubectl, namespace: str, operator: Any
) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    assert operator.stop() == 0
    kubectl.run("delete", "mep", "demo", "-n", namespace, "--wait=true")
    # The garbage collector looks for new kinds every 30 s; the CRD may be younger than that.
    eventually(
        lambda: not any(kubectl.find(kind, "demo", "-n", namespace) for kind in CHILDREN), 90, "no child is left"
    )


def test_the_operator_writes_nothing_on_the_endpoint_but_status(
    kubectl: Kubectl, namespace: str, operator: Any
) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    found = kubectl.get("mep", "demo", "-n", namespace, "--show-managed-fields")
    theirs = [entry for entry in found["metadata"]["managedFields"] if entry["manager"] == "berth"]
    assert [entry.get("subresource") for entry in theirs] == ["status"]
    assert "finalizers" not in found["metadata"]
    assert "annotations" not in found["metadata"]
    assert found["metadata"]["generation"] == 1


def test_the_pods_carry_the_secret_of_the_keys_which_the_operator_never_asks_for(
    kubectl: Kubectl, namespace: str, operator: Any, calls: Calls
) -> None:
    kubectl.apply([endpoint(namespace, server={"apiKeySecretRef": {"name": "team-keys"}})])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    spec = kubectl.get("pod", only_pod(kubectl, namespace), "-n", namespace)["spec"]
    (volume,) = (item for item in spec["volumes"] if item["name"] == "berth-keys")
    assert volume["secret"] == {"secretName": "team-keys", "defaultMode": 0o440}
    mounts = {item["name"]: item for item in spec["containers"][0]["volumeMounts"]}
    assert mounts["berth-keys"]["readOnly"]
    variables = {item["name"]: item.get("value") for item in spec["containers"][0]["env"]}
    assert variables["BERTH_KEYS_DIR"] == mounts["berth-keys"]["mountPath"]
    assert "secrets" not in {resource for _, resource in calls(namespace)}
