"""Helm on the node: upgrade, uninstall, install under another name; model servers never notice."""

from local.demo import NAMESPACE, RELEASE, SYSTEM_NAMESPACE, helm, install
from local.kubectl import Kubectl
from tests.node import endpoints
from tests.waiting import eventually

NAME = "quickstart"


def running(kubectl: Kubectl) -> list[tuple[str, int]]:
    """uid and restarts of the endpoint's pods."""
    return [
        (pod["metadata"]["uid"], sum(state["restartCount"] for state in pod["status"]["containerStatuses"]))
        for pod in endpoints.pods(kubectl, NAMESPACE, NAME)
    ]


def test_uninstall_leaves_model_servers_and_crd_and_another_release_adopts_them(
    kubectl: Kubectl, references: dict[str, str]
) -> None:
    before = running(kubectl)
    assert len(before) == 1
    other = "harbour"
    try:
        helm(kubectl, "uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--wait")
        assert kubectl.find("crd", "modelendpoints.berth.dev") is not None
        assert running(kubectl) == before
        with endpoints.client(kubectl, NAMESPACE, NAME) as client:
            assert client.get("/v1/models").status_code == 200

        install(kubectl, references, release=other)
        install(kubectl, references, release=other)
        # The adopted endpoint is managed again: a deleted child comes back, a pod is not replaced.
        kubectl.run("delete", "pdb", NAME, "-n", NAMESPACE)
        eventually(lambda: kubectl.find("pdb", NAME, "-n", NAMESPACE), 30, "the PodDisruptionBudget is made again")
        assert running(kubectl) == before
    finally:
        helm(kubectl, "uninstall", other, "--namespace", SYSTEM_NAMESPACE, "--wait", "--ignore-not-found")
        install(kubectl, references)
    assert running(kubectl) == before
