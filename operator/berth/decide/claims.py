"""The names under which the gateway serves an endpoint, and which of them are without effect. Pure."""

from collections.abc import Mapping
from typing import Any

from berth.api.names import Key
from berth.api.spec import Endpoint

Object = dict[str, Any]
HUB = "hf://"


def claimed(body: Object) -> tuple[str, ...]:
    """Names that a ModelEndpoint, as the API server has it, wants to be served under."""
    model = (body.get("spec") or {}).get("model") or {}
    names = [str(name) for name in model.get("servedNames") or [body["metadata"]["name"]]]
    source = str(model.get("source", ""))
    if source.startswith(HUB):
        names.append(source.removeprefix(HUB))
    return tuple(dict.fromkeys(names))


def without_effect(ep: Endpoint, holders: Mapping[str, Key]) -> list[dict[str, str]]:
    """Entries of `status.ignored`. holders: of each claimed name that is held by an older endpoint, which one."""
    return [
        {"field": _field(ep, name), "why": _why(ep, name, holders[name])} for name in ep.served_names if name in holders
    ]


def _field(ep: Endpoint, name: str) -> str:
    if name in ep.spec.model.served_names:
        return f"spec.model.servedNames[{name}]"
    return "metadata.name" if name == ep.name else "spec.model.source"


def _why(ep: Endpoint, name: str, holder: Key) -> str:
    return (
        f"through the gateway {name} is {holder}, which is older and holds that name; this endpoint is reachable "
        f"there as {ep.namespace}/{ep.name}"
    )
