"""The API server's refusal of a child, told in terms of the ModelEndpoint."""

import re

from berth.api.conditions import Reason
from berth.decide.admit import Refusal

_UNDECLARED = re.compile(r"\.?spec\.template\.([\w.\[\]=\"-]+): field not declared in schema")
_WRONG_TYPE = re.compile(r"\.spec\.template\.([\w.\[\]=\"-]+): (expected [^;]+)")


def refused(kind: str, message: str) -> Refusal:
    """Why a manifest of `kind` was refused; `message` is the API server's text."""
    if kind != "Deployment":
        return Refusal(Reason.INVALID_SPEC, f"the {kind} was refused: {_in_our_words(message)}")
    if match := _UNDECLARED.search(message):
        text = (
            f"spec.podTemplate.{match[1]}: is not a field of a pod template: remove it, or correct its name "
            "(kubectl explain pod.spec lists them)"
        )
        return Refusal(Reason.INVALID_POD_TEMPLATE, text)
    if match := _WRONG_TYPE.search(message):
        return Refusal(Reason.INVALID_POD_TEMPLATE, f"spec.podTemplate.{match[1]}: {match[2]}")
    return Refusal(Reason.INVALID_POD_TEMPLATE, f"the pod template was refused: {_in_our_words(message)}")


def _in_our_words(message: str) -> str:
    message = re.sub(r'^[\w.]+ "[^"]*" is invalid: ', "", message)
    return message.replace("spec.template.", "spec.podTemplate.")
