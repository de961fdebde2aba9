"""What is wrong is on the object: each test breaks one thing and reads status."""

from typing import Any

from local.kubectl import Kubectl, condition
from tests.node import endpoints
from tests.waiting import eventually

START_SECONDS = 240.0


def test_unschedulable_says_which_resource_is_short_and_by_how_much(kubectl: Kubectl, namespace: str) -> None:
    endpoints.apply(kubectl, namespace, endpoints.endpoint("big", resources={"limits": {"nvidia.com/gpu": 4}}))

    def short() -> dict[str, Any] | None:
        found = endpoints.problem(kubectl, namespace, "big", "Unschedulable")
        # The scheduler looks again once the claim is bound.
        return found if found and "Insufficient nvidia.com/gpu" in found["message"] else None

    found = eventually(short, 60, "Unschedulable for want of a GPU")
    assert "the pod needs 4 nvidia.com/gpu" in found["message"]
    assert "short" in found["message"]
    assert found["suggestion"].startswith("Ask for less nvidia.com/gpu")


def test_an_image_that_cannot_be_pulled(kubectl: Kubectl, namespace: str) -> None:
    server = {"image": "registry.invalid/vllm:none"}
    endpoints.apply(kubectl, namespace, endpoints.endpoint("noimage", server=server))
    found = eventually(
        lambda: endpoints.problem(kubectl, namespace, "noimage", "ImagePullFailed"), 90, "ImagePullFailed"
    )
    assert found["container"] == "server"
    assert "registry.invalid/vllm:none" in found["message"]


def test_a_wrong_argument_is_told_with_vllms_own_words_and_mended_by_correcting_it(
    kubectl: Kubectl, namespace: str
) -> None:
    broken = endpoints.endpoint("typo")
    good_args = broken["spec"]["server"]["args"]
    broken["spec"]["server"] = {"args": {**good_args, "max-modle-len": 512}}
    endpoints.apply(kubectl, namespace, broken)
    found = eventually(
        lambda: endpoints.problem(kubectl, namespace, "typo", "UnknownEngineArgument"), START_SECONDS, "the reason"
    )
    assert "--max-modle-len" in found["message"]
    assert condition(kubectl.get("mep", "typo", "-n", namespace), "Stalled")["status"] == "True"

    broken["spec"]["server"] = {"args": good_args}
    endpoints.apply(kubectl, namespace, broken)
    mended = eventually(
        lambda: endpoints.ready(kubectl, namespace, "typo"), START_SECONDS, "Ready after the correction"
    )
    assert mended["status"]["problems"] == []
    assert not condition(mended, "Stalled")


def test_a_model_that_is_not_there(kubectl: Kubectl, namespace: str) -> None:
    nowhere = endpoints.endpoint("nowhere", model={"source": "pvc://models/tinny"})
    endpoints.apply(kubectl, namespace, nowhere)
    found = eventually(lambda: endpoints.problem(kubectl, namespace, "nowhere", "ModelNotFound"), 120, "ModelNotFound")
    assert "tinny" in found["message"]
    assert "tiny" in found["message"]


def test_a_claim_that_does_not_exist(kubectl: Kubectl, namespace: str) -> None:
    endpoints.apply(kubectl, namespace, endpoints.endpoint("noclaim", model={"source": "pvc://nothing/tiny"}))
    found = eventually(lambda: endpoints.problem(kubectl, namespace, "noclaim", "Unschedulable"), 30, "Unschedulable")
    assert 'persistentvolumeclaim "nothing" not found' in found["message"]


def test_a_start_shows_the_launchers_phases(kubectl: Kubectl, namespace: str) -> None:
    endpoints.apply(kubectl, namespace, endpoints.endpoint("slow"))
    seen: list[str] = []

    def look() -> bool:
        told = endpoints.problem(kubectl, namespace, "slow", "Starting")
        if told and told["message"] not in seen:
            seen.append(told["message"])
        return endpoints.ready(kubectl, namespace, "slow") is not None

    eventually(look, START_SECONDS, f"Ready, after {seen}")
    assert any(message.startswith(("Starting engine", "Loading weights")) for message in seen), seen
