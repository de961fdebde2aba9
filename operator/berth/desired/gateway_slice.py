"""The EndpointSlice that leads from the endpoint's Service to the gateway, for endpoints that may sleep.

The Service keeps its selector: taking it away leaves the controller's slices behind, with pods that are dead.
"""

from typing import Any

from berth.api import names
from berth.api.spec import Endpoint
from berth.desired.metadata import metadata
from berth.desired.platform import Platform

MANAGER = names.GROUP


def gateway_slice(ep: Endpoint, platform: Platform) -> dict[str, Any] | None:
    """EndpointSlice of the endpoint, if it may sleep. Its addresses are those of the gateway's pods, or none."""
    if ep.gateway is None:
        return None
    meta = metadata(ep)
    labels = {names.SERVICE_LABEL: ep.name, names.SLICE_MANAGER_LABEL: MANAGER, **meta["labels"]}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**meta, "name": names.gateway_slice(ep.name), "labels": labels},
        "addressType": ep.gateway.family,
        "ports": [{"name": names.SERVER_PORT_NAME, "port": ep.gateway.port, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}} for address in sorted(ep.gateway.addresses)
        ],
    }
