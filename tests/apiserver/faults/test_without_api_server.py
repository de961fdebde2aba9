"""An API server that goes away, and a CRD that does. On a control plane of their own, as others need theirs."""

from concurrent.futures import Future

from tests.apiserver.endpoints import endpoint, status, waits_for_pods
from tests.apiserver.faults.ledger import LIMIT_SECONDS, new_endpoint
from tests.apiserver.faults.site import NAMESPACE, Outage, Site, install_crd
from tests.waiting import eventually


def test_two_minutes_without_an_api_server(site: Site, outage: Future[Outage]) -> None:
    found = outage.result()
    due = new_endpoint("made")
    due[("patch", "services", "demo")] += 1
    assert found.written == due
    assert {kind for kind in found.after if found.before[kind] != found.after[kind]} == {"service"}
    assert status(site.kubectl, NAMESPACE)["problems"]
    assert len(site.operator.events("started")) == 1, "the same process all the time"
    assert "Traceback" not in site.operator.log.read_text()


def test_a_crd_that_is_removed_and_comes_back(site: Site, outage: Future[Outage]) -> None:
    outage.result()
    before = site.ledger.settled()
    site.kubectl.run("delete", "crd", "modelendpoints.berth.dev")
    eventually(
        lambda: not site.kubectl.get("deployments,services,pdb", "-n", NAMESPACE)["items"],
        LIMIT_SECONDS,
        "all children are gone",
    )
    assert site.ledger.settled() == before, "an endpoint that is gone has no children to make"
    install_crd(site.kubectl)
    site.kubectl.apply([endpoint(NAMESPACE, "again"), endpoint(NAMESPACE)])
    for name in ("again", "demo"):
        eventually(
            lambda name=name: waits_for_pods(site.kubectl, NAMESPACE, name), LIMIT_SECONDS, f"{name} waits for its pods"
        )
    assert site.ledger.settled() - before == new_endpoint("again") + new_endpoint("demo")
    assert len(site.operator.events("started")) == 1, "the same process all the time"
