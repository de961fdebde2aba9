"""Metadata that every child shares."""

from typing import Any

from berth.api import names
from berth.api.spec import Endpoint


def metadata(ep: Endpoint, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """Name, labels and owner of a child. Without `blockOwnerDeletion`: deleting an endpoint waits for nobody."""
    return {
        "name": ep.name,
        "namespace": ep.namespace,
        "labels": names.labels(ep.name),
        **({"annotations": annotations} if annotations else {}),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": ep.name,
                "uid": ep.uid,
                "controller": True,
            }
        ],
    }
