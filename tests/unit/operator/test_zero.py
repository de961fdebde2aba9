"""The way to zero and back, pass by pass: what the cache shows becomes the endpoint that is to be.

In: a cache, the gateway's pods, a clock that the test moves.  Out: replicas, the slice, when to look again.  What was
decided is played.
"""

from typing import Any

import pytest

from berth.api.conditions import Reason
from berth.api.names import Key
from berth.api.spec import Endpoint
from berth.decide.observed import Scaled
from berth.decide.ports import Ports
from berth.desired.children import children
from berth.kube.cache import Cache
from berth.kube.gateways import Gateways
from berth.kube.resources import DEPLOYMENTS, SLICES
from berth.zero import Zero
from tests import builders

KEY = Key(builders.NAMESPACE, "demo")
RANGE = range(20000, 20100)
GATEWAY = "10.1.0.1"
LABELS = {"kubernetes.io/service-name": "demo", "berth.dev/endpoint": "demo"}
CONTROLLER = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}


class Rig:
    """An endpoint that may sleep, and a cluster that does what it is asked."""

    def __init__(self, live: int = 1, ports: range = RANGE, service: str = "berth-system/gateway") -> None:
        self.now, self.version, self.looks = 1000.0, 0, 0
        self.wanted = live
        self.fresh: int | None = None
        self.woken: list[Key] = []
        self.cache, self.gateways = Cache(), Gateways(service)
        self.spec: dict[str, Any] = {"scaling": {"min": 0, "max": 5}}
        self.new_operator(ports)
        self.live(live)
        self.takes_requests(live > 0)

    # What the scaler has.

    async def look(self, key: Key) -> None:
        assert key == KEY
        self.looks += 1

    def scaled(self, ep: Endpoint) -> Scaled:
        wanted = self.wanted if self.fresh is None else self.fresh
        return Scaled(wanted, (), {"desired": wanted, "explanation": "because"}, (True, Reason.LOAD_KNOWN, "known"))

    # What the cluster has.

    def put(self, cache: Cache, resource: Any, obj: dict[str, Any]) -> None:
        self.version += 1
        cache.put(resource, {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}})

    def live(self, replicas: int) -> None:
        owner = {"kind": "ModelEndpoint", "name": "demo", "uid": "uid-of-demo", "controller": True}
        meta = {"name": "demo", "namespace": builders.NAMESPACE, "uid": "d", "ownerReferences": [owner]}
        self.put(self.cache, DEPLOYMENTS, {"metadata": meta, "spec": {"replicas": replicas}})

    def takes_requests(self, ready: bool, kind: str = "IPv4") -> None:
        meta = {"name": "demo-x", "namespace": builders.NAMESPACE, "uid": "x", "labels": LABELS | CONTROLLER}
        endpoints = [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]
        self.put(self.cache, SLICES, {"metadata": meta, "addressType": kind, "endpoints": endpoints})

    def other(self, port: int, created: str = "", owned: bool = True) -> None:
        """Another endpoint's slice."""
        owner = {"kind": "ModelEndpoint", "name": "other", "uid": "uid-of-other", "controller": True}
        labels = {"endpointslice.kubernetes.io/managed-by": "berth.dev", "berth.dev/endpoint": "other"}
        meta = {"name": "other-gateway", "namespace": builders.NAMESPACE, "uid": "o", "labels": labels}
        meta |= {"creationTimestamp": created, "ownerReferences": [owner] if owned else []}
        ports = [{"name": "http", "port": port}]
        self.put(self.cache, SLICES, {"metadata": meta, "addressType": "IPv4", "ports": ports, "endpoints": []})

    def without(self, name: str) -> None:
        """A slice is gone."""
        self.version += 1
        found = self.cache.get(SLICES, builders.NAMESPACE, name)
        assert found is not None
        meta = found["metadata"] | {"resourceVersion": str(self.version)}
        self.cache.drop(SLICES, {**found, "metadata": meta})

    def new_operator(self, ports: range = RANGE) -> None:
        self.zero = Zero(self.cache, self.gateways, self, Ports(ports), lambda: self.now, self.woken.append)  # type: ignore[arg-type]

    async def port_of_another(self, uid: str) -> int | None:
        """The port that another endpoint is given now."""
        labels = {"kubernetes.io/service-name": uid, "berth.dev/endpoint": uid}
        meta = {"name": f"{uid}-x", "namespace": builders.NAMESPACE, "uid": f"{uid}-x", "labels": labels | CONTROLLER}
        self.put(self.cache, SLICES, {"metadata": meta, "addressType": "IPv4", "endpoints": []})
        ep, _, _ = await self.zero.step(builders.parsed(uid, uid=uid, scaling={"min": 0, "max": 5}), None)
        return ep.gateway.port if ep.gateway else None

    def has_gateways(self, *addresses: str, kind: str = "IPv4") -> None:
        labels = {"kubernetes.io/service-name": "gateway"}
        meta = {"name": "gateway-x", "namespace": "berth-system", "uid": "g", "labels": labels}
        endpoints = [{"addresses": [address], "conditions": {"ready": True}} for address in addresses]
        self.put(
            self.gateways.cache,
            self.gateways.resource,
            {"metadata": meta, "addressType": kind, "endpoints": endpoints, "ports": []},
        )
        self.gateways.cache.replace(
            self.gateways.resource, self.gateways.cache.every(self.gateways.resource), str(self.version)
        )

    async def step(self) -> tuple[Endpoint, float | None]:
        """One pass: what is to be, and when to look again; nothing is carried out."""
        ep = builders.parsed(**self.spec).model_copy(update={"decided_replicas": self.wanted})
        self.told = self.scaled(ep) if self.fresh is None else None
        ep, self.told, again = await self.zero.step(ep, self.told)
        return ep, again

    async def carry_out(self) -> tuple[int, tuple[str, ...] | None, float | None]:
        """One pass with its writes: replicas, addresses of the slice, and when to look again."""
        ep, again = await self.step()
        self.live(ep.wanted_replicas)
        own = [manifest for manifest in children(ep, builders.PLATFORM) if manifest["kind"] == "EndpointSlice"]
        if own:
            self.put(self.cache, SLICES, builders.live(own[0]))
        elif self.cache.get(SLICES, builders.NAMESPACE, "demo-gateway") is not None:
            self.without("demo-gateway")
        self.zero.note(KEY)
        return ep.wanted_replicas, ep.gateway.addresses if ep.gateway else None, again


