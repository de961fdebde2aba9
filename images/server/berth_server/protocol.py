"""Version 1 of what the launcher says to the outside: probes, termination message, drain socket.

Probes, GET on port 8001: /livez and /readyz answer 200 or 503 with a line of text that says why;
/progress answers 200 with `{"v", "phase", "bytes", "total", "bytes_per_second", "seconds_left", "revision", "seconds",
"engine": {"version"}, "message"}`; bytes and rate of the download, null when unknown; revision: the weights' commit;
seconds since the launcher started;
/load answers 200 with `{"v", "running", "waiting", "deferred", "max_num_seqs", "kv_cache_tokens", "requests",
"tokens"}`: requests now, limits of the engines, requests finished since the start, without the launcher's own, and
their tokens, prompt and completion together; null when unknown.
Termination message, the file /dev/termination-log: one line `{"v", "reason", "message", "suggestion"}`.
Drain, a unix socket that only the container's user may open: `drain` + newline in, blocks, one line of
`{"v", "drained": true, "seconds", "why"}` out.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping

from berth_server.reasons import REASONS

VERSION = 1
PROBES_PORT = 8001
TERMINATION_MESSAGE_BYTES = 3072

# The one variable that tests set: a machine that is not a container has no /dev/termination-log.
TERMINATION_LOG_VARIABLE = "BERTH_TERMINATION_LOG"

PREPARING = "Preparing"
DOWNLOADING = "Downloading"
STARTING_ENGINE = "StartingEngine"
LOADING_WEIGHTS = "LoadingWeights"
WARMING_UP = "WarmingUp"
PROVING = "Proving"
SERVING = "Serving"
DRAINING = "Draining"
FAILED = "Failed"
PHASES = (
    PREPARING,
    DOWNLOADING,
    STARTING_ENGINE,
    LOADING_WEIGHTS,
    WARMING_UP,
    PROVING,
    SERVING,
    DRAINING,
    FAILED,
)


class Failure(Exception):
    """Why the server cannot run: a reason of `reasons.REASONS`, a message for people, what to do.

    suggestion: where more is known than the reason's own suggestion says.
    """

    def __init__(self, reason: str, message: str, suggestion: str = "") -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.suggestion = suggestion or REASONS[reason].suggestion


def termination_line(failure: Failure) -> str:
    """The JSON line for the termination log, at most TERMINATION_MESSAGE_BYTES long; the message is cut to fit."""
    message, suggestion = failure.message.strip(), failure.suggestion[:800]

    def line(text: str) -> str:
        fields = {"v": VERSION, "reason": failure.reason, "message": text, "suggestion": suggestion}
        return json.dumps(fields, ensure_ascii=False)

    whole = line(message)
    while len(whole.encode()) > TERMINATION_MESSAGE_BYTES:
        excess = len(whole.encode()) - TERMINATION_MESSAGE_BYTES
        # A character takes at most 6 bytes, so this never cuts too much.
        message = message[: -(excess // 6 + 1)]
        whole = line(message + "…")
    return whole


def termination_log(env: Mapping[str, str]) -> str:
    """Path of the file whose content the kubelet puts into the container status."""
    return env.get(TERMINATION_LOG_VARIABLE, "/dev/termination-log")


def runtime_directory() -> str:
    """Directory of the drain socket and flag: /tmp/berth in the pod, below TMPDIR elsewhere."""
    return os.path.join(tempfile.gettempdir(), "berth")


def socket_path(directory: str) -> str:
    """The drain socket."""
    return os.path.join(directory, "launcher.sock")


def draining_flag(directory: str) -> str:
    """A file that exists while draining; every API server process of vLLM looks at it."""
    return os.path.join(directory, "draining")
