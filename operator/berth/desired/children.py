"""All children, in the order in which they are applied.

The Deployment comes first: a pod template that Kubernetes refuses then changes nothing at all.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from berth.api import names
from berth.api.spec import Endpoint
from berth.desired.deployment import deployment
from berth.desired.disruption_budget import disruption_budget
from berth.desired.gateway_slice import gateway_slice
from berth.desired.horizontal_pod_autoscaler import horizontal_pod_autoscaler
from berth.desired.platform import Platform
from berth.desired.scaled_object import scaled_object
from berth.desired.service import service

BUILDERS = (deployment, service, disruption_budget, scaled_object, horizontal_pod_autoscaler, gateway_slice)

Builder = Callable[[Endpoint, Platform], dict[str, Any] | None]


def children(ep: Endpoint, platform: Platform, builders: Sequence[Builder] = BUILDERS) -> list[dict[str, Any]]:
    """Every child that should exist, each with the hash of its own intent. builders: of those that are asked for."""
    return [_with_intent(manifest) for build in builders if (manifest := build(ep, platform)) is not None]


def _with_intent(manifest: dict[str, Any]) -> dict[str, Any]:
    text = orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)
    intent = hashlib.sha256(text).hexdigest()[:16]
    meta = manifest["metadata"]
    annotations = {**meta.get("annotations", {}), names.INTENT_ANNOTATION: intent}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}
