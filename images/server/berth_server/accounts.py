"""Counts what each account of Scale EGP has used, on vLLM's /metrics."""

from __future__ import annotations

from typing import Any

MOST_ACCOUNTS = 500
"""Accounts that have series of their own. Whoever sends requests chooses the names."""
OTHERS = "other"
NONE = "none"


class Accounts:
    """The counters `berth_account_requests_total` and `berth_account_tokens_total`.

    registry: of prometheus_client, which every vLLM image has; None is its default one, which vLLM shows.
    """

    def __init__(self, registry: Any = None) -> None:
        from prometheus_client import REGISTRY, Counter

        registry = registry or REGISTRY
        self._requests = Counter(
            "berth_account_requests",
            f"Completions by account: `{NONE}` without one, `{OTHERS}` beyond {MOST_ACCOUNTS} accounts",
            ["account"],
            registry=registry,
        )
        self._tokens = Counter(
            "berth_account_tokens",
            "Tokens of completions by account and kind: prompt or completion",
            ["account", "kind"],
            registry=registry,
        )
        self._known: set[str] = set()

    def count(self, account: str, prompt_tokens: int, completion_tokens: int) -> None:
        """One completion."""
        name = account[:100] or NONE
        if name not in self._known:
            if len(self._known) >= MOST_ACCOUNTS:
                name = OTHERS
            self._known.add(name)
        self._requests.labels(name).inc()
        self._tokens.labels(name, "prompt").inc(prompt_tokens)
        self._tokens.labels(name, "completion").inc(completion_tokens)