async def test_the_slice_comes_first_and_two_seconds_later_the_pods_go() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    assert await rig.carry_out() == (1, (), None)
    rig.wanted = 0
    assert await rig.carry_out() == (1, (GATEWAY,), 2.0)
    rig.now += 1.5
    assert await rig.carry_out() == (1, (GATEWAY,), 0.5)
    assert rig.looks == 0
    rig.now += 0.5
    assert await rig.carry_out() == (0, (GATEWAY,), None)
    assert rig.looks == 1
    rig.takes_requests(False)
    assert await rig.carry_out() == (0, (GATEWAY,), None)
    rig.wanted = 3
    assert await rig.carry_out() == (3, (GATEWAY,), None)
    rig.takes_requests(True)
    assert await rig.carry_out() == (3, (GATEWAY,), 2.0)
    rig.now += 2.0
    assert await rig.carry_out() == (3, (), None)


async def test_a_request_of_the_last_moment_keeps_it_awake() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    rig.wanted = 0
    await rig.carry_out()
    rig.now += 2.0
    rig.fresh = 1
    assert await rig.carry_out() == (1, (GATEWAY,), 0.0)
    rig.wanted, rig.fresh = 1, None
    assert await rig.carry_out() == (1, (), None)


async def test_a_new_operator_waits_for_as_long_again() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    rig.wanted = 0
    await rig.carry_out()
    rig.now += 60.0
    rig.new_operator()
    assert (await rig.carry_out())[::2] == (1, 2.0)
    rig.now += 2.0
    assert (await rig.carry_out())[::2] == (0, None)


async def test_the_slice_follows_the_gateway_s_pods_and_without_one_the_last_replica_stays() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    rig.wanted = 0
    await rig.carry_out()
    rig.now += 2.0
    rig.has_gateways("10.1.0.2", "10.1.0.3")
    assert await rig.carry_out() == (1, ("10.1.0.2", "10.1.0.3"), 2.0), "these are new in the Service"
    rig.now += 2.0
    rig.has_gateways()
    assert await rig.carry_out() == (1, (), None)
    rig.has_gateways("10.1.0.3")
    assert await rig.carry_out() == (1, ("10.1.0.3",), 2.0)
    rig.now += 2.0
    assert (await rig.carry_out())[0] == 0
    rig.has_gateways()
    assert await rig.carry_out() == (0, (), None), "asleep it stays"


async def test_before_the_gateway_s_pods_are_listed_nothing_changes() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    rig.wanted = 0
    await rig.carry_out()
    rig.now += 2.0
    await rig.carry_out()
    rig.gateways = Gateways("berth-system/gateway")
    rig.new_operator()
    assert await rig.carry_out() == (0, (GATEWAY,), None)


