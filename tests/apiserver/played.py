"""A node and a gateway that a test plays, at this machine's own address: EndpointSlices refuse those of the loopback.

The node tier has the real ones.
"""

import contextlib
import json
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any, Self

from berth.process import utc_now
from local.kubectl import Kubectl
from tests.apiserver.json_handler import json_handler

Object = dict[str, Any]

NODE = "played"
RENEW_SECONDS = 10.0
ADMIN_PORT = 9090


def own_address() -> str:
    """An address of this machine that is not of the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect(("198.51.100.1", 9))  # sends nothing: only the route is looked up
        return str(asked.getsockname()[0])


@contextlib.contextmanager
def node(kubectl: Kubectl) -> Iterator[None]:
    """A node that reports, so that pods can be bound to it and be in Services."""
    kubectl.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}])
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": utc_now()}]
    patch = json.dumps({"status": {"conditions": conditions}})
    kubectl.run("patch", "node", NODE, "--subresource=status", "--type=merge", f"--patch={patch}")
    ended = threading.Event()

    def renew() -> None:
        while not ended.is_set():
            spec = {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": utc_now("microseconds")}
            meta = {"name": NODE, "namespace": "kube-node-lease"}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
            kubectl.apply([lease])
            ended.wait(RENEW_SECONDS)

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    yield
    ended.set()
    renewing.join()


def bind(kubectl: Kubectl, namespace: str, pod: str) -> None:
    """What a scheduler does."""
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod, "namespace": namespace},
        "target": {"kind": "Node", "name": NODE},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/binding"
    kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))


class Gateway:
    """/demand of a gateway's pod; a context manager. asked: how often."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked = 0
        self._told: dict[str, Object] = {}
        self._version = 1
        self._changed = threading.Condition()
        self._ended = False
        self._server = ThreadingHTTPServer((address, 0), json_handler(self._answer))
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> Object | None:
        self.asked += 1
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
        after = int(query.get("after", ["0"])[0])
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._version != after, 10)
            return {"v": 1, "version": self._version, "pod": "gateway", "endpoints": dict(self._told)}

    def holds(self, uid: str, requests: int, ended: int = 0) -> None:
        """So many requests of an endpoint wait here, and so many have ended."""
        with self._changed:
            self._told[uid] = {"held": requests, "in_flight": 0, "requests": ended}
            self._version += 1
            self._changed.notify_all()


class GatewayService:
    """The Service of the gateway and its EndpointSlice, in one namespace. name: namespace/name."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._meta = {"name": "gateways", "namespace": namespace}
        self.name = f"{namespace}/gateways"
        spec = {"clusterIP": "None", "ports": [{"name": "admin", "port": ADMIN_PORT}]}
        kubectl.apply([{"apiVersion": "v1", "kind": "Service", "metadata": self._meta, "spec": spec}])

    def has(self, port: int, *addresses: str, leaving: tuple[str, ...] = ()) -> None:
        """Pods at these addresses are ready, or leave."""
        labels = {"kubernetes.io/service-name": "gateways", "endpointslice.kubernetes.io/managed-by": "test"}
        ready = {"ready": True, "serving": True, "terminating": False}
        goes = {"ready": False, "serving": True, "terminating": True}
        found = [(address, ready) for address in addresses] + [(address, goes) for address in leaving]
        endpoints = [
            {
                "addresses": [address],
                "conditions": conditions,
                "targetRef": {"kind": "Pod", "name": f"gateway-{address}", "namespace": self._meta["namespace"]},
            }
            for address, conditions in found
        ]
        self._kubectl.apply(
            [
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {**self._meta, "labels": labels},
                    "addressType": "IPv4",
                    "ports": [{"name": "admin", "port": port, "protocol": "TCP"}],
                    "endpoints": endpoints,
                }
            ]
        )
