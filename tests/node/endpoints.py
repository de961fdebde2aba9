"""Endpoints on the node, as the tests ask about them."""

import ipaddress
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from local import model, volumes
from local.demo import CLAIM, EXAMPLE, MODEL_DIRECTORY
from local.kubectl import Kubectl, condition
from tests.waiting import eventually

Object = dict[str, Any]
READY_SECONDS = 600
UID = 65532
"""Of the servers, by the chart's settings.runAsUser."""


@contextmanager
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A new one with restricted Pod Security and the test model; gone, and seen to be gone, afterwards."""
    name = f"node-{uuid.uuid4().hex[:6]}"
    restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": restricted}}])
    try:
        kubectl.claim(volumes.publish(name, CLAIM, {MODEL_DIRECTORY: model.ensure()}))
        yield name
    finally:
        # With pods in it, a namespace is looked at again only after half of their grace period.
        kubectl.try_run("delete", "modelendpoints", "--all", "-n", name)
        eventually(lambda: _without_pods(kubectl, name), 240, "the endpoints' pods are gone")
        kubectl.run("delete", "namespace", name, "--wait=true", timeout_seconds=240)
        kubectl.run("delete", "pv", f"{name}-{CLAIM}", "--ignore-not-found")


def _without_pods(kubectl: Kubectl, namespace: str) -> bool:
    """Whether all pods of endpoints are gone; they are told to be quick, as nobody needs their answers any more."""
    of_endpoints = ("pods", "-n", namespace, "-l", "berth.dev/endpoint")
    if not kubectl.get(*of_endpoints)["items"]:
        return True
    kubectl.try_run("delete", *of_endpoints, "--grace-period=1", "--wait=false")
    return False


@contextmanager
def engine_cache(kubectl: Kubectl, namespace: str, claim: str) -> Iterator[Path]:
    """An empty claim that the servers' user may write, as a provisioner would make it; the directory behind it."""
    directory = volumes.HOST_DIRECTORY / namespace / claim
    try:
        kubectl.claim(volumes.publish(namespace, claim, {}))
        os.chown(directory, UID, UID)
        yield directory
    finally:
        kubectl.run("delete", "pv", f"{namespace}-{claim}", "--ignore-not-found", "--wait=false")


def written(directory: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every file there: what was only read stays the same."""
    found = {path: path.stat() for path in directory.rglob("*") if path.is_file()}
    return {str(path.relative_to(directory)): (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}


def endpoint(name: str, **spec: Any) -> Object:
    """The first example under another name, with some fields of its spec replaced."""
    example: Object = yaml.safe_load(EXAMPLE.read_text())
    return {**example, "metadata": {"name": name}, "spec": {**example["spec"], **spec}}


def apply(kubectl: Kubectl, namespace: str, obj: Object) -> None:
    """Apply one object in a namespace."""
    kubectl.apply([{**obj, "metadata": {**obj["metadata"], "namespace": namespace}}])


def serve_with_key(kubectl: Kubectl, namespace: str, name: str, key: str, names: Sequence[str], **server: Any) -> None:
    """Apply an endpoint that wants a key, with these served names, and wait until it is Ready.

    server: more of spec.server.
    """
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{name}-keys"}, "stringData": {"one": key}}
    apply(kubectl, namespace, secret)
    served = endpoint(name)
    served["spec"]["model"]["servedNames"] = list(names)
    served["spec"]["server"] |= {"apiKeySecretRef": {"name": f"{name}-keys"}, **server}
    apply(kubectl, namespace, served)
    eventually(lambda: ready(kubectl, namespace, name), READY_SECONDS, f"{name} is Ready")


def problem(kubectl: Kubectl, namespace: str, name: str, reason: str) -> Object | None:
    """The problem of that reason in status, if it is there."""
    found = kubectl.get("mep", name, "-n", namespace).get("status", {}).get("problems") or []
    return next((item for item in found if item["reason"] == reason), None)


def ready(kubectl: Kubectl, namespace: str, name: str) -> Object | None:
    """The endpoint, if it is Ready for its present generation."""
    found = kubectl.get("mep", name, "-n", namespace)
    told = condition(found, "Ready")
    current = told.get("observedGeneration") == found["metadata"]["generation"]
    return found if told.get("status") == "True" and current else None


def pods(kubectl: Kubectl, namespace: str, name: str) -> list[Object]:
    """Pods of an endpoint."""
    found: list[Object] = kubectl.get("pods", "-n", namespace, "-l", f"berth.dev/endpoint={name}")["items"]
    return found


def client(kubectl: Kubectl, namespace: str, name: str) -> httpx.Client:
    """A client of the endpoint's Service, by its cluster IP."""
    address = kubectl.get("service", name, "-n", namespace)["spec"]["clusterIP"]
    assert ipaddress.ip_address(address)
    return httpx.Client(base_url=f"http://{address}", timeout=120, trust_env=False)
