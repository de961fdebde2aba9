"""Somebody who sets a field of a child back, again and again: Berth says who, and stops.

In: a real mutating webhook (an HTTPS server of this test), and a writer that undoes each of our writes.
Out: writes counted in the audit log.  Not mocked: anything.
"""

import base64
import contextlib
import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.kubectl import Kubectl, condition
from local.pki import Authority
from tests.apiserver.endpoints import Calls, endpoint, status, waits_for_pods, writes
from tests.waiting import eventually

Object = dict[str, Any]

HISTORY = [{"op": "replace", "path": "/spec/revisionHistoryLimit", "value": 7}]


class Webhook(http.server.BaseHTTPRequestHandler):
    """Sets revisionHistoryLimit of every Deployment that it is asked about."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        patch = base64.b64encode(json.dumps(HISTORY).encode()).decode()
        answer = {"uid": review["request"]["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
        body = json.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def webhook(kubectl: Kubectl, namespace: str, directory: Path) -> Iterator[None]:
    """The webhook, in force for the Deployments that Berth applies in one namespace."""
    authority = Authority(directory / "webhook-ca")
    pair = authority.issue(directory / "webhook", "webhook", hosts=["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        configuration = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": namespace},
            "webhooks": [
                {
                    "name": "history.example.com",
                    "clientConfig": {
                        "url": f"https://127.0.0.1:{server.server_port}/",
                        "caBundle": base64.b64encode(authority.pair.certificate.read_bytes()).decode(),
                    },
                    "rules": [
                        {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"],
                         "operations": ["CREATE", "UPDATE"]}
                    ],
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                }
            ],
        }  # fmt: skip
        kubectl.apply([configuration])
        try:
            yield
        finally:
            kubectl.run("delete", "mutatingwebhookconfiguration", namespace)
            server.shutdown()


def problem(kubectl: Kubectl, namespace: str) -> Object:
    """The problem Conflicted, or nothing."""
    found = status(kubectl, namespace).get("problems") or []
    return next((item for item in found if item["reason"] == "Conflicted"), {})


def test_a_webhook_that_rewrites_a_field_is_asked_twice_and_named(
    kubectl: Kubectl, namespace: str, operator: Any, calls: Calls, tmp_path: Path
) -> None:
    def applies() -> int:
        return writes(calls(namespace))["patch", "deployments"]

    with webhook(kubectl, namespace, tmp_path):
        kubectl.apply([endpoint(namespace)])
        eventually(lambda: problem(kubectl, namespace), 30, "Conflicted")
        assert applies() == 2
        told = problem(kubectl, namespace)
        assert "Deployment demo: spec.revisionHistoryLimit is not what this endpoint says" in told["message"]
        assert "an admission webhook or policy sets it" in told["message"]
        assert told["suggestion"]
        kubectl.run("annotate", "deployment", "demo", "-n", namespace, "example.com/wake=up")
        time.sleep(3)  # that nothing is written is what is tested
        assert applies() == 2
        kubectl.apply([endpoint(namespace, server={"args": {"seed": 1}})])
        eventually(lambda: "--seed" in status(kubectl, namespace)["engine"]["command"], 30, "a change still arrives")
        eventually(lambda: waits_for_pods(kubectl, namespace), 30, "what the pods wait for is said first")
        # A change while no pod serves is two intents, the first of which lets the old pod go: each is tried twice.
        eventually(lambda: applies() == 6, 30, "both are tried")
        time.sleep(3)  # that nothing is written is what is tested
        assert applies() == 6
    kubectl.apply([endpoint(namespace, server={"args": {"seed": 2}})])
    eventually(lambda: not problem(kubectl, namespace), 30, "without the webhook the conflict is over")
    assert kubectl.get("deployment", "demo", "-n", namespace)["spec"]["revisionHistoryLimit"] == 3


def test_a_writer_that_undoes_every_write_is_left_alone_and_named(
    kubectl: Kubectl, namespace: str, operator: Any, calls: Calls
) -> None:
    kubectl.apply([endpoint(namespace)])
    eventually(lambda: waits_for_pods(kubectl, namespace), 30, "the endpoint waits for its pods")
    before = writes(calls(namespace))["patch", "poddisruptionbudgets"]
    undone = 0

    def meddle(allowed: int) -> None:
        """What a controller with another opinion does."""
        wish = json.dumps({"spec": {"maxUnavailable": allowed}})
        kubectl.run("patch", "pdb", "demo", "-n", namespace, "--type=merge", "-p", wish, "--field-manager=meddler")

    def undo() -> bool:
        nonlocal undone
        if kubectl.get("pdb", "demo", "-n", namespace)["spec"]["maxUnavailable"] == 1:
            meddle(3)
            undone += 1
        return bool(problem(kubectl, namespace))

    eventually(undo, 60, "Conflicted")
    assert undone == 6  # five are written back, the sixth stays
    assert writes(calls(namespace))["patch", "poddisruptionbudgets"] - before == 5
    told = condition({"status": status(kubectl, namespace)}, "Ready")
    assert (told["status"], told["reason"]) == ("False", "Conflicted")
    assert "PodDisruptionBudget demo: spec.maxUnavailable" in told["message"]
    assert "meddler sets it" in told["message"]
    kubectl.run("annotate", "pdb", "demo", "-n", namespace, "example.com/wake=up")
    time.sleep(3)  # that nothing is written is what is tested
    assert writes(calls(namespace))["patch", "poddisruptionbudgets"] - before == 5
    meddle(1)
    eventually(lambda: not problem(kubectl, namespace), 30, "with the value back, the conflict is over at once")
