"""Endpoints on the node, as the tests ask about them."""

import ipaddress
from typing import Any

import httpx
import yaml

from local.demo import EXAMPLE
from local.kubectl import Kubectl, condition

Object = dict[str, Any]


def endpoint(name: str, **spec: Any) -> Object:
    """The first example under another name, with some fields of its spec replaced."""
    example: Object = yaml.safe_load(EXAMPLE.read_text())
    return {**example, "metadata": {"name": name}, "spec": {**example["spec"], **spec}}


def apply(kubectl: Kubectl, namespace: str, obj: Object) -> None:
    """Apply one endpoint in a namespace."""
    kubectl.apply([{**obj, "metadata": {**obj["metadata"], "namespace": namespace}}])


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
