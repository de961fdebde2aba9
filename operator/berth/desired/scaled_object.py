"""The ScaledObject, for endpoints that KEDA scales, on the load that Berth sees."""

from typing import Any

from berth.api.scaling import Actuator
from berth.api.spec import Endpoint
from berth.desired.metadata import metadata
from berth.desired.platform import Platform


def scaled_object(ep: Endpoint, platform: Platform) -> dict[str, Any] | None:
    """ScaledObject of the endpoint, if it is one's to have.

    Berth tells how many replicas the load is worth, not how many there shall be: KEDA rounds, and has its own windows.
    """
    scaling = ep.spec.scaling
    if scaling is None or ep.autoscaler != Actuator.KEDA:
        return None
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(ep),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": ep.name},
            "minReplicaCount": scaling.awake_min,
            "maxReplicaCount": scaling.max,
            "triggers": [
                {
                    "type": "metrics-api",
                    "metricType": "AverageValue",
                    "metadata": {
                        "url": f"{platform.url}/scaling/{ep.namespace}/{ep.name}",
                        "valueLocation": "replicas",
                        "targetValue": "1",
                    },
                }
            ],
        },
    }
