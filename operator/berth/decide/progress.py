"""How far a start is, from the launchers' answers, in words that change only when something has moved.

Without a clock, and rounded: whatever changes here is a status write.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from berth.decide.observed import Object, Observed, is_ready

# As the launcher goes through them; it is not starting any more in the others.
PHASES = ("Preparing", "Downloading", "StartingEngine", "LoadingWeights", "WarmingUp", "Proving", "Serving")
_MIB, _GIB = 2**20, 2**30


def progress(seen: Observed) -> dict[str, Any] | None:
    """`status.progress`: phase and message of the starting pod that is furthest on; None while none has answered."""
    starting = [told for pod, told in _by_age(seen) if not is_ready(pod) and told.get("phase") in PHASES]
    if not starting:
        return None
    # Of several that share a download one fetches and the others say that they wait: not theirs.
    furthest = max(
        starting, key=lambda told: (PHASES.index(told["phase"]), not told.get("message"), told.get("bytes") or 0)
    )
    return {"phase": furthest["phase"], "message": progress_text(furthest)}


def revision(seen: Observed) -> str | None:
    """Commit of the weights that the youngest of the pods which tell it has."""
    return next((told["revision"] for _, told in _by_age(seen) if told.get("revision")), None)


def _by_age(seen: Observed) -> list[tuple[Object, Object]]:
    """Pods that have answered and their answers, the youngest first."""
    pods = sorted(seen.pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True)
    return [(pod, seen.progress[name]) for pod in pods if (name := pod["metadata"]["name"]) in seen.progress]


def progress_text(told: Mapping[str, Any]) -> str:
    """A launcher's answer as a few words: `Downloading 1.2 of 4.0 GiB, 120 MiB/s, 24 s left`."""
    phase = str(told.get("phase", "unknown"))
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", phase).capitalize()
    if phase == "Downloading" and told.get("bytes") is not None:
        words = ", ".join([f"{words} {_amount(told['bytes'], told.get('total'))}", *_rate(told)])
    return f"{words}; {told['message']}" if told.get("message") else words


def _amount(done: float, total: float | None) -> str:
    unit, name, digits = (_GIB, "GiB", 1) if (total or done) >= _GIB else (_MIB, "MiB", 0)
    of = f" of {total / unit:.{digits}f}" if total else ""
    return f"{done / unit:.{digits}f}{of} {name}"


def _rate(told: Mapping[str, Any]) -> list[str]:
    rate, left = told.get("bytes_per_second"), told.get("seconds_left")
    if rate is None:
        return []
    said = [f"{_two_digits(rate / _MIB)} MiB/s"]
    return [*said, f"{_duration(left)} left"] if left is not None else said


def _two_digits(value: float) -> str:
    if value < 0.01:
        return "0"
    return f"{round(value, 1 - math.floor(math.log10(value))):g}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{_two_digits(seconds)} s"
    if seconds < 90 * 60:
        return f"{_two_digits(seconds / 60)} min"
    return f"{_two_digits(seconds / 3600)} h"
