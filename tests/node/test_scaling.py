"""One replica, three under load, one again: clients on pooled connections, the operator left alone or killed half way.

Left alone it is with BERTH_WHOLE only (`make node-load`): to be killed is harder.
In: an endpoint with `spec.scaling`, real requests.  Out: every answer held against the known one; `status.scaling`.
"""

import os
import re
from typing import Any

import pytest

from local.kubectl import Kubectl, condition
from tests import load
from tests.load import Load
from tests.node import endpoints
from tests.waiting import eventually

NAME = "wide"
MOST = 3
START_SECONDS = 900.0
# Two minutes of less, then a minute for each, and what they still have to answer.
DOWN_SECONDS = 900.0
SYSTEM = "berth-system"
RUNS = ({"operator runs": False} if os.environ.get("BERTH_WHOLE") else {}) | {"operator killed half way": True}


def apply(kubectl: Kubectl, namespace: str) -> None:
    # Without a GPU: the node has only two.
    spec = endpoints.endpoint(NAME)["spec"]
    spec |= {
        "resources": {"limits": {"memory": "6Gi"}, "requests": {"memory": "1Gi"}},
        "scaling": {"min": 1, "max": MOST, "target": {"inFlightPerReplica": 2}},
    }
    endpoints.apply(kubectl, namespace, endpoints.endpoint(NAME, **spec))


def status(kubectl: Kubectl, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = kubectl.get("mep", NAME, "-n", namespace)["status"]
    assert condition({"status": found}, "Available")["status"] == "True", found
    return found


def kill_operator(kubectl: Kubectl) -> None:
    """The leader and its standby, without a chance to say goodbye."""
    kubectl.run("delete", "pods", "-n", SYSTEM, "--all", "--grace-period=0", "--force")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("killed", RUNS.values(), ids=RUNS)
def test_replicas_follow_the_load_and_no_client_notices(kubectl: Kubectl, namespace: str, killed: bool) -> None:
    apply(kubectl, namespace)
    eventually(lambda: endpoints.ready(kubectl, namespace, NAME), START_SECONDS, "Ready")
    address = kubectl.get("service", NAME, "-n", namespace)["spec"]["clusterIP"]
    # The few must stay few where a server that starts takes both cores.
    few, many = (Load(f"http://{address}", NAME, at_once=0, always=always) for always in (0, 2))
    transitions = condition({"status": status(kubectl, namespace)}, "Ready")["lastTransitionTime"]
    try:
        with few:
            few.scenario = many.scenario = "scale-up"
            with many:
                eventually(lambda: status(kubectl, namespace)["scaling"]["desired"] > 1, START_SECONDS, "more wanted")
                if killed:
                    kill_operator(kubectl)
                eventually(lambda: status(kubectl, namespace).get("readyReplicas") == MOST, START_SECONDS, "all serve")
                at_most = status(kubectl, namespace)
                few.scenario = many.scenario = "between"
                # So that those that go have connections too.
                few.renew()
            few.scenario = "scale-down"
            eventually(lambda: status(kubectl, namespace)["scaling"]["desired"] < MOST, DOWN_SECONDS, "fewer wanted")
            if killed:
                kill_operator(kubectl)
            pods = lambda: endpoints.pods(kubectl, namespace, NAME)  # noqa: E731
            eventually(lambda: len(pods()) == 1, DOWN_SECONDS, "one pod")
            at_least = eventually(lambda: of_one(kubectl, namespace), START_SECONDS, "status of one replica")
    finally:
        counts = load.table([*few.answers, *many.answers])
        print(f"\n{counts}")
    assert few.problems() == many.problems() == [], counts
    for scenario in ("scale-up", "scale-down"):
        sent = [answer for answer in (*few.answers, *many.answers) if answer.scenario == scenario]
        assert len(sent) >= 20, f"{len(sent)} requests during {scenario}: too few to show anything"
    assert at_most["scaling"]["desired"] == MOST
    assert re.search(r"\d", at_most["scaling"]["explanation"])
    assert condition({"status": at_most}, "ScalingActive")["reason"] == "LoadKnown"
    assert condition({"status": at_least}, "Ready")["lastTransitionTime"] == transitions, "scaling has flipped Ready"


def test_too_few_accelerators_are_said(kubectl: Kubectl, namespace: str) -> None:
    """The node has two, of which the first example has one."""
    spec = endpoints.endpoint(NAME)["spec"]
    spec["scaling"] = {"min": 1, "max": MOST, "target": {"inFlightPerReplica": 2}}
    endpoints.apply(kubectl, namespace, endpoints.endpoint(NAME, **spec))
    eventually(lambda: endpoints.ready(kubectl, namespace, NAME), START_SECONDS, "Ready")
    address = kubectl.get("service", NAME, "-n", namespace)["spec"]["clusterIP"]
    with Load(f"http://{address}", NAME, at_once=0, always=2):
        eventually(
            lambda: status(kubectl, namespace)["scaling"].get("limitedBy") == "Accelerators", START_SECONDS, "the limit"
        )
        explanation = status(kubectl, namespace)["scaling"]["explanation"]
        assert explanation.endswith("; the free accelerators are enough for 1"), explanation


def of_one(kubectl: Kubectl, namespace: str) -> dict[str, Any] | None:
    found = status(kubectl, namespace)
    return found if found["readyReplicas"] == found["scaling"]["desired"] == 1 else None
