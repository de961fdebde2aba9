"""To zero and back under load, and everything that is killed meanwhile: no request fails, no answer is cut off.

One endpoint that may sleep. Clients with pooled connections and with fresh ones, by the gateway's URL and by the
endpoint's own Service, from the node. The tests run in the order of the file and print a table each (-rP). They take 20
minutes with BERTH_WHOLE (`make node-load`), and half of that with the moments and faults of IN_SHORT alone.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple, Self, TypeVar

import pytest

from local import node, supervisor
from local.daemons import wait_until
from local.demo import RELEASE, ROOT, SYSTEM_NAMESPACE, helm, install
from local.kubectl import Kubectl, condition
from tests import load
from tests.load import Answer, Load
from tests.node import endpoints, gateway, wake
from tests.waiting import eventually

T = TypeVar("T")
NAME = "sleeper"
IDLE_SECONDS = 12
START_SECONDS = 600.0
SLEEP_SECONDS = 180.0
# Longer than anything that is waited for here, so that no client ends what it has asked for.
PATIENCE_SECONDS = 900.0
EVERY_SECONDS = 3.0
AWAY_SECONDS = 60.0
WHOLE = bool(os.environ.get("BERTH_WHOLE"))
IN_SHORT = ("asleep", "as the pod drains", "each gateway deleted")
NOWHERE = "192.0.2.77"  # documentation's (RFC 5737): nobody sends anything there
AT_ONCE = 200
TARGET = 24
pytestmark = pytest.mark.timeout(3600)


def endpoint(most: int) -> dict[str, Any]:
    # Without a GPU: the node has only two.
    resources = {"limits": {"memory": "6Gi"}, "requests": {"memory": "1Gi"}}
    scaling = {"min": 0, "max": most, "idleSeconds": IDLE_SECONDS, "target": {"inFlightPerReplica": TARGET}}
    return endpoints.endpoint(NAME, resources=resources, scaling=scaling)


class Zero(NamedTuple):
    """The endpoint as the scenarios see it. key: a caller's.  urls: by what the table calls them."""

    kubectl: Kubectl
    namespace: str
    cluster: wake.Cluster
    key: str
    urls: dict[str, str]

    def watched(self) -> wake.Wake:
        """Looks at what happens from now on, with a connection of its own."""
        return wake.Wake(wake.Cluster(wake.api(), self.namespace, NAME))

    def ready(self) -> tuple[str, str]:
        """Status and reason of the condition, of the present generation."""
        found = self.cluster.endpoint() or {}
        told = condition(found, "Ready")
        current = told.get("observedGeneration") == found.get("metadata", {}).get("generation")
        return (told.get("status", ""), told.get("reason", "")) if current else ("", "")

    def asleep(self) -> bool:
        """No pod, and said to be on purpose."""
        return self.ready() == ("True", "Asleep") and not self.cluster.pods()

    def gateway_joins(self) -> bool:
        """The Service leads to the gateway, too."""
        return bool(wake.in_service(self.cluster.slices(), berths=True))

    def drains(self) -> bool:
        """A pod is on its way out."""
        return any(pod["metadata"].get("deletionTimestamp") for pod in self.cluster.pods())

    def empty(self) -> bool:
        """The last pod is gone."""
        deployment = self.cluster.deployment()
        return deployment is not None and not wake.wanted(deployment) and not self.cluster.pods()

    def serves_alone(self) -> bool:
        """A pod is in the Service, the gateway is not any more, and no other pod is left."""
        slices = self.cluster.slices()
        pods = wake.in_service(slices, berths=False)
        return bool(pods) and not wake.in_service(slices, berths=True) and len(self.cluster.pods()) == len(pods)


