"""What the watches and lists have shown, by kind, namespace and name. Nothing older ever replaces something newer."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from berth.api import names
from berth.api.names import DELETION_COST, Key
from berth.decide.backends import is_controllers, takes_requests
from berth.decide.claims import claimed
from berth.kube.claims import Claims
from berth.kube.resources import AUTOSCALERS, DEPLOYMENTS, ENDPOINTS, PODS, SCALED_OBJECTS, SLICES, Resource

Object = dict[str, Any]
Name = tuple[str, str]


def endpoint_key(obj: Object) -> Key | None:
    """The endpoint that an object belongs to: itself, or the one named by its label."""
    meta = obj["metadata"]
    if obj.get("kind") == names.KIND:
        return Key(meta["namespace"], meta["name"])
    name = (meta.get("labels") or {}).get(names.ENDPOINT_LABEL)
    return Key(meta["namespace"], name) if name else None


def service_key(obj: Object) -> Key | None:
    """The Service that an EndpointSlice belongs to."""
    meta = obj["metadata"]
    name = (meta.get("labels") or {}).get(names.SERVICE_LABEL)
    return Key(meta["namespace"], name) if name else None


class Cache:
    """Objects as last seen. `put` and `drop` say whether that was news for a reconciler.

    key_of: what an object belongs to.  serves: whether the gateway serves the endpoints of a namespace: others hold no
    name.  on_holder: told each endpoint that another one has taken a name from, or left one to, when that other one
    came, went or was renamed.
    """

    def __init__(
        self,
        key_of: Callable[[Object], Key | None] = endpoint_key,
        on_holder: Callable[[Key], None] = lambda key: None,
        serves: Callable[[str], bool] = lambda namespace: True,
    ) -> None:
        self.key_of = key_of
        self._on_holder = on_holder
        self._serves = serves
        self._claims = Claims()
        self._objects: dict[str, dict[Name, Object]] = defaultdict(dict)
        self._of: dict[str, dict[Key, set[Name]]] = defaultdict(lambda: defaultdict(set))
        # resourceVersion at the end of what was deleted since the last list: a sight of it may arrive later.
        self._ended: dict[str, dict[Name, int]] = defaultdict(dict)
        self._kinds: set[str] = set()
        self._followers: dict[str, list[Callable[[Name, Object | None], None]]] = defaultdict(list)

    def follow(self, resource: Resource, told: Callable[[Name, Object | None], None]) -> None:
        """Tell each object of a kind as it is from now on, None when it is gone; first those that are there."""
        self._followers[resource.kind].append(told)
        for name, obj in self._objects[resource.kind].items():
            told(name, obj)

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """The object as last seen."""
        return self._objects[resource.kind].get((namespace, name))

    def of(self, resource: Resource, key: Key) -> tuple[Object, ...]:
        """Objects of a kind that carry the label of an endpoint; pods are trimmed."""
        return tuple(self._objects[resource.kind][name] for name in self._of[resource.kind].get(key, ()))

    def every(self, resource: Resource) -> Iterable[Object]:
        """All objects of a kind."""
        return self._objects[resource.kind].values()

    def has_kind(self, resource: Resource) -> bool:
        """Whether the cluster had this kind when it was listed last."""
        return resource.kind in self._kinds

    def no_kind(self, resource: Resource) -> None:
        """The cluster does not have this kind, or not any more."""
        self._kinds.discard(resource.kind)
        self._objects.pop(resource.kind, None)
        self._of.pop(resource.kind, None)

    def endpoints(self) -> Iterator[Key]:
        """All endpoints."""
        return (Key(*name) for name in self._objects[ENDPOINTS.kind])

    def held_by_others(self, key: Key) -> dict[str, Key]:
        """Names at the gateway that an endpoint claims and does not get, and who has them."""
        return self._claims.held_by_others(key)

    def count(self, resource: Resource) -> int:
        """Objects of a kind."""
        return len(self._objects[resource.kind])

    def put(self, resource: Resource, obj: Object) -> bool:
        """Remember an object. True when it is newer than what was known and differs in more than bookkeeping."""
        new = trim(resource, obj)
        name = (new["metadata"]["namespace"], new["metadata"]["name"])
        old = self._objects[resource.kind].get(name)
        newest = version(old) if old is not None else self._ended[resource.kind].get(name, 0)
        if version(new) <= newest:
            return False
        self._objects[resource.kind][name] = new
        self._index(resource, name, old, new)
        return old is None or _content(old) != _content(new)

    def drop(self, resource: Resource, obj: Object) -> bool:
        """Forget a deleted object, unless another one has taken its name since. True when that is news."""
        name = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        old = self._objects[resource.kind].get(name)
        if old is not None and old["metadata"]["uid"] != obj["metadata"]["uid"]:
            return False
        self._ended[resource.kind][name] = version(obj)
        if old is None:
            return False
        del self._objects[resource.kind][name]
        self._index(resource, name, old, None)
        return not _is_leaving(resource, old)  # that was the news

    def _index(self, resource: Resource, name: Name, old: Object | None, new: Object | None) -> None:
        if resource is ENDPOINTS:
            created = new["metadata"].get("creationTimestamp", "") if new is not None else ""
            claims = claimed(new) if new is not None and self._serves(name[0]) else ()
            for other in self._claims.put(Key(*name), created, claims):
                self._on_holder(other)
        of = self._of[resource.kind]
        if old is not None and (key := self.key_of(old)) in of:
            of[key].discard(name)
            if not of[key]:
                del of[key]
        if new is not None and (key := self.key_of(new)):
            of[key].add(name)
        for told in self._followers[resource.kind]:
            told(name, new)

    def replace(self, resource: Resource, objects: Iterable[Object], listed_at: str) -> set[Key]:
        """Take in a complete list: put all, drop what is gone. Returns the endpoints for which that was news.

        listed_at: resourceVersion of the list; what is newer than the list stays.
        """
        self._kinds.add(resource.kind)
        news: set[Key] = set()
        listed: set[Name] = set()
        for obj in objects:
            listed.add((obj["metadata"]["namespace"], obj["metadata"]["name"]))
            if self.put(resource, obj) and (key := self.key_of(obj)):
                news.add(key)
        for name, old in list(self._objects[resource.kind].items()):
            gone = name not in listed and version(old) <= int(listed_at)
            if gone and self.drop(resource, old) and (key := self.key_of(old)):
                news.add(key)
        ended = self._ended[resource.kind]
        self._ended[resource.kind] = {name: at for name, at in ended.items() if at > int(listed_at)}
        return news


def version(obj: Object) -> int:
    """resourceVersion as a number: Kubernetes guarantees the order for objects of one kind since 1.35, etcd always."""
    return int(obj["metadata"]["resourceVersion"])


def _content(obj: Object) -> Object:
    meta = {name: value for name, value in obj["metadata"].items() if name != "resourceVersion"}
    return {**obj, "metadata": meta}


# What decisions read; the rest is neither kept nor news. Of children all of spec: any field may be one that Berth sets.
_IDENTITY = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp")
# Who touches an annotation of an endpoint wants it looked at, whatever it says.
_META: dict[str, tuple[str, ...]] = {
    ENDPOINTS.kind: (*_IDENTITY, "generation", "annotations", "creationTimestamp"),
    PODS.kind: (*_IDENTITY, "labels", "annotations", "creationTimestamp"),
}
_CHILD_META = (*_IDENTITY, "generation", "labels", "annotations", "ownerReferences")
# Of two slices with one port of the gateway the older one has it.
_META[SLICES.kind] = (*_CHILD_META, "creationTimestamp")
_STATUS = {
    PODS.kind: ("phase", "reason", "message", "podIP", "conditions", "containerStatuses", "initContainerStatuses"),
    DEPLOYMENTS.kind: ("observedGeneration", "replicas", "readyReplicas", "updatedReplicas", "conditions"),
    AUTOSCALERS.kind: ("conditions",),
    SCALED_OBJECTS.kind: ("conditions",),
}
_CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")
_CONDITIONS = frozenset({"PodScheduled", "ContainersReady", "Ready", "ReplicaFailure", "AbleToScale", "ScalingActive"})
# The Deployment controller's own count of what the generation tells as well.
_REVISION_ANNOTATION = "deployment.kubernetes.io/revision"


def trim(resource: Resource, obj: Object) -> Object:
    """Keep what decisions need: no managedFields; of a pod its identity, resources, node and status."""
    meta = _picked(obj["metadata"], _META.get(resource.kind, _CHILD_META))
    if resource is ENDPOINTS:
        return {"kind": resource.kind, "metadata": meta, **_picked(obj, ("spec", "status"))}
    status = _picked(obj.get("status") or {}, _STATUS.get(resource.kind, ()))
    if "conditions" in status:
        told = [item for item in status["conditions"] or [] if item["type"] in _CONDITIONS]
        status["conditions"] = [_picked(item, _CONDITION) for item in told]
    if annotations := meta.get("annotations"):
        kept = annotations.keys() & {DELETION_COST} if resource is PODS else annotations.keys() - {_REVISION_ANNOTATION}
        meta["annotations"] = {name: annotations[name] for name in sorted(kept)}
    if resource == SLICES and is_controllers(obj):
        # Which pods there are tells the watch of pods.
        meta = {name: value for name, value in meta.items() if name not in ("generation", "annotations")}
        obj = {**obj, "endpoints": [{"conditions": {"ready": True}}] if takes_requests([obj]) else []}
    if resource is not PODS:
        return {**obj, "kind": resource.kind, "metadata": meta, "status": status}
    spec = obj.get("spec") or {}
    containers = {
        field: [_picked(item, ("name", "resources", "restartPolicy")) for item in spec.get(field) or []]
        for field in ("containers", "initContainers")
    }
    if _is_leaving(resource, obj):
        status = _picked(status, ("podIP",))  # it still answers requests; nothing else is of interest any more
    return {
        "kind": resource.kind,
        "metadata": meta,
        "spec": {"nodeName": spec.get("nodeName"), **containers},
        "status": status,
    }


def _is_leaving(resource: Resource, obj: Object) -> bool:
    return resource is PODS and bool(obj["metadata"].get("deletionTimestamp"))


def _picked(obj: Object, names: Iterable[str]) -> Object:
    return {name: obj[name] for name in names if name in obj}
