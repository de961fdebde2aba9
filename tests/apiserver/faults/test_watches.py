"""Watches that break, and what happened while they were broken."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from local.kubectl import Kubectl
from tests.apiserver.endpoints import CHILDREN, endpoint, status, waits_for_pods
from tests.apiserver.faults.actions import Forward, answer, refusal
from tests.apiserver.faults.ledger import LIMIT_SECONDS, Ledger, new_endpoint
from tests.apiserver.faults.proxy import Proxy
from tests.apiserver.operators import Operator
from tests.waiting import eventually

WATCHED = ("modelendpoints", "deployments", "services", "poddisruptionbudgets", "pods")


def expired_in_the_stream(proxy: Proxy) -> None:
    proxy.expire()


def expired_as_answer_to_the_watch(proxy: Proxy) -> None:
    for resource in WATCHED:
        proxy.once("watch", resource, answer(410, message="too old resource version: 1 (2)"))
    proxy.cut()


def expired_as_answer_to_the_list(proxy: Proxy) -> None:
    for resource in WATCHED:
        proxy.once("list", resource, answer(410, message="the provided continue parameter is too old"))
    proxy.expire()


def cut_in_the_middle_of_an_event(proxy: Proxy) -> None:
    proxy.cut()


@pytest.mark.parametrize(
    "breaks",
    [
        expired_in_the_stream,
        expired_as_answer_to_the_watch,
        expired_as_answer_to_the_list,
        cut_in_the_middle_of_an_event,
    ],
)
def test_what_happened_while_the_watches_were_deaf_is_made_good(
    breaks: Callable[[Proxy], None], kubectl: Kubectl, namespace: str, operator: Any, proxy: Proxy, ledger: Ledger
) -> None:
    before = changes_behind_deaf_watches(kubectl, namespace, proxy, ledger)
    breaks(proxy)
    made_good(kubectl, namespace, ledger, before)


def test_watches_that_are_silent_without_an_end_are_given_up(
    kubectl: Kubectl, namespace: str, operator: Any, proxy: Proxy, ledger: Ledger
) -> None:
    """The API server sends a bookmark every minute, so that 70 s of silence say that nobody is there."""
    before = changes_behind_deaf_watches(kubectl, namespace, proxy, ledger)
    made_good(kubectl, namespace, ledger, before)


async def undiscovered(request: web.Request, forward: Forward) -> web.StreamResponse:
    """The group is not in discovery, while its objects are served: so it is for a moment after a CRD is established."""
    if request.path.rstrip("/") == "/apis/berth.dev/v1alpha1":
        return web.json_response(refusal(404, "the server could not find the requested resource"), status=404)
    return await forward()


def test_a_kind_that_comes_late_in_discovery_is_watched(
    kubectl: Kubectl, namespace: str, operator_process: Operator, proxy: Proxy
) -> None:
    """kopf looks for it when the CRD changes, and not again."""
    with proxy.on("list", "", undiscovered) as hidden:
        operator_process.start()
        eventually(lambda: hidden.calls, LIMIT_SECONDS, "kopf has asked")
        kubectl.apply([endpoint(namespace)])
        assert "modelendpoints" not in proxy.watched()
    eventually(lambda: waits_for_pods(kubectl, namespace), LIMIT_SECONDS, "the endpoint waits for its pods")


def test_a_stop_before_the_first_list_is_a_stop_like_any_other(operator_process: Operator, proxy: Proxy) -> None:
    with proxy.on("list", "modelendpoints", answer(503)):
        operator_process.start("first_list_failed")
        assert operator_process.stop() == 0
    assert operator_process.events("stopped")


def changes_behind_deaf_watches(
    kubectl: Kubectl, namespace: str, proxy: Proxy, ledger: Ledger
) -> Counter[tuple[str, str, str]]:
    """One endpoint is made, one edited, one deleted, and a child of a fourth. Returns what was written before."""
    kubectl.apply([endpoint(namespace, name) for name in ("edited", "deleted", "robbed")])
    for name in ("edited", "deleted", "robbed"):
        eventually(
            lambda name=name: waits_for_pods(kubectl, namespace, name), LIMIT_SECONDS, f"{name} waits for its pods"
        )
    eventually(lambda: proxy.watched() >= set(WATCHED), LIMIT_SECONDS, "every watch is open")
    before = ledger.settled()
    proxy.silence()
    kubectl.run("delete", "mep", "deleted", "-n", namespace)
    kubectl.run("delete", "service", "robbed", "-n", namespace)
    kubectl.apply([endpoint(namespace, "edited", service={"port": 81}), endpoint(namespace, "made")])
    # The garbage collector looks for new kinds every 30 s; the CRD may be younger than that.
    eventually(
        lambda: not any(kubectl.find(kind, "deleted", "-n", namespace) for kind in CHILDREN),
        LIMIT_SECONDS,
        "its children go, too",
    )
    assert ledger.settled() == before, "the watches were to be deaf"
    return before


def made_good(kubectl: Kubectl, namespace: str, ledger: Ledger, before: Counter[tuple[str, str, str]]) -> None:
    """All of it is right, at the price of exactly the writes that were due."""
    due = Counter(
        {
            **new_endpoint("made"),
            ("patch", "services", "edited"): 1,
            ("patch", "modelendpoints/status", "edited"): 1,
            ("patch", "services", "robbed"): 1,
        }
    )
    eventually(lambda: ledger.written() - before == due, LIMIT_SECONDS, f"{due} and nothing else")
    assert ledger.settled() - before == due
    assert waits_for_pods(kubectl, namespace, "made")
    assert status(kubectl, namespace, "edited")["url"].endswith(":81")
    assert kubectl.find("service", "robbed", "-n", namespace)
    assert not any(kubectl.find(kind, "deleted", "-n", namespace) for kind in CHILDREN)
