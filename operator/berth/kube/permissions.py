"""What Berth may do, asked of the API server at the start: a missing permission is said by name before it hurts."""

import asyncio
from typing import Any

from berth.api import names
from berth.kube.client import Client
from berth.kube.resources import ACCESS_REVIEWS, CHILDREN, DEFINITIONS, ENDPOINTS, EVENTS, LEASES, NODES, PODS, Resource

# Kind, subresource, verbs: what the chart's roles grant. A server-side apply that creates needs create and patch.
NEEDED: tuple[tuple[Resource, str, tuple[str, ...]], ...] = (
    (ENDPOINTS, "", ("get", "list", "watch")),
    (ENDPOINTS, "status", ("patch",)),
    *((child, "", ("get", "list", "watch", "create", "patch", "delete")) for child in CHILDREN),
    (PODS, "", ("list", "watch", "patch")),
    (NODES, "", ("list",)),
    (EVENTS, "", ("list", "create")),
    (DEFINITIONS, "", ("list", "watch")),
    (LEASES, "", ("get", "create", "update")),
)


async def missing(client: Client, own_namespace: str) -> list[str]:
    """Permissions that this process lacks, as `patch modelendpoints.berth.dev/status`; Leases in `own_namespace` only.

    Raises the errors of `berth.errors`. Every authenticated user may ask (ClusterRole system:basic-user).
    """
    asked = [
        (resource, subresource, verb, own_namespace if resource is LEASES else "")
        for resource, subresource, verbs in NEEDED
        for verb in verbs
    ]
    granted = await asyncio.gather(*(_allowed(client, *question) for question in asked))
    return [_told(*question) for question, yes in zip(asked, granted, strict=True) if not yes]


async def _allowed(client: Client, resource: Resource, subresource: str, verb: str, namespace: str) -> bool:
    attributes: dict[str, Any] = {
        "group": resource.group,
        "resource": resource.plural,
        "subresource": subresource,
        "verb": verb,
        "namespace": namespace,
    }
    if resource is LEASES and verb != "create":
        attributes["name"] = names.LEASE
    review = {
        "apiVersion": ACCESS_REVIEWS.api_version,
        "kind": ACCESS_REVIEWS.kind,
        "metadata": {},
        "spec": {"resourceAttributes": attributes},
    }
    answer = await client.create(ACCESS_REVIEWS, review)
    return bool((answer.get("status") or {}).get("allowed"))


def _told(resource: Resource, subresource: str, verb: str, namespace: str) -> str:
    what = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    what += f"/{subresource}" if subresource else ""
    return f"{verb} {what}" + (f" in namespace {namespace}" if namespace else "")
