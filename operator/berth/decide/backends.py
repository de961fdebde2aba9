"""What EndpointSlices say: which pods of a Service take requests, and where. Pure."""

from collections.abc import Iterable
from typing import Any

from berth.api import names

Object = dict[str, Any]


def is_controllers(obj: Object) -> bool:
    """Whether Kubernetes keeps this slice, from the Service's selector."""
    return bool((obj["metadata"].get("labels") or {}).get(names.SLICE_MANAGER_LABEL) == names.SLICE_CONTROLLER)


def takes_requests(slices: Iterable[Object]) -> bool:
    """Whether a pod is ready in one of the controller's slices."""
    return any(_ready(endpoint) for found in slices if is_controllers(found) for endpoint in found["endpoints"] or [])


def addresses(found: Object | None) -> tuple[str, ...]:
    """Addresses of a slice's pods that take requests."""
    given = ((found or {}).get("endpoints") or []) if found else []
    return tuple(sorted({address for endpoint in given if _ready(endpoint) for address in endpoint["addresses"]}))


def told_at(slices: Iterable[Object], port_name: str) -> dict[str, bool]:
    """`host:port` of every pod that still answers, the leaving ones too, and whether it is ready.

    Of a pod with addresses of two families the first one is enough.
    """
    found: dict[str, dict[str, bool]] = {}
    for each in slices:
        port = next((item["port"] for item in each.get("ports") or [] if item.get("name") == port_name), None)
        for endpoint in (each["endpoints"] or []) if port else []:
            host = endpoint["addresses"][0]
            name = (endpoint.get("targetRef") or {}).get("name", host)
            conditions = endpoint.get("conditions") or {}
            if _ready(endpoint) or conditions.get("terminating"):
                where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                found.setdefault(name, {})[where] = _ready(endpoint)
    return {where: ready for addresses in found.values() for where, ready in sorted(addresses.items())[:1]}


def _ready(endpoint: Object) -> bool:
    """Not said is ready: discovery.k8s.io/v1, EndpointConditions."""
    conditions = endpoint.get("conditions") or {}
    return conditions.get("ready") is not False and not conditions.get("terminating")


def family(slices: Iterable[Object]) -> str:
    """Address family of a Service, as the controller's slices have it."""
    return next((str(found["addressType"]) for found in slices if is_controllers(found)), "IPv4")
