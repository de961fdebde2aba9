"""Two operators on one API server: one writes, the other takes over.

In: two processes with tokens of their own, so that the audit log tells whose request each was.
Out: who wrote what, from the audit log. The Lease is short here, for the bounds are multiples of it.
"""

import base64
import datetime
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.controlplane import ControlPlane
from local.kubectl import Kubectl
from tests.apiserver.endpoints import endpoint, status, waits_for_pods
from tests.apiserver.operators import SYSTEM_NAMESPACE, Operator, credentials, process
from tests.waiting import eventually

Object = dict[str, Any]

LEASE_SECONDS = 4
KILLS = int(os.environ.get("BERTH_FAILOVERS", "2"))
WRITES = ("create", "update", "patch", "delete")


class Replica:
    """An operator with a token of its own."""

    def __init__(self, operator: Operator, token_id: str) -> None:
        self.operator = operator
        self.token_id = token_id

    @property
    def leads(self) -> bool:
        """As of its own last word."""
        return len(self.operator.events("leading")) > len(self.operator.events("leading_lost"))


Pair = Callable[[int], tuple[Replica, Replica]]


@pytest.fixture
def pair(control_plane: ControlPlane, kubectl: Kubectl, tmp_path: Path) -> Iterator[Pair]:
    """Two operators, started one after the other with a Lease of so many seconds: the first leads."""
    with (
        process(tmp_path / "0", tmp_path / "0.log") as first,
        process(tmp_path / "1", tmp_path / "1.log") as second,
    ):

        def start(lease_seconds: int) -> tuple[Replica, Replica]:
            kubectl.try_run("delete", "lease", "berth", "-n", SYSTEM_NAMESPACE)
            found = []
            for operator, awaited in ((first, "leading"), (second, "started")):
                shutil.copy(credentials(control_plane), operator.kubeconfig)
                operator.start(awaited, LEASE_SECONDS=str(lease_seconds))
                found.append(Replica(operator, token_id(operator.kubeconfig)))
            return found[0], found[1]

        yield start


def token_id(kubeconfig: Path) -> str:
    """What the audit log calls the token of a kubeconfig."""
    token = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"]
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return f"JTI={claims['jti']}"


def writes(control_plane: ControlPlane, replica: Replica) -> list[Object]:
    """Its writes so far, those of the Lease left out."""
    found = []
    for entry in map(json.loads, control_plane.audit_log.read_text().splitlines()):
        ids = (entry["user"].get("extra") or {}).get("authentication.kubernetes.io/credential-id") or []
        resource = (entry.get("objectRef") or {}).get("resource")
        if replica.token_id in ids and entry["verb"] in WRITES and resource in (
            "deployments", "services", "poddisruptionbudgets", "modelendpoints"
        ):  # fmt: skip
            found.append(entry)
    return found


def at(entry: Object) -> float:
    """Second of the day at which the API server got a request."""
    return datetime.datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()


def now() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()


def make(kubectl: Kubectl, namespace: str, name: str) -> None:
    kubectl.apply([endpoint(namespace, name)])


def is_done(kubectl: Kubectl, namespace: str, name: str) -> None:
    eventually(lambda: waits_for_pods(kubectl, namespace, name), 60, f"{name} waits for its pods")


def test_of_two_operators_one_writes_and_each_thing_once(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str, pair: Pair
) -> None:
    leader, standby = pair(LEASE_SECONDS)
    for number in range(5):
        make(kubectl, namespace, f"e{number}")
    for number in range(5):
        is_done(kubectl, namespace, f"e{number}")
    here = [entry for entry in writes(control_plane, leader) if entry["objectRef"]["namespace"] == namespace]
    assert len(here) == 5 * 4
    assert writes(control_plane, standby) == []
    assert leader.leads and not standby.leads


def test_after_a_kill_the_standby_writes_within_the_bound_of_the_lease(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str, pair: Pair
) -> None:
    """Not before the Lease is over, and soon after: an eighth of it is the longest between two looks."""
    leader, standby = pair(LEASE_SECONDS)
    waited = []
    for number in range(KILLS):
        leader.operator.kill()
        killed_at = now()
        make(kubectl, namespace, f"e{number}")
        is_done(kubectl, namespace, f"e{number}")
        first = next(entry for entry in writes(control_plane, standby) if at(entry) > killed_at)
        waited.append(at(first) - killed_at)
        leader.operator.start("started", LEASE_SECONDS=str(LEASE_SECONDS))
        leader, standby = standby, leader
    print(f"first write after SIGKILL, in Leases of {LEASE_SECONDS} s:", [round(s / LEASE_SECONDS, 2) for s in waited])
    # The last renewal was at most a quarter of the Lease before the kill.
    assert min(waited) > 0.7 * LEASE_SECONDS
    assert max(waited) < 2 * LEASE_SECONDS


def test_a_stopped_leader_hands_over_at_once(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str, pair: Pair
) -> None:
    long = 40
    leader, standby = pair(long)
    waited = []
    for number in range(KILLS):
        stopped_at = now()
        assert leader.operator.stop() == 0
        make(kubectl, namespace, f"e{number}")
        is_done(kubectl, namespace, f"e{number}")
        first = next(entry for entry in writes(control_plane, standby) if at(entry) > stopped_at)
        waited.append(at(first) - stopped_at)
        leader.operator.start("started", LEASE_SECONDS=str(long))
        leader, standby = standby, leader
    print(f"first write after SIGTERM, in Leases of {long} s:", [round(s / long, 3) for s in waited])
    # It looks every eighth of its own Lease; waiting for the end of the other's would take the whole.
    assert max(waited) < long / 4


def test_a_leader_thawed_after_its_lease_writes_nothing(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str, pair: Pair
) -> None:
    leader, standby = pair(LEASE_SECONDS)
    make(kubectl, namespace, "e0")
    is_done(kubectl, namespace, "e0")
    leader.operator.signal(signal.SIGSTOP)
    written = len(writes(control_plane, leader))
    # Events for the frozen one: what it finds when it thaws is all work.
    kubectl.apply([endpoint(namespace, "e0", service={"port": 81}), endpoint(namespace, "e1")])
    kubectl.run("delete", "poddisruptionbudget", "e0", "-n", namespace)
    is_done(kubectl, namespace, "e1")
    eventually(lambda: status(kubectl, namespace, "e0")["url"].endswith(":81"), 30, "the standby has taken over")
    assert standby.leads
    leader.operator.signal(signal.SIGCONT)
    eventually(lambda: leader.operator.events("leading_lost"), 30, "the thawed leader notices")
    kubectl.apply([endpoint(namespace, "e0", service={"port": 82})])
    eventually(lambda: status(kubectl, namespace, "e0")["url"].endswith(":82"), 30, "the new leader goes on")
    assert len(writes(control_plane, leader)) == written
