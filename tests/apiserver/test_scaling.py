"""Replicas that follow the load: the Deployment, status, events and which pod goes.

Servers on loopback addresses play the launchers; the node tier has the real ones. The autoscaler of others is the real
one of kube-controller-manager, which needs no metrics for its lower bound.  In: loads.  Out: objects.
"""

import re
from contextlib import ExitStack
from typing import Any

from berth.process import utc_now
from local.kubectl import Kubectl, condition
from tests.apiserver.endpoints import Calls, endpoint, patch_pod_status, status, waits_for_pods
from tests.apiserver.launcher import Launcher
from tests.apiserver.operators import Operator
from tests.waiting import eventually

ADDRESS = "127.0.48.{}"
SCALING = {"min": 1, "max": 3, "target": {"inFlightPerReplica": 10}}
# A minute's window, looks every five seconds, and a slow machine.
SECONDS = 180


def pods(kubectl: Kubectl, namespace: str) -> list[dict[str, Any]]:
    """The oldest first."""
    found = kubectl.get("pods", "-n", namespace)["items"]
    staying = [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]
    return sorted(staying, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))


def replicas(kubectl: Kubectl, namespace: str) -> int:
    return int(kubectl.get("deployment", "demo", "-n", namespace)["spec"]["replicas"])


class Played:
    """Pods of one namespace that are ready as soon as they are there, each with a launcher of its own."""

    def __init__(self, kubectl: Kubectl, namespace: str, stack: ExitStack) -> None:
        self._kubectl = kubectl
        self._namespace = namespace
        self._stack = stack
        self.launchers: dict[str, Launcher] = {}

    def all_ready(self, count: int) -> None:
        eventually(lambda: len(pods(self._kubectl, self._namespace)) == count, SECONDS, f"{count} pods")
        for pod in pods(self._kubectl, self._namespace):
            name = pod["metadata"]["name"]
            if name not in self.launchers:
                address = ADDRESS.format(10 + len(self.launchers))
                self.launchers[name] = self._stack.enter_context(Launcher(address))
                self.has(name, 0)
                patch_pod_status(self._kubectl, self._namespace, name, ready_at(address))
        eventually(
            lambda: status(self._kubectl, self._namespace).get("readyReplicas") == count, SECONDS, f"{count} ready"
        )

    def has(self, name: str, requests: int) -> None:
        """So many requests are in flight in a pod."""
        self.launchers[name].load = {"v": 1, "running": requests, "waiting": 0, "deferred": 0, "max_num_seqs": 64}


def ready_at(address: str) -> dict[str, Any]:
    running = {"name": "server", "image": "i", "imageID": "", "ready": True, "restartCount": 0}
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": utc_now()} for kind in ("ContainersReady", "Ready")
        ],
        "containerStatuses": [running | {"state": {"running": {}}}],
    }


def test_replicas_follow_the_load_and_the_least_busy_goes(
    kubectl: Kubectl, namespace: str, operator: Operator, calls: Calls
) -> None:
    kubectl.apply([endpoint(namespace, scaling=SCALING, replicas=7)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    assert replicas(kubectl, namespace) == 1
    with ExitStack() as stack:
        played = Played(kubectl, namespace, stack)
        played.all_ready(1)
        (first,) = played.launchers
        eventually(lambda: of(kubectl, namespace, "ScalingActive")["status"] == "True", SECONDS, "ScalingActive")
        assert status(kubectl, namespace)["ignored"] == [
            {"field": "spec.replicas", "why": "spec.scaling sets the number of replicas"}
        ]
        flipped = of(kubectl, namespace, "Ready")["lastTransitionTime"]

        played.has(first, 27)
        eventually(lambda: replicas(kubectl, namespace) == 3, SECONDS, "three replicas")
        played.all_ready(3)
        told = status(kubectl, namespace)["scaling"]
        assert (told["desired"], told["targetPerReplica"]) == (3, 10)
        assert told["explanation"].startswith(f"{told['demand']:g} requests in flight / 10 per replica = ")

        busy, *others = played.launchers
        played.has(busy, 0)
        for name in others:
            played.has(name, 4)
        eventually(lambda: replicas(kubectl, namespace) < 3, SECONDS, "fewer replicas")
        eventually(lambda: len(pods(kubectl, namespace)) < 3, 20, "fewer pods")
        assert busy not in [pod["metadata"]["name"] for pod in pods(kubectl, namespace)]
        assert of(kubectl, namespace, "Ready")["lastTransitionTime"] == flipped, "scaling has flipped Ready"
    events = kubectl.get("events", "-n", namespace, "--field-selector=involvedObject.name=demo")["items"]
    ours = [event for event in events if event["source"].get("component") == "berth"]
    steps = [
        (event["reason"], *map(int, re.findall(r"from (\d+) to (\d+): ", event["message"])[0]))
        for event in sorted(ours, key=lambda event: int(event["metadata"]["resourceVersion"]))
    ]
    at = 1
    for reason, before, after in steps:
        assert (before, reason) == (at, "ScaledUp" if after > at else "ScaledDown"), steps
        at = after
    assert max(after for *_, after in steps) == 3, steps
    assert at < 3, steps
    assert calls(namespace)[("patch", "pods")] <= 3


def test_what_a_quota_forbids_is_not_asked_for_and_said(kubectl: Kubectl, namespace: str, operator: Operator) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "two", "namespace": namespace}}
    kubectl.apply([quota | {"spec": {"hard": {"pods": "2"}}}])
    eventually(lambda: kubectl.get("quota", "two", "-n", namespace).get("status", {}).get("hard"), SECONDS, "a quota")
    kubectl.apply([endpoint(namespace, scaling=SCALING | {"max": 5})])
    with ExitStack() as stack:
        played = Played(kubectl, namespace, stack)
        played.all_ready(1)
        played.has(*played.launchers, 27)
        eventually(
            lambda: (status(kubectl, namespace).get("scaling") or {}).get("limitedBy") == "Quota",
            SECONDS,
            "the quota is named",
        )
        assert status(kubectl, namespace)["scaling"]["explanation"].endswith("= 3 replicas; the quota allows 2")
        asked = replicas(kubectl, namespace)
        played.has(*played.launchers, 50)
        eventually(lambda: status(kubectl, namespace)["scaling"]["demand"] > 40, SECONDS, "a higher demand")
        assert replicas(kubectl, namespace) == asked, "more is asked for than the quota allows"


