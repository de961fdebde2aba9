"""Kubernetes quantities. Source of the grammar: k8s.io/apimachinery/pkg/api/resource/quantity.go."""

import re
from decimal import Decimal

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([eE][+-]?[0-9]+|[KMGTPE]i|[numkMGTPE]?)")
_SUFFIX = {
    "": Decimal(1),
    **{
        suffix: Decimal(10) ** power
        for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
    },
    **{f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)},
}


def parse_quantity(text: object) -> Decimal | None:
    """Value of a quantity such as 1, "500m" or "16Gi"; None if it is none."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        return None
    number, suffix = match.groups()
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix not in _SUFFIX:
        return Decimal(number) * Decimal(10) ** int(suffix[1:])
    return Decimal(number) * _SUFFIX[suffix]


def format_quantity(value: Decimal, resource: str) -> str:
    """For people: memory and storage in Gi or Mi, everything else as a plain number."""
    if "memory" in resource or "storage" in resource:
        return f"{value / 1024**3:.1f}Gi" if value >= 1024**3 else f"{value / 1024**2:.0f}Mi"
    return f"{value.normalize():f}"
