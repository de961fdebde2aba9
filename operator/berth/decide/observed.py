"""Everything that one pass has read, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from berth.api.conditions import Reason
from berth.api.names import Key

Object = dict[str, Any]


class ChildId(NamedTuple):
    """Kind and name of a child; the namespace is the endpoint's."""

    kind: str
    name: str


def child_id(manifest: Object) -> ChildId:
    """Identity of a child within its namespace."""
    return ChildId(manifest["kind"], manifest["metadata"]["name"])


class Conflict(NamedTuple):
    """A child that Berth has stopped writing. managers: who set the field, none when an admission webhook did."""

    kind: str
    field: str
    managers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scaled:
    """How many replicas were decided on. leaving: pods to go first when there are to be fewer.

    status: status.scaling, None without spec.scaling.  active: value, reason and message of ScalingActive.
    """

    replicas: int
    leaving: tuple[str, ...]
    status: Object | None
    active: tuple[bool, Reason, str]


def is_ready(pod: Object) -> bool:
    """Whether the pod's condition Ready is true."""
    conditions = pod["status"].get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


@dataclass(frozen=True)
class Observed:
    """endpoint: the ModelEndpoint as read.  children: by kind and name, also foreign objects under a child's name.

    pods: pods of the endpoint, trimmed.  progress: answer of each unready pod's launcher by pod name, when it gave one.
    nodes, bound_pods: read only when a pod is unschedulable, else None.  mount_events: by pod name, the last message
    of a failed mount.  conflicts: children that Berth has stopped writing.  scaled: how many replicas were decided on.
    holders: of served names that another endpoint has at the gateway, which one.
    """

    endpoint: Object
    children: Mapping[ChildId, Object] = field(default_factory=dict)
    pods: tuple[Object, ...] = ()
    progress: Mapping[str, Object] = field(default_factory=dict)
    nodes: tuple[Object, ...] | None = None
    bound_pods: tuple[Object, ...] | None = None
    mount_events: Mapping[str, str] = field(default_factory=dict)
    conflicts: tuple[Conflict, ...] = ()
    scaled: Scaled | None = None
    holders: Mapping[str, Key] = field(default_factory=dict)