def of(kubectl: Kubectl, namespace: str, kind: str) -> dict[str, Any]:
    return condition({"status": status(kubectl, namespace)}, kind) or {"status": ""}


def test_pods_that_cannot_be_asked_are_said(kubectl: Kubectl, namespace: str, operator: Operator) -> None:
    kubectl.apply([endpoint(namespace, scaling=SCALING | {"min": 2})])
    eventually(lambda: len(pods(kubectl, namespace)) == 2, 20, "two pods")
    for number, pod in enumerate(pods(kubectl, namespace)):
        patch_pod_status(kubectl, namespace, pod["metadata"]["name"], ready_at(ADDRESS.format(30 + number)))
    eventually(
        lambda: of(kubectl, namespace, "ScalingActive").get("reason") == "PodsUnreachable", SECONDS, "PodsUnreachable"
    )
    assert "2 of 2 ready pods do not tell their load at port 8001" in of(kubectl, namespace, "ScalingActive")["message"]
    assert of(kubectl, namespace, "Ready")["status"] == "True"


def test_the_number_is_left_to_another_autoscaler_while_there_is_one(
    kubectl: Kubectl, namespace: str, operator: Operator, calls: Calls
) -> None:
    kubectl.apply([endpoint(namespace, scaling=SCALING)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "demo"}
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5, "metrics": [metric]}
    meta = {"name": "theirs", "namespace": namespace}
    kind = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
    kubectl.apply([kind | {"metadata": meta, "spec": spec}])
    eventually(
        lambda: of(kubectl, namespace, "ScalingActive").get("reason") == "ForeignAutoscaler", SECONDS, "it is said"
    )
    assert of(kubectl, namespace, "ScalingActive")["message"] == (
        f"HorizontalPodAutoscaler {namespace}/theirs sets the number of replicas of Deployment demo; "
        "Berth leaves it alone"
    )
    before = calls(namespace)[("patch", "deployments")]
    kubectl.run("patch", "hpa", "theirs", "-n", namespace, "--type=merge", '--patch={"spec":{"minReplicas":3}}')
    eventually(lambda: replicas(kubectl, namespace) == 3, SECONDS, "their three replicas")
    kubectl.run(
        "patch", "mep", "demo", "-n", namespace, "--type=merge", '--patch={"spec":{"server":{"args":{"seed":1}}}}'
    )
    eventually(lambda: calls(namespace)[("patch", "deployments")] > before, 20, "an edit is carried out")
    assert replicas(kubectl, namespace) == 3, "an edit has taken the number from the autoscaler"

    kubectl.run("delete", "hpa", "theirs", "-n", namespace)
    eventually(
        lambda: of(kubectl, namespace, "ScalingActive").get("reason") == "NoReadyPods", SECONDS, "it is ours again"
    )


def test_a_new_operator_changes_nothing_of_what_is_decided(
    kubectl: Kubectl, namespace: str, operator: Operator, calls: Calls
) -> None:
    kubectl.apply([endpoint(namespace, scaling=SCALING)])
    with ExitStack() as stack:
        played = Played(kubectl, namespace, stack)
        played.all_ready(1)
        played.has(*played.launchers, 27)
        eventually(lambda: replicas(kubectl, namespace) == 3, SECONDS, "three replicas")
        played.all_ready(3)
        eventually(lambda: of(kubectl, namespace, "ScalingActive").get("status") == "True", SECONDS, "all answer")
        before, flips = status(kubectl, namespace), of(kubectl, namespace, "ScalingActive")["lastTransitionTime"]
        operator.stop()
        writes = calls(namespace)[("patch", "deployments")]
        operator.start()
        eventually(lambda: status(kubectl, namespace)["scaling"]["desired"] == 3, SECONDS, "the same number")
        looked = {address.asked for address in played.launchers.values()}
        eventually(
            lambda: min(launcher.asked for launcher in played.launchers.values()) > max(looked) + 2, SECONDS, "looks"
        )
        assert replicas(kubectl, namespace) == before["scaling"]["desired"] == 3
        assert calls(namespace)[("patch", "deployments")] == writes
        assert of(kubectl, namespace, "ScalingActive")["lastTransitionTime"] == flips
