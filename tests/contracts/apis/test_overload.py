"""An engine whose queue is full: each client raises what it raises for 503, and is told when to try again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.clients.player import Player
from tests.contracts.apis.calls import CLIENTS, Client
from tests.contracts.apis.conftest import COUNTING, KEY, NAMES, started, taken
from tests.contracts.launcher.launched import Launched, until

# Of the older generations of Scale LLM Engine the first: the others treat a status alike.
NEWEST = [client for client in CLIENTS if client.version not in ("0.0.0b3", "0.0.0b12", "0.0.0b22")]
HEADERS = {"x-api-key": KEY}
RAW: dict[str, Any] = {
    f"/llm-engine/v1/llm/completions-sync?model_endpoint_name={NAMES[0]}": {
        "prompt": "a",
        "max_new_tokens": 1,
        "temperature": 0,
    },
    "/egp/v4/completions": {"model": NAMES[0], "prompt": "a", "model_parameters": {"max_tokens": 1}},
    "/aleph-alpha/complete": {"model": NAMES[0], "prompt": "a", "maximum_tokens": 1},
}


def expected(client: Client, way: str) -> str:
    """The exception that the client's contract names for 503."""
    if client.package == "scale-llm-engine":
        return "llmengine.errors." + ("ServerError" if client.version == "0.0.0b45" else "UnknownError")
    if client.package == "scale-egp":
        return "builtins.ValueError" if "stream" in way else "scale_egp.exceptions.EGPException"
    module = {"openai": "openai", "scale-gp": "scale_gp", "scale-gp-beta": "scale_gp_beta"}.get(client.package)
    return f"{module}.InternalServerError" if module else "aleph_alpha_client.aleph_alpha_client.BusyError"


@contextmanager
def full(launched: Launched, url: str) -> Iterator[None]:
    """The queue's one place is taken, by a request that the frozen engine does not get done."""
    with ThreadPoolExecutor(1) as pool:
        with launched.frozen():
            body = {"model": NAMES[0], "prompt": "a", "max_tokens": 1}
            first = pool.submit(httpx.post, f"{url}/v1/completions", json=body, headers=HEADERS, timeout=600)
            until(lambda: taken(url) == 1, 60, "the first request taken")
            yield
        assert first.result().status_code == 200


def test_a_full_queue_is_an_exception_that_says_when_to_try_again(tmp_path: Path) -> None:
    with started(tmp_path, "--max-num-queued-reqs", "1", COUNTING) as launched:
        url = f"http://127.0.0.1:{launched.port}"
        for path, body in RAW.items():
            with full(launched, url):
                refused = httpx.post(url + path, json=body, headers=HEADERS, timeout=60)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1"), (path, refused.text)
        for client in NEWEST:
            with Player(client.package, client.version, url + client.base, KEY) as player, full(launched, url):
                for way in client.calls:
                    outcome = player.play(client.call(way, NAMES[0], "a", 1))
                    found = (outcome["kind"], outcome.get("type"))
                    assert found == ("raised", expected(client, way)), (client, way, outcome)