class Crowd:
    """Clients of all ways; a context manager. They begin paused."""

    def __init__(
        self, zero: Zero, at_once: int = 1, every_seconds: float = EVERY_SECONDS, fresh_alone: bool = False
    ) -> None:
        self.loads: list[Load] = []
        for number, (where, url) in enumerate(zero.urls.items()):
            for fresh in (True,) if fresh_alone else (False, True):
                way = f"{where}, {'fresh' if fresh else 'pooled'}"
                # Not all at the same moments for ever.
                every = every_seconds + 0.2 * (2 * number + fresh)
                one = Load(
                    url,
                    NAME,
                    at_once,
                    every_seconds=every,
                    timeout_seconds=PATIENCE_SECONDS,
                    key=zero.key if where == "gateway" else "",
                    fresh=fresh,
                    way=way,
                )
                one.pause()
                self.loads.append(one)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for one in self.loads:
                stack.enter_context(one)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def answers(self) -> list[Answer]:
        return [answer for one in self.loads for answer in list(one.answers)]

    @property
    def waiting(self) -> int:
        return sum(one.waiting for one in self.loads)

    def pause(self) -> None:
        for one in self.loads:
            one.pause()

    def resume(self) -> None:
        for one in self.loads:
            one.resume()

    def say(self, scenario: str) -> None:
        """What is sent from now on is sent during this."""
        for one in self.loads:
            one.scenario = scenario

    def until_quiet(self) -> None:
        """No more is sent, and all is answered."""
        self.pause()
        eventually(lambda: not self.waiting, PATIENCE_SECONDS, "answers to everything")

    def until_all_answered_anew(self, times: int) -> None:
        """So many answers more for each client."""
        before = {way: len(answers) for way, answers in by_client(self.answers).items()}
        clients = 2 * 3 * len(self.loads)

        def enough() -> bool:
            now = {way: len(answers) for way, answers in by_client(self.answers).items()}
            return len(now) == clients and all(count >= before.get(way, 0) + times for way, count in now.items())

        eventually(enough, PATIENCE_SECONDS, "answers for every client")


def by_client(answers: list[Answer]) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    for answer in answers:
        found.setdefault(answer.client, []).append(answer)
    return found


def table(answers: list[Answer]) -> str:
    """By scenario and way; the libraries together."""
    return load.table([replace(answer, client=way_of(answer)) for answer in answers])


def way_of(answer: Answer) -> str:
    """`gateway, pooled` and so on, of `httpx, gateway, pooled, seldom`."""
    return ", ".join(answer.client.split(", ")[1:3])


def judge(crowd: Crowd, scenarios: list[str], least: int) -> None:
    """Prints the table. No request has failed, and each scenario has seen enough of them in each way."""
    answers = crowd.answers
    counts = table(answers)
    print(f"\n{counts}")
    print(f"longest answer: {max((answer.seconds for answer in answers), default=0):.1f} s")
    problems = [answer for answer in answers if answer.problem]
    assert problems == [], f"{counts}\n{problems[:20]}"
    for scenario in scenarios:
        for way in {way_of(answer) for answer in answers}:
            sent = [answer for answer in answers if (answer.scenario, way_of(answer)) == (scenario, way)]
            assert len(sent) >= least, f"{len(sent)} requests by {way} during {scenario}: too few to show anything"


@pytest.fixture(scope="module")
def zero(kubectl: Kubectl) -> Iterator[Zero]:
    """A new endpoint, which has proven itself and fallen asleep."""
    with endpoints.namespace(kubectl) as namespace, gateway.key(kubectl, namespace) as key:
        endpoints.apply(kubectl, namespace, endpoint(1))
        find = lambda: kubectl.find("service", NAME, "-n", namespace)  # noqa: E731
        service = eventually(find, START_SECONDS, "the Service")
        urls = {"gateway": gateway.url(kubectl), "Service": f"http://{service['spec']['clusterIP']}"}
        found = Zero(kubectl, namespace, wake.Cluster(wake.api(), namespace, NAME), key, urls)
        eventually(lambda: found.ready() == ("True", "Serving"), START_SECONDS, "proven before it may sleep")
        eventually(found.asleep, SLEEP_SECONDS, "asleep")
        yield found


def chosen(cases: dict[str, T]) -> dict[str, T]:
    """Those that are tried in this run."""
    return {name: case for name, case in cases.items() if WHOLE or name in IN_SHORT}


MOMENTS: dict[str, Callable[[Zero], bool]] = {
    "asleep": Zero.asleep,
    "as the gateway joins the Service": Zero.gateway_joins,
    "as the pod drains": Zero.drains,
    "as the pod is gone": Zero.empty,
}
"""When the clients come back, on their connections from before and on new ones. All but the first follow a wake."""


