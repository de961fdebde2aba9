"""To zero and back under load: no request fails, no answer is cut off.

One endpoint that may sleep. Clients with pooled connections and with fresh ones, by the gateway's URL and by the
endpoint's own Service, from the node. The tests run in the order of the file and print a table each (-rP).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple, Self

import pytest

from local.kubectl import Kubectl, condition
from tests import load
from tests.load import Answer, Load
from tests.node import endpoints, gateway, wake
from tests.waiting import eventually

NAME = "sleeper"
IDLE_SECONDS = 12
START_SECONDS = 600.0
SLEEP_SECONDS = 180.0
# Longer than anything that is waited for here, so that no client ends what it has asked for.
PATIENCE_SECONDS = 900.0
EVERY_SECONDS = 3.0
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


MOMENTS: dict[str, Callable[[Zero], bool]] = {
    "asleep": Zero.asleep,
    "as the gateway joins the Service": Zero.gateway_joins,
    "as the pod drains": Zero.drains,
    "as the pod is gone": Zero.empty,
}
"""When the clients come back, on their connections from before and on new ones."""


def test_to_zero_and_back_whenever_clients_return(zero: Zero) -> None:
    wakes: dict[str, dict[str, float]] = {}
    told: list[tuple[str, str, str]] = []
    crowd = Crowd(zero)
    try:
        with crowd:
            for name, moment in MOMENTS.items():
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
    judge(crowd, [f"0→1→0, {name}" for name in MOMENTS], 6)
    assert {status for status, _, _ in told} == {"True"}, "sleeping and waking have flipped Ready"
    assert {"Waking", "Serving"} <= {reason for _, reason, _ in told}
    estimates = [
        message for _, reason, message in told if reason == "Waking" and re.search(r"about \d+ (s|min)", message)
    ]
    assert estimates, "no message says how long a start takes"
