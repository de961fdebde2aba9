"""The API server's refusal of a child, told in terms of the ModelEndpoint."""

import re

from berth.api.conditions import Reason
from berth.decide.admit import Refusal

_UNDECLARED = re.compile(r"\.?spec\.template\.([\w.\[\]=\"-]+): field not declared in schema")
_WRONG_TYPE = re.compile(r"\.spec\.template\.([\w.\[\]=\"-]+): (expected [^;]+)")

# Path in the Deployment → path in the ModelEndpoint. The server container is always the first.
_PATHS = (
    ("spec.template.spec.containers[0].resources", "spec.resources"),
    ("spec.template.spec.containers[0].env", "spec.server.env"),
    ("spec.template.spec.containers[0].image", "spec.server.image"),
    ("spec.strategy.rollingUpdate", "spec.rollout"),
    ("spec.template.", "spec.podTemplate."),
)


def refused(kind: str, message: str) -> Refusal:
    """Why a manifest of `kind` was refused; `message` is the API server's text."""
    if match := _UNDECLARED.search(message):
        text = (
            f"spec.podTemplate.{match[1]}: is not a field of a pod template: remove it, or correct its name "
            "(kubectl explain pod.spec lists them)"
        )
        return Refusal(Reason.INVALID_POD_TEMPLATE, text)
    if match := _WRONG_TYPE.search(message):
        return Refusal(Reason.INVALID_POD_TEMPLATE, f"spec.podTemplate.{match[1]}: {match[2]}")
    told = re.sub(r'^[\w.]+ "[^"]*" is invalid: ', "", message)
    if kind == "Service":
        told = told.replace("metadata.annotations", "spec.service.annotations")
    for theirs, ours in _PATHS:
        told = told.replace(theirs, ours)
    reason = Reason.INVALID_POD_TEMPLATE if "spec.podTemplate." in told else Reason.INVALID_SPEC
    return Refusal(reason, f"Kubernetes refuses the {kind}: {told}")