def test_to_zero_and_back_whenever_clients_return(zero: Zero) -> None:
    moments = chosen(MOMENTS)
    wakes: dict[str, dict[str, float]] = {}
    told: list[tuple[str, str, str]] = []
    crowd = Crowd(zero)
    try:
        with crowd:
            for name, moment in moments.items():
                eventually(lambda moment=moment: moment(zero), SLEEP_SECONDS, name)
                before = len(crowd.answers)
                crowd.say(f"0→1→0, {name}")
                with zero.watched() as waking:
                    crowd.resume()
                    eventually(lambda before=before: len(crowd.answers) > before, START_SECONDS, "an answer")
                    waking.answered()
                    # Across the hand-over, and once more on the connections that it has left.
                    eventually(zero.serves_alone, START_SECONDS, "a pod alone in the Service")
                    crowd.until_all_answered_anew(1)
                wakes[name] = waking.marks
                told += waking.told
                crowd.until_quiet()
            eventually(zero.asleep, SLEEP_SECONDS, "asleep at the end")
    finally:
        started = {name: marks for name, marks in wakes.items() if "StartingEngine" in marks}
        print(f"\n{wake.table(started)}")
        for words in dict.fromkeys(told):
            print(*words, sep=" / ")
    judge(crowd, [f"0→1→0, {name}" for name in moments], 6)
    assert {status for status, _, _ in told} == {"True"}, "sleeping and waking have flipped Ready"
    assert {"Waking", "Serving"} <= {reason for _, reason, _ in told}
    estimates = [
        message for _, reason, message in told if reason == "Waking" and re.search(r"about \d+ (s|min)", message)
    ]
    assert estimates, "no message says how long a start takes"


def delete(zero: Zero, selector: str, seconds: float) -> None:
    """Every pod of these, one after the other, with a chance to finish; then as many others are ready."""
    names = [pod["metadata"]["name"] for pod in gateway.pods(zero.kubectl, selector)]
    for name in names:
        zero.kubectl.run("delete", "pod", name, "-n", SYSTEM_NAMESPACE, "--wait=false")
        gateway.until_all_ready(zero.kubectl, selector, len(names), {name}, seconds)


def serving_pod(zero: Zero) -> None:
    """The only one: until its replacement is ready, requests are held."""
    (pod,) = zero.cluster.pods()
    zero.kubectl.run("delete", "pod", pod["metadata"]["name"], "-n", zero.namespace, "--wait=false")
    uid = pod["metadata"]["uid"]
    gone = lambda: all(other["metadata"]["uid"] != uid for other in zero.cluster.pods())  # noqa: E731
    eventually(gone, START_SECONDS, "the pod is gone")
    eventually(zero.serves_alone, START_SECONDS, "another one serves")


def each_gateway(zero: Zero) -> None:
    delete(zero, gateway.GATEWAYS, START_SECONDS)


def kill_operators(zero: Zero) -> set[str]:
    """Both at once, without a chance to say goodbye. Their names."""
    names = {pod["metadata"]["name"] for pod in gateway.pods(zero.kubectl, gateway.OPERATORS)}
    kill = ["delete", "pods", "-n", SYSTEM_NAMESPACE, "--grace-period=0", "--force"]
    zero.kubectl.run(*kill, "-l", gateway.OPERATORS)
    return names


def operators(zero: Zero) -> None:
    killed = kill_operators(zero)
    gateway.until_all_ready(zero.kubectl, gateway.OPERATORS, len(killed), killed, START_SECONDS)


def api_server_away(zero: Zero) -> None:
    """Killed, and for a minute nobody starts it again."""
    killed = supervisor.survey()["kube-apiserver"]
    os.kill(killed.pid, signal.SIGKILL)
    wait_until(lambda: killed not in supervisor.survey().values(), "the end of kube-apiserver", 30)
    threading.Event().wait(AWAY_SECONDS)  # the minute is what is tried, nothing is waited for
    node.up()
    eventually(zero.serves_alone, START_SECONDS, "the pod serves")
    until_rules_follow(zero)


def until_rules_follow(zero: Zero) -> None:
    """kube-proxy has heard of what is new.

    It asks an API server that was away for long only after up to a minute (client-go's back-off). A gateway that is
    deleted meanwhile, and ends 30 s later as it should, gets connections after that: nothing of Berth's can help it.
    """
    began = time.monotonic()
    probe = {"namespace": zero.namespace, "name": "after-the-outage"}
    slice_labels = {"kubernetes.io/service-name": probe["name"]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": probe, "spec": {"ports": [{"port": 80}]}}
    endpoints_of_it = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**probe, "labels": slice_labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [NOWHERE]}],
        "ports": [{"port": 80}],
    }
    zero.kubectl.apply([service, endpoints_of_it])
    list_rules = ["nft", "list", "table", "ip", "kube-proxy"]
    known = lambda: NOWHERE in subprocess.run(list_rules, capture_output=True, text=True, check=True).stdout  # noqa: E731
    eventually(known, START_SECONDS, "rules for a new Service")
    zero.kubectl.run("delete", "service,endpointslice", probe["name"], "-n", zero.namespace)
    print(f"kube-proxy followed {time.monotonic() - began:.0f} s after the API server was back")


