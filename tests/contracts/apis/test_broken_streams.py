"""An engine that dies while it answers: what each client makes of it. A text cut off must never look complete.

Inputs: one endpoint, every client in the middle of a stream or of a plain call, and then its engine is killed.
Outputs: the exception that each client names, or for Scale LLM Engine's streams, which raise none, a last item.
"""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from local.model import PAGE
from tests.clients.player import Player
from tests.contracts.apis.calls import CLIENTS, Client
from tests.contracts.apis.conftest import COUNTING, KEY, NAMES, started, taken
from tests.contracts.launcher.launched import until

STREAMS = {
    "openai": "openai.APIError",
    "scale-egp": "builtins.ValueError",
    "scale-gp": "scale_gp.APIStatusError",
    "scale-gp-beta": "json.decoder.JSONDecodeError",
    "aleph-alpha-client": "builtins.ValueError",
}
PLAIN = {"scale-egp": "scale_egp.exceptions.EGPException", "aleph-alpha-client": "builtins.RuntimeError"}
# From here to the end of the page there are so many that all calls are under way together.
PROMPT = PAGE[: PAGE.index(" One showed the hour")]
TOKENS = 1500


def ways(client: Client) -> dict[bool, str]:
    """A stream, and a plain call of some."""
    return {"stream" in way: way for way in client.calls if "stream" in way or client.package in PLAIN}


def generated(url: str) -> float:
    """Tokens that the engine has generated."""
    metrics = httpx.get(f"{url}/metrics", headers={"x-api-key": KEY}, timeout=60).text
    tokens = re.search(r"^vllm:generation_tokens_total\{.*\} ([\d.]+)$", metrics, re.MULTILINE)
    assert tokens
    return float(tokens[1])


def test_no_client_takes_an_answer_cut_off_for_a_whole_one(tmp_path: Path) -> None:
    newest = [client for client in CLIENTS if client.version not in ("0.0.0b3", "0.0.0b12", "0.0.0b22")]
    with started(tmp_path, COUNTING) as launched, ExitStack() as stack:
        url = f"http://127.0.0.1:{launched.port}"
        players = [
            (client, way, stack.enter_context(Player(client.package, client.version, url + client.base, KEY)))
            for client in newest
            for way in ways(client).values()
        ]
        pool = stack.enter_context(ThreadPoolExecutor(len(players)))

        def begin(tokens: int) -> list[tuple[Client, str, Future[dict[str, Any]]]]:
            return [
                (client, way, pool.submit(player.play, client.call(way, NAMES[0], PROMPT, tokens)))
                for client, way, player in players
            ]

        # The first call of a library takes longer than an answer: it imports what it needs.
        for client, way, future in begin(1):
            client.read(way, future.result())

        # Behind everybody else: an answer must not end before the test has looked.
        stack.enter_context(launched.engine_comes_last())
        before = generated(url)
        with launched.frozen():
            made = begin(TOKENS)
            until(lambda: taken(url) == len(made), 300, "all calls taken")
        until(lambda: generated(url) - before >= 10 * len(made), 300, "the middle of the answers")
        with launched.frozen():
            assert taken(url) == len(made)
            os.kill(launched.engine(), signal.SIGKILL)
        for client, way, future in made:
            outcome = future.result(120)
            who = f"{client.package} {client.version} {way}: {str(outcome)[:500]}"
            if client.package == "scale-llm-engine" and "stream" in way:
                assert outcome["kind"] == "yielded", who
                last = outcome["items"][-1]
                assert last["output"] is None, who
                assert last.get("status") == "FAILURE" or last["error"]["status_code"] >= 500, who
                continue
            assert outcome["kind"] == "raised", who
            assert outcome["type"] == (STREAMS if "stream" in way else PLAIN)[client.package], who
