"""The fields of `spec.scaling` and `status.scaling`: how many replicas at the least and the most, and why so many."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, WithJsonSchema

from berth.api.fields import Fields, rules

IDLE_SECONDS = 1800


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
            (
                "!has(self.idleSeconds) || (has(self.min) && self.min == 0)",
                "spec.scaling.idleSeconds is how long an endpoint is idle before it sleeps: set spec.scaling.min to 0, "
                "or remove it",
            ),
        )
    )

    min: int = Field(1, ge=0, le=1000)
    """At least so many replicas. 0: it sleeps while nobody asks for anything, and a request wakes it; that takes the
    gateway. Default: 1."""
    max: int = Field(ge=1, le=1000)
    """At most so many replicas."""
    idle_seconds: int | None = Field(None, ge=10, le=2592000)
    """With `min: 0`: so long after the last request it sleeps. Default: 1800."""
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

    @property
    def awake_seconds(self) -> float | None:
        """Seconds without a request after which it sleeps; None: it never does."""
        if self.min > 0:
            return None
        return float(IDLE_SECONDS if self.idle_seconds is None else self.idle_seconds)

    @property
    def awake_min(self) -> int:
        """At least so many replicas while it is awake: all that an autoscaler of another kind may know."""
        return max(1, self.min)


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
    start_seconds: float | None = None
    """From when a pod was created until it was ready, the shortest that was seen with this model and image."""
    proven: str | None = None
    """With `min: 0`: which of its specs a pod has proven last; it sleeps only with the present one. A hash of the
    fields that shape a pod."""