def chart_upgrade(zero: Zero) -> None:
    """New pods of gateway and operator, as a new version brings them."""
    pods = [pod for selector in (gateway.GATEWAYS, gateway.OPERATORS) for pod in gateway.pods(zero.kubectl, selector)]
    names = {pod["metadata"]["name"] for pod in pods}
    chart = str(ROOT / "charts" / "berth")
    sets = ("--set", "resources.requests.cpu=60m", "--set", "gateway.resources.requests.cpu=60m")
    options = ("--reuse-values", "--wait", "--timeout", "5m")
    helm(zero.kubectl, "upgrade", RELEASE, chart, "--namespace", SYSTEM_NAMESPACE, *options, *sets)
    for selector in (gateway.GATEWAYS, gateway.OPERATORS):
        gateway.until_all_ready(zero.kubectl, selector, 2, names, START_SECONDS)


FAULTS: dict[str, Callable[[Zero], None]] = {
    "the serving pod deleted": serving_pod,
    "each gateway deleted": each_gateway,
    "the operators killed": operators,
    "the API server away for a minute": api_server_away,
    "chart upgrade of gateway and operator": chart_upgrade,
}


def test_nothing_that_goes_while_it_serves_is_noticed(zero: Zero, references: dict[str, str]) -> None:
    faults = chosen(FAULTS)
    crowd = Crowd(zero)
    try:
        with crowd:
            crowd.say("wake")
            crowd.resume()
            eventually(zero.serves_alone, START_SECONDS, "a pod serves")
            crowd.until_all_answered_anew(1)
            for name, fault in faults.items():
                crowd.say(name)
                crowd.until_all_answered_anew(1)
                fault(zero)
                crowd.until_all_answered_anew(1)
            crowd.until_quiet()
    finally:
        install(zero.kubectl, references)
    judge(crowd, list(faults), 6)


def test_nothing_that_goes_while_it_wakes_is_noticed(zero: Zero) -> None:
    """A gateway that holds requests is told to end, the operators that start the pod are killed."""
    eventually(zero.asleep, SLEEP_SECONDS, "asleep")
    scenario = "waking: a gateway deleted, the operators killed"
    crowd = Crowd(zero)
    with crowd:
        crowd.say(scenario)
        crowd.resume()
        eventually(zero.cluster.pods, START_SECONDS, "a pod that starts")
        assert crowd.waiting >= 12, "nobody waits"
        (first, *_) = [pod["metadata"]["name"] for pod in gateway.pods(zero.kubectl)]
        zero.kubectl.run("delete", "pod", first, "-n", SYSTEM_NAMESPACE, "--wait=false")
        killed = kill_operators(zero)
        assert not wake.in_service(zero.cluster.slices(), berths=False), "it was ready too soon to show anything"
        gateway.until_all_ready(zero.kubectl, gateway.OPERATORS, len(killed), killed, START_SECONDS)
        eventually(zero.serves_alone, START_SECONDS, "a pod serves")
        crowd.until_all_answered_anew(1)
        gateway.until_all_ready(zero.kubectl, gateway.GATEWAYS, 2, {first}, START_SECONDS)
        crowd.until_quiet()
    judge(crowd, [scenario], 6)


def test_many_at_once_wake_as_many_replicas_as_they_need(zero: Zero) -> None:
    """Two, since one takes TARGET of them; and all of them go when nobody asks any more."""
    endpoints.apply(zero.kubectl, zero.namespace, endpoint(2))
    eventually(zero.asleep, SLEEP_SECONDS, "asleep")
    scenario = f"0→2→0, {AT_ONCE} clients at once"
    crowd = Crowd(zero, at_once=AT_ONCE // 6, every_seconds=float("inf"), fresh_alone=True)
    with crowd, zero.watched() as waking:
        crowd.say(scenario)
        crowd.resume()
        eventually(lambda: crowd.waiting >= AT_ONCE, START_SECONDS, "all of them wait")
        crowd.pause()
        two = lambda: wake.wanted(zero.cluster.deployment()) == 2  # noqa: E731
        eventually(two, START_SECONDS, "two replicas are asked for")
        assert not wake.in_service(zero.cluster.slices(), berths=False), "before any of them is ready"
        eventually(lambda: crowd.answers, START_SECONDS, "an answer")
        waking.answered()
        crowd.until_quiet()
        eventually(zero.asleep, START_SECONDS, "asleep again")
        answers = crowd.answers
    print(f"\n{wake.table({'0→2': waking.marks})}")
    print(*waking.told, sep="\n")
    assert len(answers) >= AT_ONCE
    judge(crowd, [scenario], AT_ONCE // 2)
