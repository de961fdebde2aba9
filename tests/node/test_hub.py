"""`hf://` in a pod: a hub on the bridge address, its token in a Secret, the real client library and real vLLM."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import model, network
from local.kubectl import Kubectl
from local.model import PAGE
from tests.hub import Hub
from tests.node import endpoints
from tests.waiting import eventually

REPO = "harbour/tiny"
TOKEN = "hf_of-the-secret"
START_SECONDS = 300.0


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    shutil.copytree(model.ensure(), tmp_path / REPO)
    with Hub(tmp_path, token=TOKEN, gated=[REPO], granted=[REPO], address=network.ADDRESS) as running:
        yield running


def test_a_gated_model_is_downloaded_with_the_secrets_token_and_served(
    kubectl: Kubectl, namespace: str, hub: Hub
) -> None:
    env = {"env": [{"name": "HF_ENDPOINT", "value": hub.url}]}
    gated = endpoints.endpoint("gated", model={"source": f"hf://{REPO}", "revision": hub.commit(REPO)})
    gated["spec"]["server"] |= env
    endpoints.apply(kubectl, namespace, gated)
    missing = eventually(lambda: endpoints.problem(kubectl, namespace, "gated", "TokenMissing"), 120, "TokenMissing")
    assert REPO in missing["message"]

    # The second of the two usual keys; the kubelet resolves it, Berth may not read Secrets.
    kubectl.run("create", "secret", "generic", "hub", "-n", namespace, f"--from-literal=token={TOKEN}")
    gated["spec"]["model"]["secretRef"] = {"name": "hub"}
    endpoints.apply(kubectl, namespace, gated)
    served = eventually(lambda: endpoints.ready(kubectl, namespace, "gated"), START_SECONDS, "Ready with the token")
    assert served["status"]["problems"] == []
    with endpoints.client(kubectl, namespace, "gated") as client:
        prompt = " ".join(PAGE.split(" ")[:12])
        for name in ("gated", REPO):
            body = {"model": name, "prompt": prompt, "max_tokens": 16, "temperature": 0}
            text = client.post("/v1/completions", json=body).json()["choices"][0]["text"]
            assert PAGE.startswith(prompt + text)

    everything = kubectl.run("get", "mep,deploy,pods,events", "-n", namespace, "-o", "yaml")
    pod = endpoints.pods(kubectl, namespace, "gated")[0]["metadata"]["name"]
    assert TOKEN not in everything + kubectl.run("logs", pod, "-n", namespace, "--all-containers")
