"""`make demo`: from a bare machine to a completion of a real vLLM, in steps that can each be done again."""

import json
import subprocess
import sys
import time
from pathlib import Path

import yaml

from local import clients, images, model, node, tools, volumes
from local.errors import LocalError
from local.kubectl import Kubectl, Object, condition
from local.progress import say, step

ROOT = Path(__file__).parent.parent
NAMESPACE = "demo"
SYSTEM_NAMESPACE = "berth-system"
RELEASE = "berth"
EXAMPLE = ROOT / "examples" / "01-quickstart.yaml"
CLAIM = "models"
MODEL_DIRECTORY = "tiny"
READY_SECONDS = 600.0
POLL_SECONDS = 0.5


def run() -> int:
    """Returns 0 after printing `demo: ok`; raises LocalError with what went wrong."""
    node.up()
    kubectl = Kubectl(node.KUBECONFIG)
    trained = model.ensure()
    references = images.ensure(["operator", "server", "gateway", "vllm-cpu"])
    install(kubectl, references)
    endpoint = yaml.safe_load(EXAMPLE.read_text())
    name = endpoint["metadata"]["name"]
    with step(f"applying {EXAMPLE.relative_to(ROOT)} in namespace {NAMESPACE}"):
        kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
        kubectl.claim(volumes.publish(NAMESPACE, CLAIM, {MODEL_DIRECTORY: trained}))
        kubectl.run("apply", "-n", NAMESPACE, "-f", str(EXAMPLE))
    status = wait_ready(kubectl, NAMESPACE, name)
    print(kubectl.run("get", "mep", "-n", NAMESPACE).rstrip(), flush=True)
    complete(status["urls"], name)
    print(
        f"\nLook around: export KUBECONFIG={ROOT}/.local/kubeconfig; kubectl get mep -n {NAMESPACE}   "
        "Remove everything: make down"
    )
    print("demo: ok")
    return 0


def install(kubectl: Kubectl, references: dict[str, str], release: str = RELEASE) -> None:
    """Install or upgrade the chart with the locally built images, and wait until operator and gateway are ready."""
    values = {
        "image.operator": references["operator"],
        "image.payload": references["server"],
        "image.gateway": references["gateway"],
        "image.server": references["vllm-cpu"],
        # The CPU build wants a number of GiB for its KV cache; everything else is as on a GPU.
        "settings.podEnv.VLLM_CPU_KVCACHE_SPACE": "1",
    }
    sets = [word for name, value in values.items() for word in ("--set-string", f"{name}={value}")]
    with step(f"installing the chart as release {release} in namespace {SYSTEM_NAMESPACE}"):
        helm(
            kubectl, "upgrade", "--install", release, str(ROOT / "charts" / "berth"),
            "--namespace", SYSTEM_NAMESPACE, "--create-namespace", "--wait", "--timeout", "3m", *sets,
        )  # fmt: skip


def helm(kubectl: Kubectl, *args: str) -> str:
    """Standard output of `helm args…` on the cluster of `kubectl`; raises LocalError with what it said."""
    program = str(tools.ensure(["helm"])["helm"])
    done = subprocess.run(
        [program, "--kubeconfig", str(kubectl.kubeconfig), *args], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LocalError(f"helm {args[0]} failed: {done.stderr.strip()}")
    return done.stdout


def wait_ready(kubectl: Kubectl, namespace: str, name: str) -> Object:
    """Status of the endpoint once it is Ready for its present generation; says each change of reason on the way."""
    deadline = time.monotonic() + READY_SECONDS
    told = ""
    with step(f"waiting for {name} to be Ready", "about a minute"):
        while True:
            endpoint = kubectl.get("mep", name, "-n", namespace)
            ready = condition(endpoint, "Ready")
            now = f"{ready.get('reason', 'Pending')}: {ready.get('message', 'not seen by the operator yet')}"
            if now != told:
                say(f"  {now}")
                told = now
            generation = endpoint["metadata"]["generation"]
            if ready.get("status") == "True" and ready.get("observedGeneration") == generation:
                status: Object = endpoint["status"]
                return status
            if time.monotonic() > deadline or condition(endpoint, "Stalled"):
                problems = yaml.safe_dump(endpoint.get("status", {}).get("problems"), sort_keys=False)
                raise LocalError(f"{name} is not Ready: {now}\n{problems}")
            time.sleep(POLL_SECONDS)


def complete(urls: dict[str, str], name: str) -> None:
    """Completions through the URLs that status reports, where the cluster's DNS names resolve."""
    clients.ensure_python()
    command = [sys.executable, "-m", "local.completions", json.dumps(urls), name, str(model.PAGE_PATH)]
    done = node.run_with_cluster_dns(command)
    if done:
        raise LocalError("a completion failed, or its text is not what the model memorised (see above)")
