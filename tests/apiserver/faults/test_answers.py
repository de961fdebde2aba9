"""Answers of a busy or refusing API server, and answers that never arrive."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from local.controlplane import ControlPlane
from local.kubectl import Kubectl
from tests.apiserver.endpoints import endpoint, status, waits_for_pods
from tests.apiserver.faults.actions import answer, delay, lose_answer
from tests.apiserver.faults.ledger import LIMIT_SECONDS, Ledger, new_endpoint
from tests.apiserver.faults.proxy import Call, Proxy, through
from tests.apiserver.operators import SYSTEM_NAMESPACE, Operator
from tests.waiting import eventually

PHASE_SECONDS = 10.0
SERVICE = {"annotations": {"example.com/edited": "yes"}}

# The longest of the faults begins with the first of their modules and is judged in the last.
pytestmark = pytest.mark.usefixtures("outage")


@pytest.mark.parametrize(("codes", "begins"), [((500, 503), Proxy.expire), ((403,), Proxy.cut)], ids=["5xx", "403"])
def test_a_phase_of_errors_ends_and_everything_is_as_if_it_had_not_been(
    codes: tuple[int, ...],
    begins: Callable[[Proxy], None],
    kubectl: Kubectl,
    namespace: str,
    operator: Operator,
    proxy: Proxy,
    ledger: Ledger,
) -> None:
    kubectl.apply([endpoint(namespace, "edited"), endpoint(namespace, "untouched")])
    for name in ("edited", "untouched"):
        eventually(
            lambda name=name: waits_for_pods(kubectl, namespace, name), LIMIT_SECONDS, f"{name} waits for its pods"
        )
    before = ledger.settled()
    with proxy.on("*", "*", answer(*codes)) as fault:
        # Not of the number of replicas: before that is written, the list of others' autoscalers fails.
        kubectl.apply([endpoint(namespace, "edited", service=SERVICE), endpoint(namespace, "made")])
        eventually(lambda: {call.name for call in fault.calls} >= {"edited", "made"}, LIMIT_SECONDS, "passes fail")
        begins(proxy)
        time.sleep(PHASE_SECONDS)  # the phase is what is tested
    refused = Counter(call.verb for call in fault.calls)
    assert {"list", "get", "patch", "update"} <= set(refused), "watches, passes and the Lease must have met the errors"
    assert refused.total() < 20 * PHASE_SECONDS, f"a struggling API server is asked without a pause: {refused}"
    due = Counter(
        {
            **new_endpoint("made"),
            ("patch", "services", "edited"): 1,
            ("patch", "modelendpoints/status", "edited"): 1,
        }
    )
    eventually(lambda: ledger.written() - before == due, LIMIT_SECONDS, f"{due} and nothing else")
    assert ledger.settled() - before == due
    assert waits_for_pods(kubectl, namespace, "made")
    annotations = kubectl.get("service", "edited", "-n", namespace)["metadata"]["annotations"]
    assert annotations.items() >= SERVICE["annotations"].items()


def test_the_wish_of_a_busy_api_server_is_honoured(
    kubectl: Kubectl, namespace: str, operator: Operator, proxy: Proxy, ledger: Ledger
) -> None:
    busy = proxy.once("patch", "services", answer(429, message="too many requests", retry_after_seconds=4), times=2)
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), LIMIT_SECONDS, "the endpoint waits for its pods")
    assert ledger.settled() == new_endpoint()
    asked = [call.at for call in proxy.calls if (call.verb, call.resource, call.name) == ("patch", "services", "demo")]
    assert len(busy.calls) == 2
    assert len(asked) == 3
    assert asked[1] - asked[0] >= 4
    assert asked[2] - asked[1] >= 4


def test_a_token_that_is_refused_is_replaced_by_the_next_one(
    control_plane: ControlPlane,
    kubectl: Kubectl,
    namespace: str,
    operator: Operator,
    operator_kubeconfig: Path,
    proxy: Proxy,
    ledger: Ledger,
    tmp_path: Path,
) -> None:
    """The new token comes later than the refusal of the old one: a while there is nothing to log in with."""
    old = proxy.calls[0].token

    def has_old_token(call: Call) -> bool:
        return call.token == old

    with proxy.on("*", "*", answer(401, message="Unauthorized"), when=has_old_token) as refused:
        proxy.cut()
        kubectl.apply([endpoint(namespace)])
        eventually(lambda: {call.verb for call in refused.calls} >= {"watch", "update"}, LIMIT_SECONDS, "refusals")
        through(proxy, control_plane.kubeconfig_for(SYSTEM_NAMESPACE, "berth"), operator_kubeconfig)
        eventually(lambda: waits_for_pods(kubectl, namespace), LIMIT_SECONDS, "the endpoint waits for its pods")
        kubectl.apply([endpoint(namespace, replicas=2)])
        eventually(lambda: status(kubectl, namespace).get("replicas") == 2, LIMIT_SECONDS, "the watches follow, too")
        count = len(refused.calls)
        kubectl.apply([endpoint(namespace, replicas=3)])
        eventually(lambda: status(kubectl, namespace).get("replicas") == 3, LIMIT_SECONDS, "a third pass")
        assert len(refused.calls) == count, "the old token is still in use"
    edits = Counter({("patch", "deployments", "demo"): 2, ("patch", "modelendpoints/status", "demo"): 2})
    assert ledger.settled() == new_endpoint() + edits


def test_two_seconds_on_every_call_change_nothing_but_the_time(
    kubectl: Kubectl, namespace: str, operator: Operator, proxy: Proxy, ledger: Ledger
) -> None:
    with proxy.on("*", "*", delay(2.0)):
        proxy.cut()
        names = [f"e{number}" for number in range(5)]
        kubectl.apply([endpoint(namespace, name) for name in names])
        for name in names:
            eventually(
                lambda name=name: waits_for_pods(kubectl, namespace, name), LIMIT_SECONDS, f"{name} waits for its pods"
            )
        due = sum((new_endpoint(name) for name in names), Counter())
        assert ledger.settled() == due
    assert not operator.events("leading_lost")


WRITTEN = ("deployments", "services", "poddisruptionbudgets", "modelendpoints/status")


def test_a_write_whose_answer_is_lost_is_not_made_twice(
    kubectl: Kubectl, namespace: str, operator: Operator, proxy: Proxy, ledger: Ledger
) -> None:
    """It may be sent again, as nobody can know better; then it changes nothing."""
    lost = [proxy.once("patch", resource, lose_answer()) for resource in WRITTEN]
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), LIMIT_SECONDS, "the endpoint waits for its pods")
    sent = ledger.settled()
    assert [len(fault.calls) for fault in lost] == [1] * len(WRITTEN)
    assert set(sent) == set(new_endpoint())
    assert max(sent.values()) <= 2
    found = kubectl.get("deployment", "demo", "-n", namespace)
    assert found["metadata"]["generation"] == 1
    assert len(kubectl.get("replicasets,pods", "-n", namespace)["items"]) == 2
    assert operator.events("reconcile_postponed")
