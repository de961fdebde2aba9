"""What a serving vLLM has to do and how much it can, for whoever decides on the number of replicas. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from berth_server import protocol

_SERIES = re.compile(r"^vllm:(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def load(metrics: str, limits: Mapping[str, Any], own: int = 0) -> dict[str, Any]:
    """The body of /load: sums over the engines of one server, null for what is not known.

    own: completions that were asked for by the launcher itself. They are not among the requests: an endpoint that
    nobody else asks for anything is idle.

    metrics: vLLM's Prometheus text, empty for no answer.  limits: what the plugin says of the engine's configuration,
    max_num_seqs of one engine among it.  deferred: requests that wait for something else than room (an adapter,
    a grammar, a transfer), which more replicas would not help; they are part of waiting.
    """
    found: dict[str, float] = {}
    engines = cache_tokens = 0
    for name, text, value in _SERIES.findall(metrics):
        if name in _SUMMED:
            found[name] = found.get(name, 0.0) + float(value)
            engines += name == "num_requests_running"
        elif name == "num_requests_waiting_by_reason" and 'reason="deferred"' in text:
            found["deferred"] = found.get("deferred", 0.0) + float(value)
        elif name == "cache_config_info":
            size = dict(_LABEL.findall(text)).get("kv_cache_size_tokens", "")
            cache_tokens += int(size) if size.isdigit() else 0  # or None, as a text
    sequences, finished = limits.get("max_num_seqs"), found.get("request_generation_tokens_count")
    return {
        "v": protocol.VERSION,
        "running": found.get("num_requests_running"),
        "waiting": found.get("num_requests_waiting"),
        "deferred": found.get("deferred", 0.0),
        "max_num_seqs": sequences * engines if sequences and engines else None,
        "kv_cache_tokens": cache_tokens or None,
        "requests": None if finished is None else max(0.0, finished - own),
        "tokens": _sum(found, "request_prompt_tokens_sum", "request_generation_tokens_sum"),
    }


_SUMMED = (
    "num_requests_running",
    "num_requests_waiting",
    "request_prompt_tokens_sum",
    "request_generation_tokens_sum",
    "request_generation_tokens_count",
)


def _sum(found: Mapping[str, float], *names: str) -> float | None:
    values = [found[name] for name in names if name in found]
    return sum(values) if values else None
