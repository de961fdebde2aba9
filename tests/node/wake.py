"""When each phase of a wake began, as an observer in the cluster sees it.

From the objects (Deployment, pod, EndpointSlices, the condition Ready) and from the launcher's /progress. The clock is
the observer's; it looks every LOOK_SECONDS, so a phase that is shorter may go unseen.
"""

import itertools
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Self

import httpx

from local import components, network, node
from local.kubectl import condition

Object = dict[str, Any]
LOOK_SECONDS = 0.25
MARKS = (
    "asked",
    "replicas wanted",
    "pod made",
    "container runs",
    "Preparing",
    "Downloading",
    "StartingEngine",
    "LoadingWeights",
    "WarmingUp",
    "Proving",
    "proven",
    "in the Service",
    "first answer",
    "gateway out of the Service",
)
"""In the order in which they come."""
_PROVEN = ("Serving", "Draining")


def api() -> httpx.Client:
    """The API server of the node, with all rights: cheaper to ask often than kubectl."""
    keys = node.STATE / "cluster" / "pki"
    client = components.client(keys / "ca.crt", keys / "admin")
    client.base_url = f"https://{network.ADDRESS}:6443"
    return client


class Cluster:
    """What there is of one endpoint now: None and empty lists where the API server tells nothing."""

    def __init__(self, client: httpx.Client, namespace: str, name: str) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name

    def endpoint(self) -> Object | None:
        """The ModelEndpoint."""
        return self._get(f"/apis/berth.dev/v1alpha1/namespaces/{self._namespace}/modelendpoints/{self._name}")

    def deployment(self) -> Object | None:
        """Its Deployment."""
        return self._get(f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{self._name}")

    def pods(self) -> list[Object]:
        """Its pods, those that leave too."""
        found = self._get(
            f"/api/v1/namespaces/{self._namespace}/pods", labelSelector=f"berth.dev/endpoint={self._name}"
        )
        return list((found or {}).get("items") or [])

    def slices(self) -> list[Object]:
        """The EndpointSlices of its Service: the controller's, and Berth's own."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices"
        found = self._get(path, labelSelector=f"kubernetes.io/service-name={self._name}")
        return list((found or {}).get("items") or [])

    def _get(self, path: str, **parameters: str) -> Object | None:
        try:
            response = self._client.get(path, params=parameters)
        except httpx.TransportError:
            return None
        if not response.is_success:
            return None
        found: Object = response.json()
        return found


def wanted(deployment: Object | None) -> int:
    """Replicas that are asked for; 0 without a Deployment."""
    return int((deployment or {}).get("spec", {}).get("replicas") or 0)


def in_service(slices: Iterable[Object], berths: bool) -> list[str]:
    """Ready addresses behind the Service: of the gateway (`berths`), or of pods."""
    return [
        address
        for found in slices
        if (found["metadata"]["labels"].get("endpointslice.kubernetes.io/managed-by") == "berth.dev") == berths
        for each in found.get("endpoints") or []
        if (each.get("conditions") or {}).get("ready") is not False
        for address in each["addresses"]
    ]


def reached(replicas: int, pods: list[Object], slices: list[Object], phases: Iterable[str]) -> list[str]:
    """The marks that these objects show to have come; of several pods the one that is furthest counts.

    phases: of the launchers, as /progress says them.
    """
    found = ["replicas wanted"] if replicas else []
    staying = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    if staying:
        found.append("pod made")
    states = [state for pod in staying for state in pod.get("status", {}).get("containerStatuses") or []]
    if any("running" in (state.get("state") or {}) for state in states if state["name"] == "server"):
        found.append("container runs")
    for phase in phases:
        found.append("proven" if phase in _PROVEN else phase)
    if in_service(slices, berths=False):
        found.append("in the Service")
        if not in_service(slices, berths=True):
            found.append("gateway out of the Service")
    return [mark for mark in MARKS if mark in found]


def durations(marks: Mapping[str, float]) -> dict[str, float]:
    """Seconds from each mark that was seen to the next one that was seen, in their order."""
    seen = sorted((mark for mark in MARKS if mark in marks), key=lambda mark: (marks[mark], MARKS.index(mark)))
    return {mark: marks[after] - marks[mark] for mark, after in itertools.pairwise(seen)}


def table(wakes: Mapping[str, Mapping[str, float]]) -> str:
    """When each mark came, in seconds after the first request, and how long it lasted; a column for each wake."""
    rows = [f"| phase | {' | '.join(wakes)} |", f"|---|{'---|' * len(wakes)}"]
    lasted = {name: durations(marks) for name, marks in wakes.items()}
    for mark in MARKS:
        if any(mark in marks for marks in wakes.values()):
            cells = [_cell(marks, lasted[name], mark) for name, marks in wakes.items()]
            rows.append(f"| {mark} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(marks: Mapping[str, float], lasted: Mapping[str, float], mark: str) -> str:
    if mark not in marks:
        return ""
    at = marks[mark] - marks["asked"]
    return f"at {at:.1f} s" + (f", lasts {lasted[mark]:.1f} s" if mark in lasted else "")


class Wake:
    """Looks for as long as the context lasts. marks: when each came, by the monotonic clock.

    told: what the condition Ready has said, as (status, reason, message), each change once.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.marks: dict[str, float] = {"asked": time.monotonic()}
        self.told: list[tuple[str, str, str]] = []
        self._cluster = cluster
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_always)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def answered(self) -> None:
        """The first answer is there."""
        self.marks.setdefault("first answer", time.monotonic())

    def _look_always(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        cluster = self._cluster
        pods = cluster.pods()
        found = reached(wanted(cluster.deployment()), pods, cluster.slices(), [*_phases(pods)])
        now = time.monotonic()
        for mark in found:
            self.marks.setdefault(mark, now)
        ready = condition(cluster.endpoint(), "Ready")
        words = (ready.get("status", ""), ready.get("reason", ""), ready.get("message", ""))
        if ready and (not self.told or self.told[-1] != words):
            self.told.append(words)


def _phases(pods: Iterable[Object]) -> Iterable[str]:
    for pod in pods:
        address = pod.get("status", {}).get("podIP")
        if not address or pod["metadata"].get("deletionTimestamp"):
            continue
        try:
            yield httpx.get(f"http://{address}:8001/progress", timeout=2, trust_env=False).json()["phase"]
        except (httpx.TransportError, ValueError):
            continue
