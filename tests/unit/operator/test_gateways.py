"""The pods of the gateway, as the slices of its Service have them."""

from typing import Any

from berth.api.names import Key
from berth.kube.gateways import Gateways
from berth.kube.reflector import take

Object = dict[str, Any]
SERVICE = Key("berth-system", "gateway")


def slice_of(service: Key, version: int, ready: bool = True) -> Object:
    labels = {"kubernetes.io/service-name": service.name}
    meta = {"name": "x", "namespace": service.namespace, "uid": service.namespace, "labels": labels}
    return {
        "metadata": meta | {"resourceVersion": str(version)},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
        "ports": [{"name": "admin", "port": 9090}],
    }


def test_a_service_of_the_same_name_elsewhere_is_no_news() -> None:
    gateways, woken = Gateways(str(SERVICE)), list[Key]()
    theirs = Key("elsewhere", "gateway")
    for version, ready in enumerate((True, False, True)):
        take(gateways.cache, gateways.resource, "MODIFIED", slice_of(theirs, version + 1, ready), woken.append)
    assert (gateways.ready("IPv4"), gateways.told_at(), woken) == ((), {}, [])
    take(gateways.cache, gateways.resource, "ADDED", slice_of(SERVICE, 4), woken.append)
    assert (gateways.ready("IPv4"), gateways.told_at()) == (("10.0.0.1",), {"10.0.0.1:9090": True})
    assert woken == [SERVICE]
    take(gateways.cache, gateways.resource, "DELETED", slice_of(SERVICE, 5), woken.append)
    assert (gateways.told_at(), woken) == ({}, [SERVICE, SERVICE])
