"""Progress of a start on the object, and how often it is written.

A server on a loopback address of its own plays the launcher; the node tier has the real one. Input: its answers and
pod events. Output: status, and the API server's own count of the operator's writes.
"""

import re
import time
import urllib.request

from local.kubectl import Kubectl, condition
from tests.apiserver.endpoints import Calls, endpoint, only_pod, patch_pod_status, status, waits_for_pods
from tests.apiserver.launcher import COMMIT, GIB, Launcher
from tests.apiserver.operators import Operator
from tests.waiting import eventually


def runs(kubectl: Kubectl, namespace: str, address: str, note: str = "", ready: bool = False) -> None:
    """What a kubelet reports of a pod whose server runs. note: makes it another report than the last one."""
    running = {
        "name": "server",
        "image": "i",
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": {"running": {}},
    }
    new = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            {"type": "ContainersReady", "status": str(ready), "message": note},
            {"type": "Ready", "status": str(ready)},
        ],
        "containerStatuses": [running],
    }
    patch_pod_status(kubectl, namespace, only_pod(kubectl, namespace), new)


def passes(operator: Operator) -> float:
    """How often the operator has reconciled, by its own metrics."""
    port = operator.events("listening")[-1]["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return sum(float(count) for count in re.findall(r"^berth_reconciles_total{.*} (\S+)$", text, re.MULTILINE))


def test_the_launchers_phase_and_commit_are_on_the_object(kubectl: Kubectl, namespace: str, operator: Operator) -> None:
    kubectl.apply([endpoint(namespace, model={"source": "hf://org/name"})])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    with Launcher("127.0.47.11") as launcher:
        launcher.downloads(GIB)
        runs(kubectl, namespace, "127.0.47.11")
        eventually(lambda: "progress" in status(kubectl, namespace), 20, "progress")
    found = status(kubectl, namespace)
    text = "Downloading 1.0 of 4.0 GiB, 120 MiB/s, 26 s left"
    assert found["progress"] == {"phase": "Downloading", "message": text}
    assert found["problems"][0]["message"] == text
    assert found["engine"]["version"] == "0.32.0"
    assert found["model"] == {"revision": COMMIT}
    assert text in kubectl.run("get", "mep", "demo", "-n", namespace)


def test_progress_alone_is_written_at_most_every_ten_seconds_whatever_else_happens(
    kubectl: Kubectl, namespace: str, operator: Operator, calls: Calls
) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 20, "the endpoint waits for its pods")
    address = "127.0.47.12"
    with Launcher(address) as launcher:
        launcher.downloads(0)
        runs(kubectl, namespace, address)
        eventually(lambda: "progress" in status(kubectl, namespace), 20, "progress")
        begun, wrote = time.monotonic(), calls(namespace)[("patch", "modelendpoints/status")]
        asked, reconciled = launcher.asked, passes(operator)
        events = 0
        while time.monotonic() - begun < 33:
            # Each event makes a pass, and at each of them the download has come further.
            launcher.downloads(int((time.monotonic() - begun) * 100 * 2**20))
            runs(kubectl, namespace, address, note=str(events))
            events += 1
            time.sleep(0.5)
        seconds = time.monotonic() - begun
        written = calls(namespace)[("patch", "modelendpoints/status")] - wrote
        assert passes(operator) - reconciled > 20, "there were too few passes to show anything"
        assert 2 <= written <= seconds // 10, f"{written} writes in {seconds:.0f} s"
        assert launcher.asked - asked <= seconds // 10

        # What is no mere progress is told at once, and then there is none.
        asked = launcher.asked
        runs(kubectl, namespace, address, ready=True)
        eventually(lambda: condition({"status": status(kubectl, namespace)}, "Ready")["status"] == "True", 20, "Ready")
        assert "progress" not in status(kubectl, namespace)
        assert launcher.asked == asked
