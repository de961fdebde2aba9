"""One endpoint for the tests beside this file: the launcher, real vLLM, Berth's plugin and the test model.

Served under the names of the published pages, and it wants a key: clients are given an address and a key, no more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from local import model
from tests.clients.player import Player
from tests.contracts.apis.calls import Client
from tests.contracts.launcher.launched import CPU, EAGER, START_SECONDS, Launched

NAMES = ("llama-7b", "falcon-7b-instruct", "luminous-extended")
KEY = "sk-of-the-tests"


@dataclass(frozen=True)
class Endpoint:
    """url: scheme, host and port; each API is below it."""

    url: str
    key: str


@contextmanager
def started(directory: Path, *more: str, weights: Path | None = None) -> Iterator[Launched]:
    """A launcher with vLLM, ready; directory: an empty one.  more: of flags.  weights: the test model's when absent."""
    path = os.environ.get("BERTH_VLLM_PYTHON")
    assert path, "set BERTH_VLLM_PYTHON to the Python of an environment with vLLM"
    weights = weights or model.ensure()
    (directory / "keys").mkdir()
    (directory / "keys" / "key").write_text(KEY)
    env = {**CPU, "BERTH_KEYS_DIR": str(directory / "keys")}
    flags = (*EAGER, "--served-model-name", *NAMES, *more)
    with Launched(directory, Path(path).parent, f"file://{weights}", weights, flags=flags, env=env) as launched:
        yield launched.until_ready(START_SECONDS)


COUNTING = "--enable-server-load-tracking"
"""For `taken`."""


def taken(url: str) -> int:
    """Requests that vLLM's server has taken and not answered, also while its engine is frozen."""
    answer = httpx.get(f"{url}/load", headers={"x-api-key": KEY}, timeout=60)
    return int(answer.raise_for_status().json()["server_load"])


@pytest.fixture(scope="session")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with started(tmp_path_factory.mktemp("endpoint")) as found:
        yield found


@pytest.fixture(scope="session")
def endpoint(launched: Launched) -> Endpoint:
    return Endpoint(f"http://127.0.0.1:{launched.port}", KEY)


class Play(Protocol):
    """Plays a call of a client library against the endpoint: what came of it, as tests/clients/play.py tells it."""

    def __call__(self, client: Client, call: str, key: str = ...) -> dict[str, Any]: ...


@contextmanager
def playing(endpoint: Endpoint) -> Iterator[Play]:
    """One process for each library and key."""
    players: dict[tuple[str, str, str], Player] = {}
    with ExitStack() as stack:

        def play(client: Client, call: str, key: str = endpoint.key) -> dict[str, Any]:
            who = (client.package, client.version, key)
            if who not in players:
                player = Player(client.package, client.version, endpoint.url + client.base, key)
                players[who] = stack.enter_context(player)
            return players[who].play(call)

        yield play


@pytest.fixture(scope="session")
def play(endpoint: Endpoint) -> Iterator[Play]:
    with playing(endpoint) as play:
        yield play


Own = Callable[..., dict[str, Any]]
"""A completion of vLLM's own API, by its parameters."""


@contextmanager
def asking(endpoint: Endpoint) -> Iterator[Own]:
    """Asks vLLM's own API for a completion with these parameters, once for the same ones."""
    known: dict[str, dict[str, Any]] = {}
    headers = {"Authorization": f"Bearer {endpoint.key}"}
    with httpx.Client(base_url=endpoint.url, headers=headers, timeout=300) as http:

        def ask(**parameters: Any) -> dict[str, Any]:
            which = repr(sorted(parameters.items()))
            if which not in known:
                response = http.post("/v1/completions", json={"model": NAMES[0], **parameters})
                assert response.status_code == 200, response.text
                known[which] = response.json()
            return known[which]

        yield ask


@pytest.fixture(scope="session")
def own(endpoint: Endpoint) -> Iterator[Own]:
    with asking(endpoint) as ask:
        yield ask
