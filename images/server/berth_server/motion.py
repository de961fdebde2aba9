"""Whether the engine of a serving vLLM moves: its /health stays at 200 over an engine that is stuck. Pure.

The engine moves when its gauges and counters do. It is stuck when they have not for STILL_SECONDS although somebody
waits: requests are in flight, or the launcher's own. Of requests that came to an engine already stuck vLLM counts
none, so while clients are connected and nothing has moved for QUIET_SECONDS, the launcher asks for a token itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

QUIET_SECONDS = 60.0
# vLLM itself ends an engine whose workers have not done a step for 300 s, and says more of it: let it go first.
STILL_SECONDS = 330.0

_VITAL = re.compile(
    r"^vllm:(?:num_requests_running|num_requests_waiting|kv_cache_usage_perc|prompt_tokens_total|generation_tokens_total)"
    r"(?:\{[^}]*\})? \S+$",
    re.MULTILINE,
)
_WAITING = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_ASLEEP = re.compile(r'^vllm:engine_sleep_state\{[^}]*sleep_state="awake"[^}]*\} 0(?:\.0)?$', re.MULTILINE)


@dataclass(frozen=True)
class Motion:
    """What is known at one moment; times in monotonic seconds. asked_at: since when a token of ours is awaited."""

    vitals: str = ""
    in_flight: float = 0.0
    moved_at: float = 0.0
    asked_at: float | None = None


def in_flight(metrics: str) -> float | None:
    """Sum of running and waiting requests in a Prometheus text; None when the series are not there."""
    values = [float(value) for value in _WAITING.findall(metrics)]
    return sum(values) if values else None


def after(motion: Motion, metrics: str, now: float) -> Motion:
    """Motion after one more look at the metrics.

    metrics: the Prometheus text, empty for no answer. Without it, without the series (--disable-log-stats) or with an
    engine put to sleep nothing can be told, which counts as motion.
    """
    vitals = "\n".join(_VITAL.findall(metrics))
    if not vitals or vitals != motion.vitals or _ASLEEP.search(metrics):
        return Motion(vitals, in_flight(metrics) or 0.0, moved_at=now)
    return motion


def must_ask(motion: Motion, connected: bool, now: float) -> bool:
    """Whether it is time to ask for a token. connected: somebody has a connection to vLLM's port."""
    idle = bool(motion.vitals) and not motion.in_flight and motion.asked_at is None
    return idle and connected and now - motion.moved_at > QUIET_SECONDS


def asked(motion: Motion, now: float) -> Motion:
    return replace(motion, asked_at=now)


def answered(motion: Motion, now: float) -> Motion:
    """Our request was answered, whatever the answer."""
    return replace(motion, asked_at=None, moved_at=now)


def stuck(motion: Motion, now: float) -> bool:
    return still_seconds(motion, now) > STILL_SECONDS


def still_seconds(motion: Motion, now: float) -> float:
    """For how long somebody has waited without any motion; 0 when nobody waits."""
    if motion.asked_at is not None:
        return now - max(motion.asked_at, motion.moved_at)
    return now - motion.moved_at if motion.in_flight else 0.0
