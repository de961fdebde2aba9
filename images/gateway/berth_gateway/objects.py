"""What the gateway reads of the cluster's objects: ModelEndpoints, and the EndpointSlices of their Services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from berth_gateway.claims import Age
from berth_gateway.refusing import ALL

if TYPE_CHECKING:
    from berth_gateway.table import Endpoint

Object = dict[str, Any]

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
BERTH = "berth.dev"
PORT_NAME = "http"

UNKNOWN_TARGET = 8.0
"""Requests in flight that a replica shall have, until the operator has told."""


class Slice(NamedTuple):
    """An EndpointSlice. service: namespace/name.  pods: readiness and name by address."""

    service: str
    pods: dict[tuple[str, int], tuple[bool, str]]
    port: int | None
    owner: str
    age: Age


def names_of(obj: Object) -> tuple[str, ...]:
    """As the engine is told them: the served names or the object's, and the repository of a hf:// source."""
    model = obj["spec"]["model"]
    names = list(dict.fromkeys(model.get("servedNames") or [obj["metadata"]["name"]]))
    scheme, _, repository = model["source"].partition("://")
    if scheme == "hf" and repository not in names:
        names.append(repository)
    return tuple(names)


def describe(endpoint: Endpoint, obj: Object) -> None:
    """What spec and status say."""
    spec, status = obj["spec"], obj.get("status") or {}
    server, scaling, told = spec.get("server") or {}, spec.get("scaling"), status.get("scaling") or {}
    wished = ((scaling or {}).get("target") or {}).get("inFlightPerReplica")
    endpoint.apis = frozenset(server.get("apis") or ALL)
    endpoint.own_keys = bool(server.get("apiKeySecretRef"))
    endpoint.context_tokens = _count((server.get("args") or {}).get("max-model-len"))
    endpoint.sleeps = scaling is not None and scaling.get("min", 1) == 0
    endpoint.target = float(told.get("targetPerReplica") or wished or UNKNOWN_TARGET)
    endpoint.start_seconds = told.get("startSeconds")
    endpoint.wanted = (
        not spec.get("suspend")
        and not obj["metadata"].get("deletionTimestamp")
        and (scaling is not None or spec.get("replicas", 1) != 0)
    )
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    endpoint.waking = _waking(status, conditions)
    stalled = conditions.get("Stalled") or {}
    endpoint.failure = str(stalled.get("message") or "Stalled") if _cannot_start(stalled, obj) else ""


def _cannot_start(stalled: Object, obj: Object) -> bool:
    # What was said of another spec is not held against this one.
    is_current = stalled.get("observedGeneration") in (None, obj["metadata"].get("generation"))
    # Who fights over a field of a child need not keep pods from starting.
    return stalled.get("status") == "True" and is_current and stalled.get("reason") != "Conflicted"


def _waking(status: Object, conditions: dict[str, Object]) -> str:
    ready = conditions.get("Ready") or {}
    text = str(ready.get("message") or "")
    if ready.get("reason") == "Waking" and text.startswith("waking: "):
        # How long it takes is reckoned for each who waits.
        return text.removeprefix("waking: ").partition("; a start takes")[0]
    return str((status.get("progress") or {}).get("message") or "")


def _count(value: Any) -> int | None:
    """A number of tokens as flags take it, where it is no more than a number."""
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else None


def slice_of(obj: Object) -> Slice | None:
    """An EndpointSlice; None when it is somebody else's."""
    metadata, labels = obj["metadata"], obj["metadata"].get("labels") or {}
    service, manager = labels.get(SERVICE_LABEL), labels.get(MANAGED_BY_LABEL)
    ports = [each.get("port") for each in obj.get("ports") or () if each.get("name") == PORT_NAME]
    if not service or not ports or ports[0] is None or manager not in (CONTROLLER, BERTH):
        return None
    key, port = f"{metadata['namespace']}/{service}", int(ports[0])
    age = (metadata.get("creationTimestamp") or "", metadata["namespace"], metadata["name"])
    if manager == BERTH:
        owners = metadata.get("ownerReferences") or ()
        owner = next((each["uid"] for each in owners if each["kind"] == "ModelEndpoint"), "")
        return Slice(key, {}, port, owner, age)
    return Slice(key, _pods(obj, port), None, "", age)


def _pods(obj: Object, port: int) -> dict[tuple[str, int], tuple[bool, str]]:
    """Of the controller's slice. Its addresses of one endpoint are fungible: the first is used."""
    found = {}
    for each in obj.get("endpoints") or ():
        conditions = each.get("conditions") or {}
        if each.get("addresses") and not conditions.get("terminating"):
            name = (each.get("targetRef") or {}).get("name") or ""
            found[each["addresses"][0], port] = (conditions.get("ready") is not False, name)
    return found
