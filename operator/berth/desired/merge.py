"""`spec.podTemplate` laid over Berth's pod template, with the merge keys of core/v1.

Source of the keys: patchMergeKey tags in k8s.io/api/core/v1/types.go.
"""

from typing import Any

MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "resourceClaims": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ports": ("containerPort", "protocol"),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
KEY_DEFAULTS = {"protocol": "TCP"}
APPENDED = frozenset({"tolerations"})


def merge(base: Any, over: Any, field: str = "") -> Any:
    """`base` with `over` laid on top: maps merge, keyed lists merge by key, tolerations append, the rest replaces.

    A null says nothing, as in every typed object of Kubernetes; the API server keeps it where it knows no types.
    """
    if isinstance(base, dict) and isinstance(over, dict):
        merged = dict(base)
        for name, value in over.items():
            if value is not None:
                merged[name] = merge(base[name], value, name) if name in base else value
        return merged
    if isinstance(base, list) and isinstance(over, list):
        if field in APPENDED:
            return [*base, *(item for item in over if item not in base)]
        if field in MERGE_KEYS:
            return _merge_keyed(base, over, MERGE_KEYS[field])
    return over


def item_key(item: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
    """Identity of a list item under its merge keys, as text: what a user wrote there may be of any type."""
    return tuple(repr(item.get(key, KEY_DEFAULTS.get(key)) if isinstance(item, dict) else item) for key in keys)


def _merge_keyed(base: list[Any], over: list[Any], keys: tuple[str, ...]) -> list[Any]:
    merged = {item_key(item, keys): item for item in base}
    for item in over:
        key = item_key(item, keys)
        merged[key] = merge(merged[key], item) if key in merged else item
    return list(merged.values())
