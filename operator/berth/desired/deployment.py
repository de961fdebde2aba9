"""The Deployment that runs the pods."""

from typing import Any

from berth.api import names
from berth.api.spec import Endpoint
from berth.desired.merge import merge
from berth.desired.metadata import metadata
from berth.desired.platform import Platform
from berth.desired.pod import pod_template

# The largest value switches Kubernetes' own deadline off: a cold start may take an hour, Berth judges it by progress.
NO_DEADLINE_SECONDS = 2147483647
OLD_REPLICA_SETS = 3


def deployment(ep: Endpoint, platform: Platform) -> dict[str, Any]:
    """Deployment of the endpoint, `spec.podTemplate` included."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(ep, {names.REPLICAS_LEFT_ANNOTATION: "true"} if ep.replicas_left else None),
        "spec": {
            **({} if ep.replicas_left else {"replicas": ep.wanted_replicas}),
            "revisionHistoryLimit": OLD_REPLICA_SETS,
            "progressDeadlineSeconds": NO_DEADLINE_SECONDS,
            "selector": {"matchLabels": names.selector(ep.name)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {
                    "maxSurge": ep.spec.rollout.max_surge,
                    "maxUnavailable": ep.spec.rollout.max_unavailable,
                },
            },
            "template": merge(pod_template(ep, platform), ep.spec.pod_template),
        },
    }
