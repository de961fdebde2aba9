"""Starting programs that keep running, and waiting until they really serve."""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from local.errors import LocalError

# The program dies with the thread that started it, also when that is killed with SIGKILL.
DIES_WITH_US = ("setpriv", "--pdeathsig=KILL")

_POLL_SECONDS = 0.05
_LOG_LINES_SHOWN = 15


def spawn(command: Sequence[str], log: Path, wrapper: Sequence[str] = DIES_WITH_US) -> subprocess.Popen[bytes]:
    """Starts `command` in a session of its own (so that Ctrl-C does not reach it), output appended to `log`.

    wrapper: a command that executes the one that follows it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [*wrapper, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until(
    ready: Callable[[], bool],
    what: str,
    timeout_seconds: float,
    alive: Callable[[], bool] = lambda: True,
    log: Path | None = None,
) -> None:
    """Returns once `ready()`; raises LocalError with the end of `log` on timeout or as soon as `alive()` is false.

    what: the thing waited for, such as "kube-apiserver to answer /readyz".
    """
    deadline = time.monotonic() + timeout_seconds
    while not ready():
        if not alive():
            raise LocalError(f"waited for {what}, but the process ended{_log_end(log)}")
        if time.monotonic() > deadline:
            raise LocalError(f"waited {timeout_seconds:.0f}s for {what} in vain{_log_end(log)}")
        time.sleep(_POLL_SECONDS)


def _log_end(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
    return f". The end of {log}:\n" + "\n".join(f"  {line}" for line in lines)
