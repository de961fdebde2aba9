"""The API server's refusal of a child, told in terms of the ModelEndpoint."""

import re

from berth.api.conditions import Reason
from berth.decide.admit import Refusal

# The 500 of an apply that does not fit the schema of pods: path and what is wrong with it.
_TYPED_PATCH = re.compile(r"failed to create typed patch object \([^)]*\): \.spec\.template\.(.+?): (.+)", re.DOTALL)
_UNDECLARED = "field not declared in schema"
# Go's way to print a value of the wrong type: &{yes}, &value.valueUnstructured{Value:5}.
_GO_VALUE = re.compile(r"&(?:value\.valueUnstructured)?\{(?:Value:)?(.*)\}", re.DOTALL)

# Path in the Deployment → path in the ModelEndpoint. The server container is always the first; an index into its
# variables counts Berth's own ones.
_PATHS = (
    (r"spec\.template\.spec\.containers\[0\]\.resources", "spec.resources"),
    (r"spec\.template\.spec\.containers\[0\]\.env\[\d+\]", "spec.server.env[]"),
    (r"spec\.template\.spec\.containers\[0\]\.image", "spec.server.image"),
    (r"spec\.strategy\.rollingUpdate", "spec.rollout"),
    (r"spec\.template\.(labels|annotations)", r"spec.podTemplate.metadata.\1"),
    (r"spec\.template\.", "spec.podTemplate."),
)


def refused(kind: str, message: str) -> Refusal:
    """Why a manifest of `kind` was refused; `message` is the API server's text."""
    if match := _TYPED_PATCH.search(message):
        why = _GO_VALUE.sub(r"\1", match[2])
        if why == _UNDECLARED:
            why = (
                "is not a field of a pod template: remove it, or correct its name (kubectl explain pod.spec lists them)"
            )
        return Refusal(Reason.INVALID_POD_TEMPLATE, f"spec.podTemplate.{match[1]}: {why}")
    told = re.sub(r'^[\w.]+ "[^"]*" is invalid: ', "", message)
    if kind == "Service":
        told = told.replace("metadata.annotations", "spec.service.annotations")
    for theirs, ours in _PATHS:
        told = re.sub(theirs, ours, told)
    reason = Reason.INVALID_POD_TEMPLATE if "spec.podTemplate." in told else Reason.INVALID_SPEC
    return Refusal(reason, f"Kubernetes refuses the {kind}: {told}")
