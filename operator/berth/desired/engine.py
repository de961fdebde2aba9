"""The words that run vLLM: planned here, run by the launcher as they are."""

import json

from berth.api import names
from berth.api.quantity import parse_quantity
from berth.api.spec import Endpoint
from berth.desired.platform import Platform

# vLLM's own shutdown after the drain: what is left of the 30 s between drainSeconds and the grace period's end.
SHUTDOWN_TIMEOUT_SECONDS = 20
GRACE_AFTER_DRAIN_SECONDS = 30


def model_path(ep: Endpoint) -> str:
    """Directory of the model inside the server container."""
    scheme, _, rest = ep.spec.model.source.partition("://")
    if scheme == "hf":
        return f"{names.WEIGHTS_PATH}/{rest.replace('/', '--')}@{(ep.spec.model.revision or 'main').replace('/', '--')}"
    if scheme == "pvc":
        return "/".join([names.MODEL_PATH, *rest.strip("/").split("/")[1:]])
    return "/" + rest.strip("/")


def accelerator_count(ep: Endpoint, platform: Platform) -> int:
    """Whole accelerators that a pod asks for, over all resource names that count as such."""
    values = (parse_quantity(ep.spec.resources.limits.get(name, 0)) for name in platform.accelerators)
    return sum(int(value) for value in values if value is not None)


def flag_words(flag: str, value: object) -> list[str]:
    """One entry of `spec.server.args` as words: true, false, list and object have the meaning the field documents."""
    if value is True:
        return [f"--{flag}"]
    if value is False:
        return [f"--no-{flag}"]
    if isinstance(value, list):
        return [f"--{flag}", *(_word(item) for item in value)]
    return [f"--{flag}", _word(value)]


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), sort_keys=True)


def command(ep: Endpoint, platform: Platform) -> list[str]:
    """The command line of vLLM for this endpoint; user arguments come last."""
    words = ["vllm", "serve", model_path(ep), "--served-model-name", *ep.served_names]
    words += ["--port", str(names.SERVER_PORT), "--shutdown-timeout", str(SHUTDOWN_TIMEOUT_SECONDS)]
    gpus = accelerator_count(ep, platform)
    if gpus > 1 and "tensor-parallel-size" not in ep.spec.server.args:
        words += ["--tensor-parallel-size", str(gpus)]
    for flag, value in sorted(ep.spec.server.args.items()):
        words += flag_words(flag, value)
    return words + list(ep.spec.server.extra_args)


def image(ep: Endpoint, platform: Platform) -> str:
    """Image of the server container."""
    return ep.spec.server.image or platform.server_image
