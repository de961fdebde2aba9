"""What the gateway knows of the cluster: endpoints, their names, their pods, and the ports of their own Services.

Objects come one by one, in any order; the same objects make the same table whatever the order. An update costs what
one endpoint costs, a lookup nothing that grows. Objects are what the API server has validated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from berth_gateway.claims import Age, Claims
from berth_gateway.objects import UNKNOWN_TARGET, Object, Slice, describe, names_of, slice_of


@dataclass(eq=False, slots=True)
class Pod:
    """An address that answers for an endpoint. name: of the pod, "" when its slice does not tell."""

    host: str
    port: int
    name: str
    in_flight: int = 0
    ready: bool = True
    """False: not chosen for new requests."""
    ejected_until: float = 0.0
    failures: int = 0
    idle: list[Any] = field(default_factory=list)
    """Connections without a request."""
    seed: int = 0
    """What it is known by where requests are spread by their prefix: the same in every gateway."""


@dataclass(eq=False, slots=True)
class Endpoint:
    """A ModelEndpoint, as far as the gateway needs it. The same object as long as the object in the cluster lives."""

    uid: str
    namespace: str
    name: str
    created: str
    key: str
    """namespace/name."""
    names: tuple[str, ...] = ()
    """What its pods know the model by. The first is the one reported."""
    holds: set[str] = field(default_factory=set)
    """Those of `names` that no older endpoint has."""
    apis: frozenset[str] = frozenset()
    sleeps: bool = False
    """Its spec lets it be without pods: a request wakes it."""
    target: float = UNKNOWN_TARGET
    start_seconds: float | None = None
    waking: str = ""
    """How far its start is, for clients that wait."""
    failure: str = ""
    """Why it cannot start until somebody changes something."""
    wanted: bool = True
    """False: suspended or deleted."""
    own_keys: bool = False
    """Its pods want keys of their own."""
    context_tokens: int | None = None
    pods: dict[tuple[str, int], Pod] = field(default_factory=dict)
    ready: list[Pod] = field(default_factory=list)
    """Those to choose from."""
    port: int | None = None
    """The gateway's port for its own Service."""
    turn: int = 0
    """Where the next choice among equals begins."""
    held: Any = None
    requests: int = 0
    """That have ended."""

    @property
    def holds_requests(self) -> bool:
        """Without a ready pod they wait for one. Its Service leads here for longer than its spec lets it sleep."""
        return self.sleeps or self.port is not None


