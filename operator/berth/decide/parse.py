"""From a raw ModelEndpoint to a parsed one: the only place that reads the raw spec."""

from typing import Any

from pydantic import ValidationError

from berth.api.conditions import Reason
from berth.api.spec import Endpoint, Spec
from berth.decide.admit import Refusal


def parse(body: dict[str, Any]) -> Endpoint | Refusal:
    """The endpoint, or why its spec cannot be read: an object that is older than the schema, or escaped it."""
    meta = body["metadata"]
    try:
        spec = Spec.model_validate(body.get("spec") or {})
    except ValidationError as error:
        found = [f"spec.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5]]
        return Refusal(Reason.INVALID_SPEC, "; ".join(found))
    return Endpoint(
        namespace=meta["namespace"], name=meta["name"], uid=meta["uid"], generation=meta["generation"], spec=spec
    )
