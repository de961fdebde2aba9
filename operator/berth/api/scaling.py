"""The fields of `spec.scaling` and `status.scaling`: how many replicas at the least and the most, and why so many."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, WithJsonSchema

from berth.api.fields import Fields, rules


class Actuator(StrEnum):
    """Who sets the number of replicas."""

    BUILTIN = "Builtin"
    KEDA = "KEDA"
    HPA = "HPA"


class ScalingTarget(Fields):
    """What a replica shall have to do."""

    in_flight_per_replica: int | None = Field(None, ge=1, le=100000)
    """Requests that run or wait, per replica. Default: 70 % of what the engine says it can run at once, the lesser of
    its `max-num-seqs` and what its KV cache holds of requests as long as those it has had."""


class Scaling(Fields):
    """How many replicas run: as many as the load needs, between two bounds."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.min) || self.min <= self.max",
                "spec.scaling.min must not be greater than spec.scaling.max: lower min or raise max",
            ),
            (
                "has(self.metric) == (has(self.actuator) && self.actuator == 'HPA')",
                "spec.scaling.metric belongs to spec.scaling.actuator HPA: give both, or neither",
            ),
        )
    )

    min: int = Field(1, ge=1, le=1000)
    """At least so many replicas. Default: 1."""
    max: int = Field(ge=1, le=1000)
    """At most so many replicas."""
    target: ScalingTarget = Field(default_factory=ScalingTarget)
    """What a replica shall have to do."""
    actuator: Actuator = Actuator.BUILTIN
    """Who sets the number of replicas: the operator (Builtin), KEDA on the load that the operator sees, or a
    HorizontalPodAutoscaler on `metric` (HPA). Default: Builtin."""
    metric: (
        Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
        | None
    ) = None
    """With HPA: an autoscaling/v2 MetricSpec."""


class ScalingStatus(Fields):
    """Why there are so many replicas. Its numbers are written at most twice a minute, a new `desired` at once."""

    desired: int
    """Replicas that are wanted."""
    demand: float | None = None
    """Requests that run or wait, of all replicas together, as they were weighed for `desired`."""
    target_per_replica: float | None = None
    """Requests that a replica shall have to do."""
    explanation: str
    """How `desired` follows from the numbers."""
    limited_by: str | None = None
    """What keeps `desired` from what the demand asks for."""
    lower_after: str | None = None
    """When fewer replicas can be decided on at the soonest, if the demand stays as it is."""
