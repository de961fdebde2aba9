"""The client libraries behave as recorded: what they send, and what they make of an answer.

Inputs: the calls and answers of tests/fixtures/apis. Outputs: the requests and outcomes beside them. Each runs the
real library against a server that gives the recorded answers, so that a newer release that behaves otherwise is seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clients.player import Player
from tests.clients.recording import Recording

FIXTURES = Path(__file__).parents[2] / "fixtures" / "apis"
RECORDED = [(path, json.loads(path.read_text())) for path in sorted(FIXTURES.glob("*/*.json"))]
CASES = [pytest.param(case, id=f"{path.parent.name}/{path.stem}") for path, case in RECORDED if case["client"]]
KEYS = {"llm-engine": "sk-test", "scale-egp": "key", "aleph-alpha": "tok"}

Play = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[Recording]:
    with Recording() as recording:
        yield recording


@pytest.fixture(scope="module")
def play(server: Recording) -> Iterator[Play]:
    """Plays a recorded call; one process for each library, version and key."""
    players: dict[tuple[str | None, ...], Player] = {}
    with ExitStack() as stack:

        def play(case: dict[str, Any]) -> dict[str, Any]:
            package, version = case["client"]["package"], case["client"]["version"]
            # Without a key scale-llm-engine sends this word.
            sent = case["exchanges"][0]["request"]["headers"].get("x-api-key")
            key = None if sent == "root" else KEYS[case["api"]]
            who = (package, version, key)
            if who not in players:
                players[who] = stack.enter_context(Player(package, version, server.url, key))
            return players[who].play(case["call"])

        yield play


def test_every_recording_of_a_client_is_played() -> None:
    assert len(CASES) == 140


@pytest.mark.parametrize("case", CASES)
def test_a_client_behaves_as_recorded(case: dict[str, Any], server: Recording, play: Play) -> None:
    server.will_answer([exchange["response"] for exchange in case["exchanges"]])
    assert play(case) == case["outcome"]
    assert len(server.requests) == len(case["exchanges"])
    for sent, exchange in zip(server.requests, case["exchanges"], strict=True):
        expected = exchange["request"]
        headers = {name: sent["headers"].get(name) for name in expected["headers"]}
        assert {**sent, "headers": headers} == expected
