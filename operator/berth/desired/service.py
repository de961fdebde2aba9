"""The Service in front of the pods."""

from typing import Any

from berth.api import names
from berth.api.spec import Endpoint
from berth.desired.metadata import metadata
from berth.desired.platform import Platform


def service(ep: Endpoint, platform: Platform) -> dict[str, Any]:
    """Service of the endpoint: the port that clients see, to vLLM's port of ready pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(ep, ep.spec.service.annotations),
        "spec": {
            "type": ep.spec.service.type,
            "selector": names.selector(ep.name),
            "ports": [
                {
                    "name": names.SERVER_PORT_NAME,
                    "port": ep.spec.service.port,
                    "targetPort": names.SERVER_PORT_NAME,
                    "protocol": "TCP",
                }
            ],
        },
    }


_BELOW = {"OpenAI": "/v1", "LLMEngine": "/llm-engine/", "ScaleEGP": "/egp", "AlephAlpha": "/aleph-alpha"}


def urls(ep: Endpoint, platform: Platform) -> dict[str, str]:
    """What the base-URL setting of the client of each enabled API wants, to the slash."""
    return {api: url(ep, platform) + _BELOW[api] for api in ep.apis}


def url(ep: Endpoint, platform: Platform) -> str:
    """Where the Service listens inside the cluster."""
    port = "" if ep.spec.service.port == 80 else f":{ep.spec.service.port}"
    return f"http://{ep.name}.{ep.namespace}.svc.{platform.cluster_domain}{port}"