class Table:
    """The state. on_ready: told of an endpoint that got a ready pod, cannot start, or is not wanted any more."""

    def __init__(self, on_ready: Callable[[Endpoint], None] = lambda endpoint: None) -> None:
        self.on_ready = on_ready
        self._endpoints: dict[str, Endpoint] = {}
        self._names: Claims[str, Endpoint] = Claims()
        self._ports: Claims[int, Slice] = Claims()
        self._slices: dict[tuple[str, str], Slice] = {}
        self._of_service: dict[str, dict[str, Slice]] = {}
        self._in_namespace: dict[str, int] = {}
        self._reachable: list[tuple[str, Endpoint]] | None = None

    # Lookups.

    def find(self, name: str, vendor: bool = False) -> Endpoint | None:
        """The endpoint that a model's name means: namespace/name, or a served name.

        In this order: nobody else can have what is said with a namespace (docs/adr/0008).

        vendor: or a served name with a vendor in front, as in one API. Where that is a namespace it is no vendor: what
        was deleted there is not looked for elsewhere.
        """
        found = self._endpoints.get(name) or self._names.holder(name)
        if found is not None or not vendor:
            return found
        front, _, rest = name.partition("/")
        return None if front in self._in_namespace else self._names.holder(rest)

    def by_port(self, port: int) -> Endpoint | None:
        """The endpoint whose Service leads to this port of the gateway."""
        found = self._ports.holder(port)
        endpoint = self._endpoints.get(found.service) if found else None
        return endpoint if endpoint and found and endpoint.uid == found.owner else None

    def endpoints(self) -> Iterable[Endpoint]:
        """All."""
        return self._endpoints.values()

    def reachable(self) -> list[tuple[str, Endpoint]]:
        """Each name under which an endpoint is found, sorted; of one that has no name of its own, namespace/name."""
        if self._reachable is None:
            found = []
            for endpoint in self._endpoints.values():
                found += [(name, endpoint) for name in endpoint.holds or (endpoint.key,)]
            self._reachable = sorted(found, key=lambda pair: pair[0])
        return self._reachable

    # Endpoints.

    def put_endpoint(self, obj: Object) -> Endpoint:
        """A ModelEndpoint is there, or has changed."""
        metadata = obj["metadata"]
        namespace, name, uid = metadata["namespace"], metadata["name"], metadata["uid"]
        endpoint = self._endpoints.get(f"{namespace}/{name}")
        if endpoint is not None and endpoint.uid != uid:
            self.drop_endpoint(namespace, name)
            endpoint = None
        if endpoint is None:
            endpoint = Endpoint(uid, namespace, name, metadata.get("creationTimestamp") or "", f"{namespace}/{name}")
            self._endpoints[endpoint.key] = endpoint
            if (holder := self._names.holder(endpoint.key)) is not None:
                holder.holds.discard(endpoint.key)
            self._in_namespace[namespace] = self._in_namespace.get(namespace, 0) + 1
            self._reachable = None
        self._name(endpoint, names_of(obj))
        before = (endpoint.wanted, endpoint.failure)
        describe(endpoint, obj)
        got_pod = self._refresh(endpoint)
        if got_pod or (before != (endpoint.wanted, endpoint.failure) and (endpoint.failure or not endpoint.wanted)):
            self.on_ready(endpoint)
        return endpoint

    def drop_endpoint(self, namespace: str, name: str) -> None:
        """A ModelEndpoint is gone; nothing happens if it was not there."""
        endpoint = self._endpoints.pop(f"{namespace}/{name}", None)
        if endpoint is None:
            return
        self._name(endpoint, ())
        if (holder := self._names.holder(endpoint.key)) is not None:
            holder.holds.add(endpoint.key)
        self._reachable = None
        self._in_namespace[namespace] -= 1
        if not self._in_namespace[namespace]:
            del self._in_namespace[namespace]
        for pod in endpoint.pods.values():
            pod.ready = False
        endpoint.ready, endpoint.port, endpoint.wanted = [], None, False
        self.on_ready(endpoint)

    def _name(self, endpoint: Endpoint, names: tuple[str, ...]) -> None:
        """Claim these names, and give up the others. A suspended endpoint keeps its own: they are nobody else's."""
        if names == endpoint.names:
            return
        age = (endpoint.created, endpoint.namespace, endpoint.name)
        for name in set(endpoint.names) ^ set(names):
            before = self._names.holder(name)
            if name in names:
                self._names.add(name, age, endpoint)
            else:
                self._names.remove(name, age)
            after = self._names.holder(name)
            if before is not None:
                before.holds.discard(name)
            if after is not None and self._endpoints.get(name, after) is after:
                after.holds.add(name)
        endpoint.names = names
        self._reachable = None

    # Slices.

    def put_slice(self, obj: Object) -> None:
        """An EndpointSlice is there, or has changed: of the controller, or Berth's own."""
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        before = self._take_slice(namespace, name)
        found = slice_of(obj)
        if found is not None:
            self._slices[namespace, name] = found
            self._of_service.setdefault(found.service, {})[name] = found
            if found.port is not None:
                self._ports.add(found.port, found.age, found)
        for service in {each.service for each in (before, found) if each is not None}:
            self._refresh_service(service)

    def drop_slice(self, namespace: str, name: str) -> None:
        """An EndpointSlice is gone; nothing happens if it was not there."""
        before = self._take_slice(namespace, name)
        if before is not None:
            self._refresh_service(before.service)

    def _take_slice(self, namespace: str, name: str) -> Slice | None:
        found = self._slices.pop((namespace, name), None)
        if found is not None:
            if found.port is not None:
                self._ports.remove(found.port, found.age)
            slices = self._of_service[found.service]
            del slices[name]
            if not slices:
                del self._of_service[found.service]
        return found

    def _refresh_service(self, service: str) -> None:
        endpoint = self._endpoints.get(service)
        if endpoint is not None and self._refresh(endpoint):
            self.on_ready(endpoint)

    def _refresh(self, endpoint: Endpoint) -> bool:
        """Pods and port from all slices of the endpoint. Whether a pod has become ready."""
        found: dict[tuple[str, int], tuple[bool, str]] = {}
        own: list[tuple[Age, int]] = []
        for each in self._of_service.get(endpoint.key, {}).values():
            for address, told in each.pods.items():
                found[address] = max(told, found.get(address, told))
            if each.port is not None and each.owner == endpoint.uid:
                own.append((each.age, each.port))
        endpoint.port = min(own)[1] if own else None
        pods, got_pod = endpoint.pods, False
        ready: list[Pod] = []
        for address, (is_ready, name) in found.items():
            pod = pods.get(address)
            if pod is None or pod.name != name:
                if pod is not None:
                    pod.ready = False
                pod = pods[address] = Pod(*address, name, ready=False, seed=_seed(name or f"{address}"))
            got_pod |= is_ready and not pod.ready
            pod.ready = is_ready
            if is_ready:
                ready.append(pod)
        for address in pods.keys() - found.keys():
            pods[address].ready = False
            # One that is leaving is known as long as it answers.
            if not pods[address].in_flight:
                del pods[address]
        endpoint.ready = ready
        return got_pod


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")
