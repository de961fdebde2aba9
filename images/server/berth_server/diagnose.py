"""From vLLM's exit and its last output to a reason that a person can act on. Pure.

Patterns are checked against recorded output (tests/contracts/launcher/recorded/), most of them against real vLLM
too; reasons.py says which, and what is suggested.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from berth_server.protocol import Failure

# `(EngineCore pid=7845) ERROR 11-21 02:50:25 [core.py:1510] `, each part optional.
_PREFIX = re.compile(r"^(?:\([\w\- ]*pid=\d+\) )?(?:[A-Z]+ [\d-]+ [\d:]+ \[[^\]]+\] ?)?")
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b(?::.*)?$")
# Exceptions that only say that another process failed; its own came before.
_WRAPPER = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|"
    r"EngineCore encountered an issue|EngineDeadError|cancelled|CancelledError"
)


@dataclass(frozen=True)
class _Pattern:
    """One known failure: what vLLM prints, and what to say of it. Groups of the expression fill the message."""

    reason: str
    expression: re.Pattern[str]
    message: str


def _known(reason: str, expression: str, message: str) -> _Pattern:
    return _Pattern(reason, re.compile(expression), message)


# In order from cause to symptom; the first that occurs anywhere in the output is the reason.
_PATTERNS = (
    _known(
        "UnknownEngineArgument",
        r"vllm(?: serve)?: error: unrecognized arguments: (?P<what>.*)",
        "This vLLM does not know the argument {what}.",
    ),
    _known(
        "InvalidEngineArgument",
        r"vllm(?: serve)?: error: (?P<what>.*)",
        "vLLM refuses its arguments: {what}.",
    ),
    _known(
        "DriverTooOld",
        r"(?P<what>The NVIDIA driver on your system is too old \(found version \d+\))",
        "The image needs a newer driver than the node has: {what}.",
    ),
    _known(
        "DeviceMissing",
        r"(?P<what>Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA driver on your system)",
        "vLLM finds no accelerator that it can use: {what}.",
    ),
    _known(
        "UnsupportedArchitecture",
        r"Model architectures \[(?P<what>[^\]]*)\] are not supported",
        "This vLLM does not support the model's architecture {what}.",
    ),
    _known(
        "UnsupportedArchitecture",
        r"has model type `(?P<what>[^`]*)` but Transformers does not recognize this architecture",
        "The transformers library of this image does not know the model type {what} of config.json.",
    ),
    _known(
        "TokenizerMissing",
        r"(?P<what>Couldn't instantiate the backend tokenizer|Can't load tokenizer for '[^']*')",
        "The model has no tokenizer that can be loaded: {what}.",
    ),
    _known(
        "PortInUse",
        r"\[Errno 98\] (?P<what>.*)",
        "A port that vLLM needs is taken: {what}.",
    ),
    _known(
        "KVCacheTooSmall",
        r"max seq len \((?P<wanted>\d+)\), \((?P<needed>[\d.]+ GiB) .*available KV cache memory "
        r"\((?P<free>[\d.]+ GiB)\)(?:.*estimated maximum model length is (?P<most>\d+))?",
        "One request of max-model-len {wanted} needs {needed} of KV cache and there are {free}; the largest "
        "max-model-len that fits is {most}.",
    ),
    _known(
        "KVCacheTooSmall",
        r"(?P<what>No available memory for the cache blocks)",
        "The weights leave no memory for the KV cache: {what}.",
    ),
    _known(
        "OutOfMemory",
        r"(?P<what>Available memory on node .* on kv cache allocation is less than requested memory for kv .*?GiB\))",
        "Not enough memory for the KV cache: {what}.",
    ),
    _known("OutOfMemory", r"(?P<what>DefaultCPUAllocator: (?:can't|not enough) [^.]*)", "{what}."),
    _known("DeviceOutOfMemory", r"(?P<what>CUDA out of memory\..*?)(?: If reserved|$)", "{what}."),
    _known(
        "DeviceOutOfMemory",
        r"(?P<what>Free memory on device .*? GiB\) on startup is less than .*? GiB\))",
        "{what}.",
    ),
    _known("DeviceFailed", r"(?P<what>CUDA error: .*)", "{what}."),
    _known(
        "SharedMemoryTooSmall",
        r"Insufficient space in \S+ for shared-memory allocation: (?P<what>.*? free)",
        "The pod's shared memory, volume berth-shm, is too small: {what}.",
    ),
    _known(
        "WeightsMissing",
        r"Cannot find any model weights with `(?P<what>[^`]*)`",
        "The model directory {what} holds no weights that vLLM can load.",
    ),
    _known("WeightsCorrupt", r"SafetensorError: (?P<what>.*)", "A weights file cannot be read: {what}."),
)


def bare(line: str) -> str:
    """A line of vLLM's output without process, level, time and source."""
    return _PREFIX.sub("", line, count=1)


def of_exit(code: int, lines: Sequence[str], proven: bool) -> Failure:
    """Why vLLM ended without having been told to.

    code: exit code, or minus the signal. lines: the last output, oldest first.  proven: it had served.
    """
    texts = [bare(line) for line in lines]
    cause = root_cause(texts)
    # Of a server that has served, only the error that ended it: before that the log may hold anybody's words.
    failure = _known_failure([cause] if cause else []) if proven else _known_failure(texts)
    if failure:
        return failure
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return Failure("EngineKilled", f"vLLM was killed by {name}.{_last_error(cause)}")
    if code == 0 or proven:
        said = _last_error(cause) or " It left no error, as when one of its processes is killed."
        return Failure("EngineDied", f"vLLM ended by itself with exit code {code}: its engine died.{said}")
    said = _last_error(cause or (texts[-1] if texts else None))
    return Failure("EngineExited", f"vLLM ended with exit code {code} before it served.{said}")


def _known_failure(texts: Sequence[str]) -> Failure | None:
    for pattern in _PATTERNS:
        for text in texts:
            found = pattern.expression.search(text)
            if found:
                said = {name: (value or "unknown").strip().rstrip(".") for name, value in found.groupdict().items()}
                return Failure(pattern.reason, pattern.message.format(**said))
    refused = _refused_value(texts)
    return Failure("InvalidEngineArgument", f"vLLM refuses the configuration: {refused}") if refused else None


def _last_error(cause: str | None) -> str:
    return f" Its last error: {cause.strip()}" if cause else ""


def root_cause(texts: Sequence[str]) -> str | None:
    """The last exception in lines without prefix that is not merely about another process's failure."""
    causes = [text for text in texts if _EXCEPTION.match(text) and not _WRAPPER.search(text)]
    return causes[-1].strip() if causes else None


def _refused_value(texts: Sequence[str]) -> str | None:
    """What a pydantic error of vLLM's configuration says, without its trailer."""
    said = [text.strip() for text in texts if text.startswith("  Value error, ")]
    if not said:
        return None
    return re.sub(r"\s*\[type=.*$", "", said[-1].removeprefix("Value error, "))
