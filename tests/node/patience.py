"""How long the real clients wait by default: docs/gateway.md has the same table. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.contracts.apis.calls import Client

FOR_EVER = float("inf")
IMPATIENT = ("0.0.0a1", "0.0.0b3", "0.0.0b12")
"""Generations of scale-llm-engine whose own limit of 10 s is shorter than any wake."""


class Patience(NamedTuple):
    """For how long a client waits by default: for the next byte, in all, and how often it asks by itself."""

    between_bytes_seconds: float
    in_all_seconds: float = FOR_EVER
    attempts: int = 1


def patience(client: Client, way: str) -> Patience:
    """Of a client called in one of its ways, as its code has it."""
    asynchronous = way.startswith("async")
    if client.package == "scale-llm-engine":
        seconds = 10.0 if client.version in IMPATIENT else 300.0
        return Patience(seconds, seconds if asynchronous else FOR_EVER)
    if client.package == "aleph-alpha-client":
        return Patience(305.0, 305.0 if asynchronous else FOR_EVER, attempts=9)
    if client.package == "scale-egp":
        return Patience(60.0)
    if client.package == "openai":
        return Patience(600.0, attempts=3)
    return Patience(60.0, attempts=3)


def survives(client: Client, way: str, wake_seconds: float) -> bool:
    """Whether a wake of this length is within the client's own limits.

    Streams of LLM Engine are told every five seconds that they wait, so there is no silence.
    """
    has = patience(client, way)
    is_told = client.package == "scale-llm-engine" and "stream" in way
    silence_seconds = 0.0 if is_told else wake_seconds
    return silence_seconds < has.between_bytes_seconds * has.attempts and wake_seconds < has.in_all_seconds


def by_default(call: str) -> str:
    """The call without the limits that other tests set in it."""
    for given in (", timeout=300", "max_retries=0, ", "max_retries=0", ", total_retries=0"):
        call = call.replace(given, "")
    return call


def is_timeout(outcome: dict[str, Any]) -> bool:
    """Whether this outcome of a call, as tests/clients/play.py tells it, is a limit of the client's own."""
    told = f"{outcome.get('type')} {outcome.get('bases')} {outcome.get('message')}".lower()
    return outcome["kind"] == "raised" and any(word in told for word in ("timeout", "timed out"))


def words(client: Client, way: str) -> str:
    """For a table."""
    has = patience(client, way)
    limit = f"{has.between_bytes_seconds:.0f} s without a byte"
    if has.in_all_seconds != FOR_EVER:
        limit = f"{has.in_all_seconds:.0f} s in all"
    return limit + (f", {has.attempts} attempts" if has.attempts > 1 else "")
