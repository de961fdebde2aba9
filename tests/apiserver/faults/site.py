"""A control plane of a test's own, with an operator, for what would disturb others: it goes away, or loses the CRD."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from local.controlplane import ControlPlane
from local.kubectl import Kubectl, condition
from tests.apiserver.endpoints import endpoint, versions, waits_for_pods
from tests.apiserver.faults.ledger import LIMIT_SECONDS, Ledger, Written
from tests.apiserver.operators import ROOT, Operator, credentials, process
from tests.waiting import eventually

AWAY_SECONDS = 120.0
NAMESPACE = "team-a"


@dataclass
class Site:
    """The control plane, its operator, and what that has written in `NAMESPACE`, where one endpoint is settled."""

    plane: ControlPlane
    kubectl: Kubectl
    operator: Operator
    ledger: Ledger


@contextmanager
def new_site(path: Path) -> Iterator[Site]:
    """A site that keeps its files under `path`."""
    with ControlPlane(path / "control-plane") as plane:
        kubectl = Kubectl(plane.kubeconfig)
        install_crd(kubectl)
        kubectl.run("create", "namespace", NAMESPACE)
        with process(credentials(plane), path / "operator.log") as operator:
            operator.start()
            found = Site(plane, kubectl, operator, Ledger(plane.audit_log, NAMESPACE))
            kubectl.apply([endpoint(NAMESPACE)])
            eventually(lambda: waits_for_pods(kubectl, NAMESPACE), LIMIT_SECONDS, "the endpoint waits for its pods")
            found.ledger.settled()
            yield found


def install_crd(kubectl: Kubectl) -> None:
    """Apply the CRD and wait until it is served."""
    kubectl.run("apply", "-f", str(ROOT / "crds"))
    name = "modelendpoints.berth.dev"
    eventually(
        lambda: condition(kubectl.get("crd", name), "Established").get("status") == "True", LIMIT_SECONDS, "the CRD"
    )


@dataclass
class Outage:
    """What was written because of two minutes without an API server, and resourceVersions before and after them."""

    written: Written
    before: dict[str, str]
    after: dict[str, str]


def two_minutes_away(site: Site, given_up: Event) -> Outage:
    """Kill the API server; when it is back, delete a child and make an endpoint while the operator finds back to it.

    given_up: set when nobody waits for it any more.
    """
    written, before = site.ledger.settled(), versions(site.kubectl, NAMESPACE)
    site.plane.stop_apiserver()
    if given_up.wait(AWAY_SECONDS):
        raise InterruptedError("the tests ended before the outage did")
    site.plane.start_apiserver()
    eventually(
        lambda: site.kubectl.try_run("get", "mep", "-n", NAMESPACE).returncode == 0, LIMIT_SECONDS, "the CRD is served"
    )
    site.kubectl.run("delete", "service", "demo", "-n", NAMESPACE)
    site.kubectl.apply([endpoint(NAMESPACE, "made")])
    # The controllers of Kubernetes need a minute and more to find back as well.
    eventually(
        lambda: waits_for_pods(site.kubectl, NAMESPACE, "made"), 2 * LIMIT_SECONDS, "the new one waits for its pods"
    )
    return Outage(site.ledger.settled() - written, before, versions(site.kubectl, NAMESPACE))