async def test_a_port_is_kept_for_as_long_as_it_may_sleep() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    found = {(await rig.step())[0].gateway.port}  # type: ignore[union-attr]
    await rig.carry_out()
    rig.new_operator()
    for wanted in (0, 0, 2, 1):
        rig.wanted = wanted
        rig.now += 2.0
        await rig.carry_out()
        found.add((await rig.step())[0].gateway.port)  # type: ignore[union-attr]
    assert len(found) == 1
    assert found <= set(RANGE)
    rig.new_operator(range(30000, 30010))
    assert (await rig.step())[0].gateway.port in range(30000, 30010), "the gateway has other ports now"  # type: ignore[union-attr]


async def test_without_a_port_the_last_replica_stays_and_status_says_why() -> None:
    rig = Rig(ports=range(20000, 20001))
    rig.has_gateways(GATEWAY)
    rig.other(20000)
    rig.wanted = 0
    assert await rig.carry_out() == (1, None, None)
    assert rig.told is not None
    assert rig.told.status == {
        "desired": 1,
        "explanation": "kept at 1: all 1 ports of the gateway are in use by other endpoints that may sleep",
        "limitedBy": "GatewayPorts",
    }


async def test_suspended_the_slice_goes_at_once_and_kept_awake_when_a_pod_is_there() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    rig.wanted = 0
    await rig.carry_out()
    rig.now += 2.0
    assert (await rig.carry_out())[0] == 0
    rig.takes_requests(False)
    rig.spec, rig.wanted = {"scaling": {"min": 1, "max": 5}}, 1
    assert await rig.carry_out() == (1, (GATEWAY,), None)
    rig.takes_requests(True)
    assert await rig.carry_out() == (1, (GATEWAY,), 2.0)
    rig.now += 2.0
    assert await rig.carry_out() == (1, None, None)
    assert await rig.carry_out() == (1, None, None)

    rig.spec = {"scaling": {"min": 0, "max": 5}}
    assert await rig.carry_out() == (1, (), None)
    rig.spec["suspend"] = True
    assert (await rig.step())[0].gateway is None


async def test_an_endpoint_that_never_sleeps_is_left_as_it_is() -> None:
    rig = Rig()
    rig.spec = {"scaling": {"min": 1, "max": 5}}
    ep = builders.parsed(**rig.spec)
    assert await rig.zero.step(ep, None) == (ep, None, None)


async def test_a_slice_of_somebody_else_is_no_way_to_the_gateway() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    meta = {"name": "demo-gateway", "namespace": builders.NAMESPACE, "uid": "f", "labels": {}}
    ports = [{"name": "http", "port": 20005}]
    theirs = {"metadata": meta, "addressType": "IPv4", "endpoints": [{"addresses": [GATEWAY]}], "ports": ports}
    rig.put(rig.cache, SLICES, theirs)
    rig.wanted = 0
    ep, again = await rig.step()
    assert (again, ep.gateway.port == 20005) == (2.0, False)  # type: ignore[union-attr]
    rig.now += 60.0
    assert (await rig.step())[1] == 2.0, "it is not what leads there"


async def test_in_a_cluster_of_the_other_family_it_sleeps_too() -> None:
    rig = Rig(0)
    rig.without("demo-x")
    rig.has_gateways("fd00::9", kind="IPv6")
    rig.wanted = 1
    assert await rig.carry_out() == (1, None, None), "its Service is not there yet: nothing is known of its addresses"
    rig.takes_requests(False, "IPv6")
    assert await rig.carry_out() == (1, ("fd00::9",), None)
    rig.takes_requests(True, "IPv6")
    rig.now += 2.0
    await rig.carry_out()
    rig.wanted = 0
    await rig.carry_out()
    rig.now += 2.0
    assert await rig.carry_out() == (0, ("fd00::9",), None)
    rig.without("demo-x")
    assert await rig.carry_out() == (0, ("fd00::9",), None), "what is there stays"


async def test_a_slice_of_the_wrong_family_is_made_anew_with_the_same_port() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    await rig.carry_out()
    port = (await rig.step())[0].gateway.port  # type: ignore[union-attr]
    rig.takes_requests(True, "IPv6")
    rig.has_gateways("fd00::9", kind="IPv6")
    rig.wanted = 0
    assert await rig.carry_out() == (1, None, None)
    assert await rig.carry_out() == (1, ("fd00::9",), 2.0)
    assert (await rig.step())[0].gateway.port == port  # type: ignore[union-attr]


