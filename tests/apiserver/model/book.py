"""What the model remembers of its steps, to judge by it what it finds."""

from dataclasses import dataclass, field
from typing import Any

from berth.kube.resources import BASIC_CHILDREN, ENDPOINTS
from tests.apiserver.model.choices import Addition, Field
from tests.apiserver.model.cluster import Snapshot

Object = dict[str, Any]


@dataclass
class Told:
    """An endpoint as its user last wrote it.

    fault: reason that Berth must give for the spec, "" for a valid one.  fields: what of FIELDS is in the spec.
    valid: all valid states that Berth may have acted on since the last quiet.
    """

    live: Object
    fault: str = ""
    fields: dict[str, Field] = field(default_factory=dict)
    valid: list[Object] = field(default_factory=list)


@dataclass
class Book:
    """What the model remembers of its steps.

    settled: specs of an endpoint's children at the last quiet, by uid and kind.  meddled: endpoints whose children
    somebody touched since.  strangers: objects that were never Berth's, by kind and name.  kept: what somebody added to
    a child, with the child's kind, name and uid.  orphans: kind, name and uid of children that were left behind.
    leaving: endpoints that are deleted and held by a finalizer of their user.
    """

    endpoints: dict[str, Told] = field(default_factory=dict)
    settled: dict[str, dict[str, Object]] = field(default_factory=dict)
    meddled: set[str] = field(default_factory=set)
    strangers: dict[tuple[str, str], Object] = field(default_factory=dict)
    kept: list[tuple[str, str, str, Addition]] = field(default_factory=list)
    orphans: set[tuple[str, str, str]] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)

    def quiet(self, shot: Snapshot) -> None:
        """All is as it should be in `shot`: what comes is compared with this."""
        for name, endpoint in shot.of(ENDPOINTS).items():
            if name in self.leaving:
                continue
            uid = endpoint["metadata"]["uid"]
            self.settled[uid] = {child["kind"]: child["spec"] for child in mine(shot, endpoint)}
            told = self.endpoints[name]
            told.valid = [] if told.fault else [endpoint]
        self.meddled.clear()


def mine(shot: Snapshot, endpoint: Object) -> list[Object]:
    """The children of an endpoint: what has its name and is controlled by it."""
    name, uid = endpoint["metadata"]["name"], endpoint["metadata"]["uid"]
    found = (shot.of(resource).get(name) for resource in BASIC_CHILDREN)
    return [obj for obj in found if obj and controller(obj).get("uid") == uid]


def controller(obj: Object) -> Object:
    """The owner that controls an object, or an empty one."""
    owners = obj["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), {})
