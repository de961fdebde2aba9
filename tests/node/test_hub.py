"""`hf://` in a pod: a hub on the bridge address, its token in a Secret, the real client library and real vLLM."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import model, network, volumes
from local.kubectl import Kubectl
from local.model import PAGE
from local.pki import Authority
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


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def tls_hub(tmp_path: Path, hub: Hub, authority: Authority) -> Iterator[Hub]:
    """The same hub with a certificate of a private authority."""
    pair = authority.issue(tmp_path / "server", "hub", hosts=[network.ADDRESS])
    certificate = pair.certificate, pair.key
    gated = {"gated": [REPO], "granted": [REPO]}
    with Hub(hub.root, TOKEN, **gated, address=network.ADDRESS, certificate=certificate) as running:
        yield running


def test_a_gated_model_of_a_hub_with_a_private_authority_is_served_with_the_secrets_token(
    kubectl: Kubectl, namespace: str, tls_hub: Hub, authority: Authority
) -> None:
    hub = tls_hub
    gated = endpoints.endpoint("gated", model={"source": f"hf://{REPO}", "revision": hub.commit(REPO)})
    gated["spec"]["server"]["env"] = [{"name": "HF_ENDPOINT", "value": hub.url}]
    endpoints.apply(kubectl, namespace, gated)
    untrusted = eventually(lambda: endpoints.problem(kubectl, namespace, "gated", "HubUnreachable"), 120, "no trust")
    assert "SSL_CERT_FILE" in untrusted["suggestion"]

    # As docs/hugging-face.md has it.
    kubectl.run(
        "create", "configmap", "company-ca", "-n", namespace, f"--from-file=ca.crt={authority.pair.certificate}"
    )
    gated["spec"]["server"]["env"].append({"name": "SSL_CERT_FILE", "value": "/etc/berth-ca/ca.crt"})
    mount = {"name": "ca", "mountPath": "/etc/berth-ca", "readOnly": True}
    gated["spec"]["podTemplate"] = {
        "spec": {
            "containers": [{"name": "server", "volumeMounts": [mount]}],
            "volumes": [{"name": "ca", "configMap": {"name": "company-ca"}}],
        }
    }
    endpoints.apply(kubectl, namespace, gated)
    missing = eventually(lambda: endpoints.problem(kubectl, namespace, "gated", "TokenMissing"), 120, "TokenMissing")
    assert REPO in missing["message"]

    # The second of the two usual keys; the kubelet resolves it, Berth may not read Secrets.
    kubectl.run("create", "secret", "generic", "hub", "-n", namespace, f"--from-literal=token={TOKEN}")
    gated["spec"]["model"]["secretRef"] = {"name": "hub"}
    endpoints.apply(kubectl, namespace, gated)
    served = eventually(lambda: endpoints.ready(kubectl, namespace, "gated"), START_SECONDS, "Ready with the token")
    assert served["status"]["problems"] == []
    assert served["status"]["model"] == {"revision": hub.commit(REPO)}
    with endpoints.client(kubectl, namespace, "gated") as client:
        prompt = " ".join(PAGE.split(" ")[:12])
        for name in ("gated", REPO):
            body = {"model": name, "prompt": prompt, "max_tokens": 16, "temperature": 0}
            text = client.post("/v1/completions", json=body).json()["choices"][0]["text"]
            assert PAGE.startswith(prompt + text)

    everything = kubectl.run("get", "mep,deploy,pods,events", "-n", namespace, "-o", "yaml")
    pod = endpoints.pods(kubectl, namespace, "gated")[0]["metadata"]["name"]
    assert TOKEN not in everything + kubectl.run("logs", pod, "-n", namespace, "--all-containers")


def test_two_pods_share_one_download_and_a_watch_shows_every_step(
    kubectl: Kubectl, namespace: str, hub: Hub, tmp_path: Path
) -> None:
    """The claim is a directory of the node that the servers' uid may write, as a provisioner would make it."""
    hub.gated.clear()
    # The test model is too small to be seen on its way, and the hub's library writes 10 MB at a time.
    (hub.root / REPO / "notes.txt").write_bytes(b"n" * 60_000_000)
    hub.faults.bytes_per_second = 3_000_000
    kubectl.claim(volumes.publish(namespace, "weights", {}))
    os.chown(volumes.HOST_DIRECTORY / namespace / "weights", 65532, 65532)
    shared = endpoints.endpoint("shared", model={"source": f"hf://{REPO}"}, replicas=2)
    shared["spec"]["server"]["env"] = [{"name": "HF_ENDPOINT", "value": hub.url}]
    # Both must start at once, also while other endpoints have the node's GPUs.
    shared["spec"]["resources"] = {"requests": {"memory": "1Gi"}, "limits": {"memory": "6Gi"}}
    shared["spec"]["storage"] = {"weights": {"persistentVolumeClaim": {"claimName": "weights"}}}

    log = tmp_path / "watch"
    with log.open("wb") as output:
        watch = kubectl.start("get", "mep", "-n", namespace, "-w", output=output)
        try:
            endpoints.apply(kubectl, namespace, shared)
            served = eventually(lambda: endpoints.ready(kubectl, namespace, "shared"), 2 * START_SECONDS, "Ready")
        finally:
            watch.terminate()
            watch.wait()
    seen = log.read_text()
    assert re.search(r"Downloading \d+ of \d+ MiB, [\d.]+ MiB/s, [\d.]+ (s|min) left", seen), seen
    assert re.search(r"Starting engine|Loading weights|Warming up|Proving", seen), seen
    assert served["status"]["model"] == {"revision": hub.commit(REPO)}

    assert sum(line.endswith("/model.safetensors") and line.startswith("GET /large/") for line in hub.requests) == 1
    assert sum(line.endswith("/notes.txt") and line.startswith("GET ") for line in hub.requests) == 1
    # One pod is enough to be Ready; the other one has its weights, too.
    pods = endpoints.pods(kubectl, namespace, "shared")
    logs = [kubectl.run("logs", pod["metadata"]["name"], "-n", namespace) for pod in pods]
    assert ["StartingEngine" in text for text in logs] == [True, True]
    assert sum("waiting for another pod's download" in text for text in logs) == 1
    kubectl.run("delete", "mep", "shared", "-n", namespace, "--wait=true")
    kubectl.run("delete", "pv", f"{namespace}-weights", "--wait=false")
