"""Progress of a start on the object, and how often it is written.

A server on a loopback address of its own plays the launcher; the node tier has the real one. Input: its answers and
pod events. Output: status, and the API server's own count of the operator's writes.
"""

import http.server
import json
import re
import threading
import time
import urllib.request
from typing import Any, Self

from local.kubectl import Kubectl, condition
from tests.apiserver.endpoints import Calls, endpoint, only_pod, patch_pod_status, status, waits_for_pods
from tests.apiserver.operators import Operator
from tests.waiting import eventually

GIB = 2**30
COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"


class Launcher:
    """A launcher on `address`; a context manager. told: its answer, which the test changes.  asked: how often."""

    def __init__(self, address: str) -> None:
        self.told: dict[str, Any] = {"v": 1, "phase": "Preparing", "engine": {"version": "0.32.0"}}
        self.asked = 0
        launcher = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                launcher.asked += 1
                body = json.dumps(launcher.told).encode()
                self.send_response(200 if self.path == "/progress" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer((address, 8001), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def downloads(self, done_bytes: int) -> None:
        """Its next answers."""
        rate = 120 * 2**20
        self.told |= {"phase": "Downloading", "bytes": done_bytes, "total": 4 * GIB, "revision": COMMIT}
        self.told |= {"bytes_per_second": rate, "seconds_left": (4 * GIB - done_bytes) / rate}


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
            {"type": "Initialized", "status": "True", "message": note},
            {"type": "ContainersReady", "status": str(ready)},
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
