"""Admission: what the schema cannot check, and what is without effect."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from berth.api import names
from berth.api.conditions import Reason
from berth.api.flags import OWNED_FLAGS
from berth.api.spec import Endpoint

_FLAG = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9-]*(\.[\w.-]+)?$")

# A qualified name: k8s.io/apimachinery/pkg/util/validation, which takes prefixes of annotations in any case.
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.IGNORECASE)

# Paths of spec.podTemplate that are Berth's, with what to do instead.
_POD_PATHS = {
    ("spec", "restartPolicy"): "remove it: pods of a Deployment are always restarted",
    ("spec", "terminationGracePeriodSeconds"): "use spec.rollout.drainSeconds, the grace period is 30 s more",
}
_SERVER_FIELDS = {
    "image": "use spec.server.image",
    "command": "remove it: the launcher runs vLLM",
    "args": "use spec.server.args and spec.server.extraArgs",
    "livenessProbe": "remove it: the launcher proves that the engine makes progress",
    "readinessProbe": "remove it: the launcher proves the engine with a token",
    "startupProbe": "remove it: a start is judged by its progress",
    "lifecycle": "use spec.rollout.drainSeconds",
    "ports": "use spec.service.port for the port that clients see",
}


class Refusal(NamedTuple):
    """Why a spec is not accepted: a reason and a sentence that names the field and the way out."""

    reason: Reason
    message: str


def refusals(ep: Endpoint) -> list[Refusal]:
    """Everything wrong with the spec that the API server could not refuse."""
    texts = (*_args(ep.spec.server.args), *_keys(ep), *_quantities(ep), *_rollout(ep), *_annotations(ep))
    found = [Refusal(Reason.INVALID_SPEC, text) for text in texts]
    return found + [Refusal(Reason.INVALID_POD_TEMPLATE, text) for text in _pod_template(ep.spec.pod_template)]


def no_gateway(ep: Endpoint, service: str, live: Mapping[Any, Any]) -> Iterator[Refusal]:
    """What may sleep needs somebody to wake it. service: the gateway's, "" where it does not serve this namespace.

    live: children, by kind and name.
    """
    if service or ep.spec.suspend or ep.spec.scaling is None or ep.spec.scaling.min > 0:
        return
    deployment = live.get(("Deployment", ep.name))
    asleep = deployment is not None and deployment["spec"].get("replicas", 1) == 0
    text = (
        f"spec.scaling.min is 0, and no gateway that serves namespace {ep.namespace} could hold requests while the "
        "endpoint wakes: install the chart with gateway.enabled and, unless gateway.namespaces is empty, with "
        f"{ep.namespace} among these, or set spec.scaling.min to 1 or more"
    )
    yield Refusal(Reason.GATEWAY_MISSING, f"{text}. It is asleep, and stays so until then" if asleep else text)


def _args(args: dict[str, Any]) -> Iterator[str]:
    for flag, value in args.items():
        path = f"spec.server.args[{flag}]"
        dashed = flag.replace("_", "-")
        if flag.startswith("-"):
            yield f"{path}: write the flag without leading dashes: {flag.lstrip('-')}"
        elif "_" in flag.split(".")[0]:
            instead = f" (and --{dashed} is set by Berth: {OWNED_FLAGS[dashed]})" if dashed in OWNED_FLAGS else ""
            yield f"{path}: vLLM's flags have dashes, not underscores: write {dashed}{instead}"
        elif flag in OWNED_FLAGS:
            yield f"{path}: --{flag} is set by Berth: {OWNED_FLAGS[flag]}"
        elif not _FLAG.match(flag):
            yield f"{path}: is not the name of a flag: use letters, digits and dashes, for example max-model-len"
        elif value is None:
            yield f"{path}: has no value: write true for a flag without a value, or remove it"


def _keys(ep: Endpoint) -> Iterator[str]:
    """vLLM checks a key of its own after ours: a client would need both, in different headers."""
    if ep.spec.server.api_key_secret_ref and any(var.name == "VLLM_API_KEY" for var in ep.spec.server.env):
        yield (
            "spec.server.env[VLLM_API_KEY]: spec.server.apiKeySecretRef is set and guards every path: remove "
            "the variable, and put its key into that Secret if clients use it"
        )


def _quantities(ep: Endpoint) -> Iterator[str]:
    for name in ep.spec.resources.requests:
        limit = ep.spec.resources.limits.get(name)
        if "/" in name and limit is None:
            yield (
                f"spec.resources.requests[{name}]: Kubernetes wants a limit for an extended resource: "
                f"set spec.resources.limits[{name}] to the same value"
            )


def _annotations(ep: Endpoint) -> Iterator[str]:
    """What the API server would refuse in the Service only after the Deployment has been changed."""
    for name in ep.spec.service.annotations:
        prefix, slash, own = name.rpartition("/")
        if not _NAME.fullmatch(own) or (slash and not (_PREFIX.fullmatch(prefix) and len(prefix) <= 253)):
            yield (
                f"spec.service.annotations[{name}]: is not the name of an annotation: at most 63 letters, digits, '-', "
                "'_' and '.', after an optional DNS name and a slash, for example example.com/note"
            )


def _rollout(ep: Endpoint) -> Iterator[str]:
    """Kubernetes refuses it too, but not while no pod serves: what is asked for then is 100%."""
    value = ep.spec.rollout.max_unavailable
    if isinstance(value, str) and int(value.rstrip("%")) > 100:
        yield f"spec.rollout.maxUnavailable: {value} must not be greater than 100%"


def _pod_template(template: dict[str, Any]) -> Iterator[str]:
    spec = _mapping(template.get("spec"))
    metadata = _mapping(template.get("metadata"))
    for name in template:
        if name not in ("metadata", "spec"):
            yield f"spec.podTemplate.{name}: a pod template has only metadata and spec: move or remove it"
    for label in (names.ENDPOINT_LABEL, names.MANAGED_BY_LABEL):
        if label in _mapping(metadata.get("labels")):
            yield f"spec.podTemplate.metadata.labels[{label}]: Berth selects pods by it: use another label"
    for (_, name), instead in _POD_PATHS.items():
        if name in spec:
            yield f"spec.podTemplate.spec.{name}: is set by Berth: {instead}"
    for container in _items(spec.get("containers")):
        if container.get("name") == names.SERVER_CONTAINER:
            for name, instead in _SERVER_FIELDS.items():
                if name in container:
                    yield f"spec.podTemplate.spec.containers[server].{name}: is set by Berth: {instead}"
    for container in _items(spec.get("initContainers")):
        if container.get("name") == names.PAYLOAD_CONTAINER:
            yield (
                f"spec.podTemplate.spec.initContainers[{names.PAYLOAD_CONTAINER}]: is Berth's own: "
                "give your init container another name"
            )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def ignored(ep: Endpoint) -> list[dict[str, str]]:
    """Fields of the spec that are set and without effect, as `status.ignored` lists them."""
    found = []
    scheme = ep.spec.model.source.partition("://")[0]
    if scheme != "hf":
        if ep.spec.storage.weights is not None:
            found.append(("spec.storage.weights", f"a {scheme}:// model is read where it lies, nothing is downloaded"))
        if ep.spec.model.secret_ref is not None:
            found.append(("spec.model.secretRef", f"a {scheme}:// model is read without a token"))
    if ep.spec.server.require_account and "ScaleEGP" not in ep.apis:
        found.append(("spec.server.requireAccount", "only ScaleEGP has accounts, and spec.server.apis is without it"))
    if ep.spec.scaling is not None and ep.spec.replicas != 1:
        found.append(("spec.replicas", "spec.scaling sets the number of replicas"))
    elif ep.spec.suspend and ep.spec.replicas not in (0, 1):
        found.append(("spec.replicas", "spec.suspend is true: there are no pods"))
    return [{"field": field, "why": why} for field, why in found]
