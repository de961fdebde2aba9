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
    "claims": ("name",),
    "schedulingGates": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ports": ("containerPort", "protocol"),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
KEY_DEFAULTS = {"protocol": "TCP"}
APPENDED = frozenset({"tolerations"})
# Items that are one choice of several (patch strategy retainKeys): another choice replaces ours.
CHOICES = frozenset({"volumes", "resourceClaims"})


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
            return _merge_keyed(base, over, field)
    return over


def item_key(item: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
    """Identity of a list item under its merge keys, as text: what a user wrote there may be of any type."""
    return tuple(repr(item.get(key, KEY_DEFAULTS.get(key)) if isinstance(item, dict) else item) for key in keys)


def _merge_keyed(base: list[Any], over: list[Any], field: str) -> list[Any]:
    keys = MERGE_KEYS[field]
    merged = {item_key(item, keys): item for item in base}
    for item in over:
        key = item_key(item, keys)
        known = merged.get(key)
        replaces = known is None or (field in CHOICES and _other_choice(known, item, keys))
        merged[key] = item if replaces else merge(known, item)
    return list(merged.values())


def _other_choice(known: Any, item: Any, keys: tuple[str, ...]) -> bool:
    chosen = item.keys() - set(keys) if isinstance(item, dict) and isinstance(known, dict) else set()
    return bool(chosen) and not chosen & known.keys()
