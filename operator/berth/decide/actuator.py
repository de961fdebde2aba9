"""What is told while an autoscaler of Berth's own making, not Berth, sets the number of replicas. Pure."""

from collections.abc import Mapping
from typing import Any

from berth.api.conditions import Reason
from berth.api.scaling import Actuator
from berth.api.spec import Endpoint
from berth.decide.observed import Scaled

# What must be true of each kind for its number to follow its metric.
_NEEDED = {Actuator.HPA: ("AbleToScale", "ScalingActive"), Actuator.KEDA: ("Ready",)}
_KINDS = {Actuator.HPA: "HorizontalPodAutoscaler", Actuator.KEDA: "ScaledObject"}


def left(ep: Endpoint, child: Mapping[str, Any] | None, live: int, told: Scaled | None) -> Scaled:
    """What is known of an endpoint that its autoscaler scales. live: replicas asked for.  told: of the load itself."""
    assert ep.spec.scaling is not None
    actuator = ep.spec.scaling.actuator
    what = f"{_KINDS[actuator]} {ep.namespace}/{ep.name}"
    status = {"desired": live, "explanation": f"{what} sets the number of replicas"}
    if told is not None and told.status is not None:
        shown = ("demand", "targetPerReplica", "startSeconds") if actuator == Actuator.KEDA else ("startSeconds",)
        status |= {name: told.status[name] for name in shown if name in told.status}
    found = {item["type"]: item for item in ((child or {}).get("status") or {}).get("conditions") or []}
    active: tuple[bool, Reason, str] = (True, Reason.AUTOSCALER_ACTIVE, f"{what} follows its metric")
    for kind in _NEEDED[actuator]:
        item = found.get(kind)
        if item is None:
            active = (False, Reason.AUTOSCALER_FAILED, f"{what} has not said anything yet")
            break
        if item["status"] != "True":
            text = f"{what}: {item.get('reason', kind)}: {item.get('message', '')}"
            active = (False, Reason.AUTOSCALER_FAILED, text)
            break
    if told is not None and not told.active[0] and actuator == Actuator.KEDA:
        active = told.active  # the metric is Berth's own: this is nearer to the cause
    return Scaled(live, (), status, active)
