"""What EndpointSlices say: which pods of a Service take requests, and where. Pure."""

from collections.abc import Collection, Iterable
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


def told_at(slices: Iterable[Object], port_name: str, asked: Collection[str] = ()) -> dict[str, bool]:
    """`host:port` of every pod that still answers, the leaving ones too, and whether it is ready.

    asked: so far. One of these that is not ready for a moment keeps what it has; one that has never been is starting.
    Of a pod with addresses of two families the first one is enough.
    """
    found: dict[str, dict[str, bool]] = {}
    for each in slices:
        port = next((item["port"] for item in each.get("ports") or [] if item.get("name") == port_name), None)
        for endpoint in (each["endpoints"] or []) if port else []:
            host = endpoint["addresses"][0]
            name = (endpoint.get("targetRef") or {}).get("name", host)
            conditions = endpoint.get("conditions") or {}
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            if _ready(endpoint) or conditions.get("terminating") or where in asked:
                found.setdefault(name, {})[where] = _ready(endpoint)
    return {where: ready for addresses in found.values() for where, ready in sorted(addresses.items())[:1]}


def _ready(endpoint: Object) -> bool:
    """Not said is ready: discovery.k8s.io/v1, EndpointConditions."""
    conditions = endpoint.get("conditions") or {}
    return conditions.get("ready") is not False and not conditions.get("terminating")


def family(slices: Iterable[Object], own: Object | None) -> str | None:
    """Address family of Berth's own slice of a Service: one that the controller's slices have.

    None while there is none of these to tell, and when `own` has another one: as that never changes, it has to go.
    """
    found = sorted({str(each["addressType"]) for each in slices if is_controllers(each)})
    if own is None:
        return found[0] if found else None
    kind = str(own["addressType"])
    return kind if kind in found or not found else None
