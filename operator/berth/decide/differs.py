"""Does a live object differ from what Berth wants it to be? Only fields that Berth sends count."""

from typing import Any

from berth.api.quantity import parse_quantity
from berth.desired.merge import MERGE_KEYS, item_key

_QUANTITY_MAPS = frozenset({"limits", "requests"})
_QUANTITIES = frozenset({"sizeLimit", "divisor"})
# Absent is true for these: the API server keeps a false, so one that is gone was taken out by somebody.
_NOT_FALSE_BY_DEFAULT = frozenset({"automountServiceAccountToken", "enableServiceLinks", "allowPrivilegeEscalation"})
# By path, where an object outside the pod template has the name of a list in it, or a list of its own.
_KEYS = {"spec.ports": ("port", "protocol"), "ports": ("name",), "metadata.ownerReferences": ("uid",)}


def differs(wanted: Any, live: Any, field: str = "") -> str | None:
    """Path of the first field where `live` is not what `wanted` says, or None.

    What others add stays. Empty values count as absent, as the API server drops them; quantities are compared by
    value (it writes 1000m as 1). Keyed lists are compared by their merge keys, in any order.
    """
    if wanted == live:
        return None
    if isinstance(wanted, dict):
        return _mapping(wanted, live if isinstance(live, dict) else {}, field)
    if isinstance(wanted, list):
        return _list(wanted, live if isinstance(live, list) else [], field)
    if _empty(wanted) and _empty(live) and field.rsplit(".", 1)[-1] not in _NOT_FALSE_BY_DEFAULT:
        return None
    return field or "."


def _mapping(wanted: dict[str, Any], live: dict[str, Any], field: str) -> str | None:
    for name, value in wanted.items():
        path = f"{field}.{name}" if field else name
        if field.rsplit(".", 1)[-1] in _QUANTITY_MAPS or name in _QUANTITIES:
            if parse_quantity(value) != parse_quantity(live.get(name)):
                return path
        elif found := differs(value, live.get(name), path):
            return found
    return None


def _list(wanted: list[Any], live: list[Any], field: str) -> str | None:
    keys = _KEYS.get(field) or MERGE_KEYS.get(field.rsplit(".", 1)[-1])
    if keys is None:
        if len(wanted) != len(live):
            return field
        pairs = list(zip(wanted, live, strict=True))
    else:
        by_key = {item_key(item, keys): item for item in live}
        pairs = [(item, by_key.get(item_key(item, keys))) for item in wanted]
    for index, (item, found) in enumerate(pairs):
        if path := differs(item, found, field):
            return path.replace(field, f"{field}[{index}]", 1)
    return None


def _empty(value: Any) -> bool:
    return value is None or value == "" or value == 0 or value is False or value == {} or value == []
