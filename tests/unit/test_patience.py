"""What the tests at zero take for the clients' own limits."""

import re
from typing import Any

import pytest

from tests.contracts.apis.calls import CLIENTS, Client
from tests.node.patience import IMPATIENT, by_default, is_timeout, patience, survives, words

CALLS = [
    pytest.param(client, way, id=f"{client.package} {client.version} {way}")
    for client in CLIENTS
    for way in client.calls
]


def of(package: str, version: str = "") -> Client:
    return next(client for client in CLIENTS if client.package == package and version in client.version)


@pytest.mark.parametrize(("client", "way"), CALLS)
def test_no_call_by_default_sets_a_limit(client: Client, way: str) -> None:
    given = client.call(way, "m", "Hello", 4)
    call = by_default(given)
    assert not re.search(r"timeout|retries", call), call
    compile(call, "call", "eval")
    if client.package != "scale-egp":
        assert call != given


def test_the_clients_that_give_up_first_are_those_that_are_told_apart() -> None:
    limits = {client.version: patience(client, "sync").between_bytes_seconds for client in CLIENTS}
    assert tuple(version for version, seconds in limits.items() if seconds < 60) == IMPATIENT


@pytest.mark.parametrize(
    ("package", "version", "way", "wake_seconds", "expected"),
    [
        ("openai", "", "sync", 1700, True),
        ("scale-llm-engine", "0.0.0a1", "sync", 40, False),
        ("scale-llm-engine", "0.0.0a1", "stream", 40, True),  # comments come more often than its limit
        ("scale-llm-engine", "0.0.0a1", "async stream", 40, False),  # its limit is for all of it
        ("scale-llm-engine", "0.0.0b45", "sync", 299, True),
        ("scale-llm-engine", "0.0.0b45", "sync", 301, False),
        ("scale-egp", "", "sync", 59, True),
        ("scale-egp", "", "stream", 61, False),
        ("scale-gp", "", "sync", 170, True),
        ("aleph-alpha-client", "", "async", 306, False),
    ],
)
def test_a_wake_is_within_a_clients_limits_or_not(
    package: str, version: str, way: str, wake_seconds: float, expected: bool
) -> None:
    assert survives(of(package, version), way, wake_seconds) is expected


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ({"kind": "raised", "type": "requests.exceptions.ReadTimeout", "bases": ["Timeout"], "message": "x"}, True),
        ({"kind": "raised", "type": "builtins.TimeoutError", "bases": ["OSError"], "message": ""}, True),
        (
            {
                "kind": "raised",
                "type": "requests.exceptions.ConnectionError",
                "bases": [],
                "message": "Read timed out.",
            },
            True,
        ),
        ({"kind": "raised", "type": "openai.NotFoundError", "bases": ["APIError"], "message": "no such model"}, False),
        ({"kind": "returned", "value": "timeout"}, False),
    ],
)
def test_a_clients_own_timeout_is_known_by_its_words(outcome: dict[str, Any], expected: bool) -> None:
    assert is_timeout(outcome) is expected


def test_limits_are_told_in_words() -> None:
    assert words(of("openai"), "sync") == "600 s without a byte, 3 attempts"
    assert words(of("scale-llm-engine", "0.0.0b12"), "async") == "10 s in all"
