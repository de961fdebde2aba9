"""The examples of clients, as they are: they print what the test model knows by heart, once whole and once streamed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from local.model import PAGE
from tests.clients.player import environment, python_of
from tests.contracts.apis.calls import CLIENTS
from tests.contracts.apis.conftest import NAMES, Endpoint

EXAMPLES = Path(__file__).parents[3] / "examples" / "clients"
OF = {client.package: client for client in CLIENTS}
LIBRARIES = {
    "aleph_alpha": "aleph-alpha-client",
    "egp_v2": "scale-egp",
    "llm_engine": "scale-llm-engine",
    "openai_v1": "openai",
    "sgp_v4": "scale-gp",
    "sgp_v5": "scale-gp-beta",
}
PROMPT = PAGE[: PAGE.index(" One showed the hour")]


def test_every_example_is_run() -> None:
    assert sorted(LIBRARIES) == sorted(path.stem for path in EXAMPLES.glob("*"))


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_example(name: str, endpoint: Endpoint) -> None:
    client, path = OF[LIBRARIES[name]], EXAMPLES / f"{name}.py"
    assert len(path.read_text().splitlines()) <= 20
    env = environment(client.package, endpoint.url + client.base, endpoint.key)
    command = [python_of(client.package, client.version), path, NAMES[0], PROMPT]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    whole, streamed = done.stdout.split(" 32\n")
    assert whole == streamed.removesuffix("\n")
    assert PAGE.startswith(PROMPT + whole)
    assert len(whole.split()) > 16