@pytest.mark.parametrize("leaves", ["min 1", "suspended", "deleted"])
async def test_a_port_rests_also_when_its_endpoint_had_it_before_this_operator_came(leaves: str) -> None:
    rig = Rig(ports=range(20000, 20001))
    rig.has_gateways(GATEWAY)
    await rig.carry_out()
    rig.new_operator(range(20000, 20001))
    for _ in range(5):
        rig.now += 300.0
        await rig.carry_out()
    if leaves == "deleted":
        rig.without("demo-gateway")
    else:
        rig.spec = {"scaling": {"min": 1, "max": 5}} if leaves == "min 1" else rig.spec | {"suspend": True}
        await rig.carry_out()
    assert rig.cache.get(SLICES, builders.NAMESPACE, "demo-gateway") is None
    assert await rig.port_of_another("b") is None
    rig.now += 599.0
    assert await rig.port_of_another("b") is None
    rig.now += 1.0
    assert await rig.port_of_another("b") == 20000


async def test_of_two_endpoints_with_one_port_the_one_with_the_older_slice_keeps_it() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    await rig.carry_out()
    port = (await rig.step())[0].gateway.port  # type: ignore[union-attr]
    rig.other(port, created=builders.T1)
    assert rig.woken == [Key(builders.NAMESPACE, "other")]
    assert (await rig.step())[0].gateway.port == port  # type: ignore[union-attr]


async def test_of_two_endpoints_with_one_port_the_one_with_the_younger_slice_gets_another_one() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    await rig.carry_out()
    own = rig.cache.get(SLICES, builders.NAMESPACE, "demo-gateway")
    assert own is not None
    port = own["ports"][0]["port"]
    rig.put(rig.cache, SLICES, {**own, "metadata": own["metadata"] | {"creationTimestamp": builders.T1}})
    rig.other(port, created=builders.T0)
    found = (await rig.step())[0].gateway.port  # type: ignore[union-attr]
    assert found in set(RANGE) - {port}
    assert rig.woken == [KEY]
    await rig.carry_out()
    rig.now += 700.0
    assert (await rig.step())[0].gateway.port == found  # type: ignore[union-attr]


async def test_the_port_of_a_slice_that_was_left_behind_is_nobody_else_s() -> None:
    rig = Rig(ports=range(20000, 20001))
    rig.has_gateways(GATEWAY)
    rig.other(20000, owned=False)
    assert (await rig.step())[0].gateway is None


async def test_slices_of_others_that_carry_berth_s_label_end_no_pass() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    labels = {"app.kubernetes.io/managed-by": "berth"}
    meta = {"name": "x", "namespace": "t", "uid": "u", "labels": labels, "ownerReferences": [{"kind": "A", "uid": "q"}]}
    for ports in (None, [{"name": "http"}]):
        rig.put(rig.cache, SLICES, {"metadata": meta, "addressType": "IPv4", "ports": ports, "endpoints": []})
        assert (await rig.step())[0].gateway is not None


async def test_its_own_slice_without_a_port_gets_one() -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    await rig.carry_out()
    own = rig.cache.get(SLICES, builders.NAMESPACE, "demo-gateway")
    assert own is not None
    rig.put(rig.cache, SLICES, {**own, "ports": None})
    assert (await rig.step())[0].gateway.port in RANGE  # type: ignore[union-attr]


@pytest.mark.parametrize("service", ["berth-system/gateway", ""], ids=["not ready", "uninstalled"])
async def test_zero_replicas_by_spec_need_no_gateway(service: str) -> None:
    rig = Rig()
    rig.has_gateways(GATEWAY)
    await rig.carry_out()
    rig.has_gateways()
    if not service:
        rig.gateways = Gateways("")
        rig.new_operator()
    rig.spec, rig.wanted = {"replicas": 0}, 0
    assert await rig.carry_out() == (0, None, None)
    assert rig.cache.get(SLICES, builders.NAMESPACE, "demo-gateway") is None


async def test_what_loses_its_port_asleep_is_woken_and_status_says_why() -> None:
    rig = Rig(0)
    rig.has_gateways(GATEWAY)
    rig.wanted = 0
    assert await rig.carry_out() == (0, (GATEWAY,), None)
    rig.other(30000)
    rig.new_operator(range(30000, 30001))
    for _ in range(2):
        assert await rig.carry_out() == (1, None, None)
        assert rig.told is not None
        assert rig.told.status is not None
        assert (rig.told.status["desired"], rig.told.status["limitedBy"]) == (1, "GatewayPorts")
