"""`make demo` from the outside: what it prints, that it can be repeated, and what it leaves."""

import subprocess
import time
from pathlib import Path

from local.completions import CLIENTS
from local.demo import NAMESPACE
from local.kubectl import Kubectl
from tests.node import endpoints

ROOT = Path(__file__).parents[2]
NAME = "quickstart"


def test_demo_prints_completions_of_each_api_and_ends_with_ok(demo: str) -> None:
    assert demo.rstrip().splitlines()[-1] == "demo: ok"
    asked = [line.partition(":")[0] for line in demo.splitlines() if " python examples/clients/" in line]
    assert asked == list(CLIENTS)
    assert demo.count("both are the page's text") == len(CLIENTS)


def test_a_second_run_from_another_directory_changes_nothing_and_restarts_no_pod(kubectl: Kubectl) -> None:
    before = endpoints.pods(kubectl, NAMESPACE, NAME)
    done = subprocess.run(["make", "-C", str(ROOT), "demo"], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "demo: ok" in done.stdout
    after = endpoints.pods(kubectl, NAMESPACE, NAME)
    assert [pod["metadata"]["uid"] for pod in after] == [pod["metadata"]["uid"] for pod in before]


def test_status_says_where_and_what_is_served(kubectl: Kubectl) -> None:
    found = kubectl.get("mep", NAME, "-n", NAMESPACE)
    status = found["status"]
    assert status["url"] == f"http://{NAME}.{NAMESPACE}.svc.cluster.local"
    assert status["urls"] == {
        "OpenAI": f"{status['url']}/v1",
        "LLMEngine": f"{status['url']}/llm-engine/",
        "ScaleEGP": f"{status['url']}/egp",
        "AlephAlpha": f"{status['url']}/aleph-alpha",
    }
    assert (status["replicas"], status["readyReplicas"]) == (1, 1)
    assert status["engine"]["version"].startswith("0.32.0")
    assert status["engine"]["command"][:2] == ["vllm", "serve"]
    assert status["problems"] == []
    told = {item["type"]: item["status"] for item in status["conditions"]}
    assert told == {"Ready": "True", "Accepted": "True", "Available": "True", "Progressing": "False"}


def test_the_plugin_answers_beside_vllms_own_api(kubectl: Kubectl) -> None:
    with endpoints.client(kubectl, NAMESPACE, NAME) as client:
        info = client.get("/berth/info").json()
        assert info["vllm"].startswith("0.32.0")
        assert sorted(info["apis"]) == sorted(CLIENTS)
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [NAME]


def test_kubectl_logs_show_vllms_own_output(kubectl: Kubectl) -> None:
    pod = endpoints.pods(kubectl, NAMESPACE, NAME)[0]["metadata"]["name"]
    assert "Application startup complete" in kubectl.run("logs", pod, "-n", NAMESPACE, "-c", "server")


def test_status_of_the_endpoint_is_not_written_while_nothing_happens(kubectl: Kubectl) -> None:
    version = kubectl.get("mep", NAME, "-n", NAMESPACE)["metadata"]["resourceVersion"]
    time.sleep(20)  # that nothing is written meanwhile is what is tested
    assert kubectl.get("mep", NAME, "-n", NAMESPACE)["metadata"]["resourceVersion"] == version
