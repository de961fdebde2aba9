"""The words that run vLLM: planned here, run by the launcher as they are."""

import json
import math

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
    if (size := _tensor_parallel_size(ep, platform)) > 1:
        words += ["--tensor-parallel-size", str(size)]
    for flag, value in sorted(ep.spec.server.args.items()):
        words += flag_words(flag, value)
    return words + list(ep.spec.server.extra_args)


def _tensor_parallel_size(ep: Endpoint, platform: Platform) -> int:
    """Accelerators left for it once pipeline and data parallelism have theirs; 0 when the user says it.

    When they do not divide, vLLM's own message about the numbers is the best there is.
    """
    args = ep.spec.server.args
    others = [args.get(flag, 1) for flag in ("pipeline-parallel-size", "data-parallel-size")]
    if "tensor-parallel-size" in args or not all(isinstance(size, int) and size > 0 for size in others):
        return 0
    return int(accelerator_count(ep, platform) // math.prod(others))


def image(ep: Endpoint, platform: Platform) -> str:
    """Image of the server container."""
    return ep.spec.server.image or platform.server_image
