"""The steps of an endpoint to zero and back: when replicas may go, and when its Service leads to the gateway."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from berth.api import names
from berth.api.names import Key
from berth.api.spec import Backend, Endpoint
from berth.decide.asleep import Seen, sleeps, step
from berth.decide.backends import addresses, family, is_controllers, takes_requests
from berth.decide.demand import Limit
from berth.decide.observed import Scaled
from berth.decide.plan import prunable
from berth.decide.ports import Ports, port_of
from berth.kube.cache import Cache, Name
from berth.kube.gateways import Gateways
from berth.kube.resources import DEPLOYMENTS, SLICES
from berth.scaler import Scaler

Object = dict[str, Any]


@dataclass
class Zero:
    """clock: monotonic seconds.  wake: wants a pass of an endpoint whose port is another one's."""

    cache: Cache
    gateways: Gateways
    scaler: Scaler
    ports: Ports
    clock: Callable[[], float]
    wake: Callable[[Key], None] = lambda key: None
    _backed: dict[Key, float] = field(default_factory=dict)
    _serving: dict[Key, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cache.follow(SLICES, self._slice_moved)

    async def step(self, ep: Endpoint, scaled: Scaled | None) -> tuple[Endpoint, Scaled | None, float | None]:
        """The endpoint as it is to be now on its way to `wanted_replicas`, and seconds until the next step."""
        key, own = Key(ep.namespace, ep.name), self._own(ep)
        if ep.spec.suspend or not (sleeps(ep) or own):
            self.forget(key)
            return ep, scaled, None
        port, kind = self._port(ep, own), family(self.cache.of(SLICES, key), own)
        # Before the gateway's pods have been listed nothing is known of them, and nothing is changed.
        ready = self.gateways.ready(kind or "") if self.gateways.known else addresses(own)
        self.note(key)
        deployment = self.cache.get(DEPLOYMENTS, ep.namespace, ep.name)
        live = int(deployment["spec"].get("replicas", 1)) if deployment and prunable(ep, deployment) else 0
        no_way_in = port is None and sleeps(ep) and ep.wanted_replicas == 0 and not ep.replicas_left
        if no_way_in:
            live = max(live, 1)  # asleep, nothing could wake it
        backed, serving = self._seconds(self._backed, key), self._seconds(self._serving, key)
        found = step(Seen(ep.wanted_replicas, live, sleeps(ep), bool(ready and port), backed, serving))
        if found.replicas == 0 and live > 0:
            # The last moment to see a request that has come since.
            await self.scaler.look(key)
            fresh = self.scaler.scaled(ep)
            if fresh is not None and fresh.replicas > 0:
                return _with(ep, live, port, ready, kind), scaled, 0.0
        if no_way_in and scaled is not None:
            scaled = _kept(scaled, live, len(self.ports))
        shown = ready if found.backed else ()
        ep = _with(ep, found.replicas, port if sleeps(ep) or found.backed else None, shown, kind)
        return ep, scaled, found.again_seconds

    def note(self, key: Key) -> None:
        """Since when the gateway, and since when a pod, has been in the Service."""
        slices = self.cache.of(SLICES, key)
        found = {address for own in slices if not is_controllers(own) for address in addresses(own)}
        ready = {*self.gateways.ready("IPv4"), *self.gateways.ready("IPv6")} if self.gateways.known else found
        for since, holds in ((self._backed, bool(found & ready)), (self._serving, takes_requests(slices))):
            if holds:
                since.setdefault(key, self.clock())
            else:
                since.pop(key, None)

    def forget(self, key: Key) -> None:
        """It may not sleep, or is gone."""
        self._backed.pop(key, None)
        self._serving.pop(key, None)

    def _port(self, ep: Endpoint, own: Object | None) -> int | None:
        port = port_of(own) if own else None
        if port is not None and port in self.ports and self.ports.holder(port, self.clock()) == ep.uid:
            return port
        return self.ports.give(ep.uid, self.clock())

    def _slice_moved(self, name: Name, found: Object | None) -> None:
        for key in self.ports.see(name, found, self.clock()):
            self.wake(key)

    def _seconds(self, since: dict[Key, float], key: Key) -> float | None:
        return self.clock() - since[key] if key in since else None

    def _own(self, ep: Endpoint) -> Object | None:
        found = self.cache.get(SLICES, ep.namespace, names.gateway_slice(ep.name))
        return found if found is not None and prunable(ep, found) else None


def _with(ep: Endpoint, replicas: int, port: int | None, shown: tuple[str, ...], kind: str | None) -> Endpoint:
    gateway = Backend.model_validate({"port": port, "addresses": shown, "family": kind}) if port and kind else None
    return ep.model_copy(update={"decided_replicas": replicas, "gateway": gateway})


def _kept(scaled: Scaled, replicas: int, ports: int) -> Scaled:
    text = f"kept at {replicas}: all {ports} ports of the gateway are in use by other endpoints that may sleep"
    told = {"desired": replicas, "explanation": text, "limitedBy": Limit.GATEWAY_PORTS}
    return replace(scaled, replicas=replicas, status={**(scaled.status or {}), **told})
