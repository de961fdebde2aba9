"""Pods leave under load, in every way there is: no request fails and no answer is cut off.

One endpoint of three pods, six clients with pooled connections through its Service, all the time. BERTH_DRAIN_ROUNDS
repeats the scenarios (`make drain-load`).
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from local.kubectl import Kubectl, condition
from tests import load
from tests.load import Load
from tests.node import endpoints
from tests.waiting import eventually

NAME = "steady"
REPLICAS = 3
ROUNDS = int(os.environ.get("BERTH_DRAIN_ROUNDS", "1"))
START_SECONDS = 1800.0
LEAVE_SECONDS = 600.0
LONG_TOKENS = 900
NODE = "local"


class Steady:
    """The endpoint under load, as the scenarios see it."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self.kubectl = kubectl
        self.namespace = namespace
        self.served_names = [NAME]

    def apply(self, replicas: int) -> None:
        # Without a GPU: old and new run side by side, and the node has only two.
        spec = endpoints.endpoint(NAME)["spec"]
        spec |= {
            "model": {**spec["model"], "servedNames": self.served_names},
            "replicas": replicas,
            "resources": {"limits": {"memory": "6Gi"}, "requests": {"memory": "1Gi"}},
        }
        endpoints.apply(self.kubectl, self.namespace, endpoints.endpoint(NAME, **spec))

    def pods(self) -> dict[str, dict[str, Any]]:
        """Pods by name, those on their way out too."""
        return {pod["metadata"]["name"]: pod for pod in endpoints.pods(self.kubectl, self.namespace, NAME)}

    def staying(self) -> dict[str, dict[str, Any]]:
        return {name: pod for name, pod in self.pods().items() if not pod["metadata"].get("deletionTimestamp")}

    def busiest(self) -> tuple[str, str]:
        """Name and address of the pod that first finishes five requests more: it has the most clients."""
        addresses = {name: pod["status"]["podIP"] for name, pod in self.staying().items()}
        before = {name: answered(address) for name, address in addresses.items()}

        def found() -> str | None:
            return next((name for name, address in addresses.items() if answered(address) >= before[name] + 5), None)

        name: str = eventually(found, LEAVE_SECONDS, "five answers of one pod")
        return name, addresses[name]

    def until_gone(self, names: set[str]) -> None:
        eventually(lambda: not names & set(self.pods()), LEAVE_SECONDS, f"{names} gone")

    def until_all_serve(self, clients: Load, replicas: int) -> None:
        """So many pods, all ready, and each with clients: one without would show nothing by leaving."""

        def all_ready() -> bool:
            pods = self.pods().values()
            return len(pods) == replicas and all(condition(pod, "Ready").get("status") == "True" for pod in pods)

        eventually(all_ready, START_SECONDS, f"{replicas} ready pods")
        eventually(lambda: self._all_serve(clients), LEAVE_SECONDS, "requests in every pod")

    def _all_serve(self, clients: Load) -> bool:
        clients.renew()
        addresses = [pod["status"]["podIP"] for pod in self.pods().values()]
        before = [answered(address) for address in addresses]
        time.sleep(3 * load.EVERY_SECONDS)  # three rounds of requests
        return all(answered(address) > count for address, count in zip(addresses, before, strict=True))


def answered(address: str) -> float:
    """Completions that the vLLM at a pod's address has finished; the proof of readiness is the first."""
    metrics = httpx.get(f"http://{address}:8000/metrics", trust_env=False, timeout=30).text
    lines = [line for line in metrics.splitlines() if line.startswith("vllm:request_success_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def rolling_update(steady: Steady) -> None:
    """Every pod is replaced; the endpoint is Available at every look."""
    old = set(steady.pods())
    steady.served_names = [NAME, f"second-{time.time_ns()}"]
    steady.apply(REPLICAS)

    def rolled() -> bool:
        found = steady.kubectl.get("mep", NAME, "-n", steady.namespace)
        assert condition(found, "Available")["status"] == "True"
        return endpoints.ready(steady.kubectl, steady.namespace, NAME) is not None

    eventually(rolled, START_SECONDS, "the new pods serve alone")
    steady.until_gone(old)


def pod_delete(steady: Steady) -> None:
    """The busiest pod, in the middle of a long answer, which it finishes."""
    name, address = steady.busiest()
    body, page = load.question(NAME, 1)
    body["max_tokens"] = LONG_TOKENS
    text: list[str] = []
    begun = threading.Event()

    def ask() -> None:
        url = f"http://{address}:8000/v1/completions"
        with httpx.stream("POST", url, json=body, trust_env=False, timeout=LEAVE_SECONDS) as response:
            for piece in response.iter_text():
                text.append(piece)
                begun.set()

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(60), "no token came"
    steady.kubectl.run("delete", "pod", name, "-n", steady.namespace, "--wait=false")
    asking.join(LEAVE_SECONDS)
    assert load.problem(body, page, 200, "".join(text)) is None
    steady.until_gone({name})


def node_drain(steady: Steady) -> None:
    """One pod is evicted; the PodDisruptionBudget holds the others for as long as its replacement finds no node."""
    before = set(steady.staying())
    selector = f"berth.dev/endpoint={NAME}"
    try:
        done = steady.kubectl.try_run(
            "drain", NODE, "--pod-selector", selector, "--delete-emptydir-data", "--timeout=15s"
        )
        assert done.returncode, "the node was drained although two of three pods have to stay"
        assert "violate the pod's disruption budget" in done.stderr, done.stderr
        gone = before - set(steady.staying())
        assert len(gone) == 1, f"evicted: {gone}"
        steady.until_gone(gone)
    finally:
        steady.kubectl.run("uncordon", NODE)


def scale_down(steady: Steady) -> None:
    steady.apply(1)
    eventually(lambda: len(steady.pods()) == 1, LEAVE_SECONDS, "one pod")


SCENARIOS: dict[str, Callable[[Steady], None]] = {
    "rolling update": rolling_update,
    "pod delete": pod_delete,
    "node drain": node_drain,
    "scale 3→1": scale_down,
}


@pytest.mark.timeout(7200 * ROUNDS)
def test_no_request_fails_and_no_answer_is_cut_off_whichever_way_pods_leave(kubectl: Kubectl, namespace: str) -> None:
    steady = Steady(kubectl, namespace)
    steady.apply(REPLICAS)
    eventually(lambda: endpoints.ready(kubectl, namespace, NAME), START_SECONDS, "Ready")
    address = kubectl.get("service", NAME, "-n", namespace)["spec"]["clusterIP"]
    clients = Load(f"http://{address}", NAME)
    try:
        with clients:
            for _ in range(ROUNDS):
                for name, scenario in SCENARIOS.items():
                    clients.scenario = "between"
                    steady.apply(REPLICAS)
                    steady.until_all_serve(clients, REPLICAS)
                    clients.scenario = name
                    scenario(steady)
    finally:
        counts = load.table(clients.answers)
        print(f"\n{counts}")
    assert clients.problems() == [], counts
    for name in SCENARIOS:
        for library in ("httpx", "aiohttp", "requests"):
            sent = [answer for answer in clients.answers if (answer.scenario, answer.client) == (name, library)]
            assert len(sent) >= 10, f"{len(sent)} requests by {library} during {name}: too few to show anything"
