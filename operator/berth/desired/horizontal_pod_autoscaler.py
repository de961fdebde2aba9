"""The HorizontalPodAutoscaler, for endpoints that Kubernetes itself scales, on a metric that the user names."""

from typing import Any

from berth.api.scaling import Actuator
from berth.api.spec import Endpoint
from berth.desired.metadata import metadata
from berth.desired.platform import Platform


def horizontal_pod_autoscaler(ep: Endpoint, platform: Platform) -> dict[str, Any] | None:
    """HorizontalPodAutoscaler of the endpoint, if it is one's to have. Its windows are those of Kubernetes."""
    scaling = ep.spec.scaling
    if scaling is None or ep.autoscaler != Actuator.HPA:
        return None
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(ep),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": ep.name},
            "minReplicas": scaling.awake_min,
            "maxReplicas": scaling.max,
            "metrics": [scaling.metric],
        },
    }
