"""Other hands on what is Berth's: fields, children, the CRD, the clock."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.kubectl import Kubectl, condition
from tests.apiserver.endpoints import CHILDREN, endpoint, status, waits_for_pods
from tests.apiserver.faults.ledger import LIMIT_SECONDS, Ledger, Written
from tests.apiserver.operators import Operator
from tests.waiting import eventually

RESOURCES = {"deployment": "deployments", "service": "services", "poddisruptionbudget": "poddisruptionbudgets"}


@pytest.fixture
def settled(kubectl: Kubectl, namespace: str, operator: Operator, ledger: Ledger) -> Written:
    """An endpoint with all its children, and what that cost."""
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), LIMIT_SECONDS, "the endpoint waits for its pods")
    return ledger.settled()


def test_a_field_that_another_manager_took_is_taken_back_by_one_write_each_time(
    kubectl: Kubectl, namespace: str, settled: Written, ledger: Ledger
) -> None:
    """What the other one holds besides stays, and nobody writes when both have said what they want."""
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "demo", "namespace": namespace, "annotations": {"example.com/by": "them"}},
        "spec": {"replicas": 4},
    }
    for time in (1, 2, 3):
        force = ("apply", "--server-side", "--force-conflicts", "--field-manager=them", "-f", "-")
        kubectl.run(*force, stdin=json.dumps(theirs))
        due = Counter({("patch", "deployments", "demo"): time})
        eventually(lambda due=due: ledger.written() - settled >= due, LIMIT_SECONDS, f"{due}")
        spent = ledger.settled() - settled
        assert {call: count for call, count in spent.items() if "status" not in call[1]} == due
        found = kubectl.get("deployment", "demo", "-n", namespace)
        assert found["spec"]["replicas"] == 1
        assert found["metadata"]["annotations"]["example.com/by"] == "them"
    assert status(kubectl, namespace)["replicas"] == 1


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_deleted_by_hand_is_made_again_once(
    kind: str, kubectl: Kubectl, namespace: str, settled: Written, ledger: Ledger
) -> None:
    uid = kubectl.get(kind, "demo", "-n", namespace)["metadata"]["uid"]
    kubectl.run("delete", kind, "demo", "-n", namespace)
    due = Counter({("patch", RESOURCES[kind], "demo"): 1})
    eventually(lambda: ledger.written() - settled >= due, LIMIT_SECONDS, f"{due}")
    spent = ledger.settled() - settled
    assert {call: count for call, count in spent.items() if "status" not in call[1]} == due
    assert kubectl.get(kind, "demo", "-n", namespace)["metadata"]["uid"] != uid
    eventually(lambda: waits_for_pods(kubectl, namespace), LIMIT_SECONDS, "status is as before")


EDITS = {
    "deployment": {"spec": {"progressDeadlineSeconds": 5}},
    "service": {"spec": {"selector": {"berth.dev/endpoint": "other"}}},
    "poddisruptionbudget": {"spec": {"maxUnavailable": 0}},
}


def test_a_child_edited_by_hand_is_put_right_by_one_write(
    kubectl: Kubectl, namespace: str, settled: Written, ledger: Ledger
) -> None:
    before = {kind: kubectl.get(kind, "demo", "-n", namespace)["spec"] for kind in CHILDREN}
    for kind, edit in EDITS.items():
        kubectl.run("patch", kind, "demo", "-n", namespace, "--type=merge", "-p", json.dumps(edit))
    due = Counter({("patch", resource, "demo"): 1 for resource in RESOURCES.values()})
    eventually(lambda: ledger.written() - settled >= due, LIMIT_SECONDS, f"{due}")
    spent = ledger.settled() - settled
    assert {call: count for call, count in spent.items() if "status" not in call[1]} == due
    assert {kind: kubectl.get(kind, "demo", "-n", namespace)["spec"] for kind in CHILDREN} == before
    eventually(lambda: waits_for_pods(kubectl, namespace), LIMIT_SECONDS, "status is as before")


# Python's own clock of the day, moved by what a file says: monotonic time goes on, as it does when a clock is set.
CLOCK = """
import datetime, pathlib, time

class Moved(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

real, by = time.time, pathlib.Path({path!r})
time.time = lambda: real() + float(by.read_text())
datetime.datetime = Moved
"""


def test_a_clock_that_jumps_moves_nothing_but_the_times_of_what_happens_then(
    kubectl: Kubectl,
    namespace: str,
    operator_process: Operator,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by = tmp_path / "seconds"
    by.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(CLOCK.format(path=str(by)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    operator_process.start()
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), LIMIT_SECONDS, "the endpoint waits for its pods")
    before, told = ledger.settled(), status(kubectl, namespace)
    for days in (+2, -4):
        by.write_text(str(days * 86400.0))
        assert ledger.settled() == before, "a clock alone is no news"
        assert status(kubectl, namespace) == told
        kubectl.apply([endpoint(namespace, suspend=days > 0)])
        wanted = "Suspended" if days > 0 else "Starting"
        ready = eventually(lambda wanted=wanted: at_reason(kubectl, namespace, wanted), LIMIT_SECONDS, wanted)
        now = datetime.now(UTC) + timedelta(days=days)
        assert abs(datetime.fromisoformat(ready["lastTransitionTime"]) - now) < timedelta(hours=1)
        before, told = ledger.settled(), status(kubectl, namespace)
    assert not operator_process.events("leading_lost")


def at_reason(kubectl: Kubectl, namespace: str, reason: str) -> dict[str, str] | None:
    found = condition({"status": status(kubectl, namespace)}, "Ready")
    return found if found.get("reason") == reason else None
