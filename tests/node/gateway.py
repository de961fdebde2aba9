"""The gateway on the node, as the tests ask and disturb it: its address, its pods, keys for it, and raw requests."""

import base64
import hashlib
import re
import secrets
import socket
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from local.demo import RELEASE, SYSTEM_NAMESPACE
from local.kubectl import Kubectl, condition
from tests.waiting import eventually

Object = dict[str, Any]
NAME = f"{RELEASE}-gateway"
PORT, ADMIN_PORT = 8080, 9090
KNOWN_SECONDS = 30.0
"""For a Secret to be known to every gateway. It is a matter of a second; the rest is for a crowded machine."""
OPERATORS = f"app.kubernetes.io/name=berth,app.kubernetes.io/instance={RELEASE}"
GATEWAYS = f"app.kubernetes.io/name=berth-gateway,app.kubernetes.io/instance={RELEASE}"


def url(kubectl: Kubectl) -> str:
    """Of the gateway's Service, by its cluster IP."""
    address = kubectl.get("service", NAME, "-n", SYSTEM_NAMESPACE)["spec"]["clusterIP"]
    return f"http://{address}"


def pods(kubectl: Kubectl, selector: str = GATEWAYS) -> list[Object]:
    """Pods of the gateway, or of the operator, that are not on their way out."""
    found = kubectl.get("pods", "-n", SYSTEM_NAMESPACE, "-l", selector)["items"]
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def addresses(kubectl: Kubectl) -> list[str]:
    """Of the gateway's pods."""
    return [pod["status"]["podIP"] for pod in pods(kubectl)]


def until_all_ready(kubectl: Kubectl, selector: str, count: int, without: set[str], seconds: float) -> None:
    """So many pods, all ready, none of those that were there before, by name, and these gone altogether."""

    def ready() -> bool:
        found = kubectl.get("pods", "-n", SYSTEM_NAMESPACE, "-l", selector)["items"]
        names = {pod["metadata"]["name"] for pod in found}
        all_ready = all(condition(pod, "Ready").get("status") == "True" for pod in found)
        return len(found) == count and all_ready and not names & without

    eventually(ready, seconds, f"{count} ready pods of {selector}")


def secret(name: str, keys: Iterable[str], owner: str, namespaces: str, models: str = "*") -> Object:
    """The Secret of a caller's keys, which has their digests alone."""
    digests = "\n".join(hashlib.sha256(key.encode()).hexdigest() for key in keys)
    texts = {"sha256": digests, "owner": owner, "namespaces": namespaces, "models": models}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE, "labels": {"berth.dev/gateway-key": "true"}},
        "data": {entry: base64.b64encode(text.encode()).decode() for entry, text in texts.items()},
    }


@contextmanager
def key(kubectl: Kubectl, namespaces: str, models: str = "*", value: str = "") -> Iterator[str]:
    """A caller's key, known to every gateway. namespaces, models: what it may use.  value: the key; else a new one."""
    value = value or secrets.token_hex(32)
    name = f"test-key-{uuid.uuid4().hex[:6]}"
    kubectl.apply([secret(name, [value], name, namespaces, models)])
    try:
        until_known(kubectl, value, True)
        yield value
    finally:
        kubectl.run("delete", "secret", name, "-n", SYSTEM_NAMESPACE, "--ignore-not-found")


def until_known(kubectl: Kubectl, value: str, known: bool) -> None:
    """Every gateway admits this key, or none does."""
    statuses = lambda: {lists(f"http://{address}:{PORT}", value)[0] for address in addresses(kubectl)}  # noqa: E731
    eventually(lambda: statuses() == {200 if known else 401}, KNOWN_SECONDS, "the gateways know of the Secret")


def lists(base: str, key: str, path: str = "/v1/models") -> tuple[int, Any]:
    """Status and body of a list of models."""
    response = httpx.get(f"{base}{path}", headers={"x-api-key": key}, timeout=30, trust_env=False)
    return response.status_code, response.json()


def requests_for(kubectl: Kubectl, namespace: str, name: str) -> float:
    """Requests for this endpoint that the gateways have ended, whatever became of them."""
    total = 0.0
    for address in addresses(kubectl):
        text = httpx.get(f"http://{address}:{ADMIN_PORT}/metrics", timeout=30, trust_env=False).text
        total += summed(text, "berth_gateway_requests_total", namespace=namespace, endpoint=name)
    return total


def summed(metrics: str, name: str, **labels: str) -> float:
    """The sum of the series of a metric that have these labels, in Prometheus' text form."""
    found = 0.0
    for line in metrics.splitlines():
        series = re.fullmatch(rf"{re.escape(name)}(?:\{{(.*)\}})? (\S+)", line)
        if series is None:
            continue
        has = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', series[1] or ""))
        if labels.items() <= has.items():
            found += float(series[2])
    return found


def exchange(address: str, port: int, data: bytes, timeout_seconds: float = 120.0) -> tuple[list[int], str]:
    """Sends these bytes; the statuses of all answers, and everything that came until the gateway closed."""
    with socket.create_connection((address, port), timeout=timeout_seconds) as connection:
        connection.sendall(data)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) [A-Z]", received)], received.decode()
