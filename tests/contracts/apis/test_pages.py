"""Every code block of the published pages, with the same calls, arguments and printed fields.

The two guides of Scale LLM Engine (one names the model with model=, the older one with model_name=), a copy of the
first that lost its arguments but has the branch for errors, and the page of Aleph Alpha. Scale's page "Create
Completion" has no code; its parameters are in test_scale_egp.py. The blocks are the scripts in pages/: each runs in
an environment with the client and knows no more than an address and a key.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.player import environment, python_of
from tests.contracts.apis.calls import CLIENTS, Client
from tests.contracts.apis.conftest import Endpoint, Own

PAGES = Path(__file__).parent / "pages"
MODEL_NAME, *MODEL = (client for client in CLIENTS if client.package == "scale-llm-engine")
(ALEPH_ALPHA,) = (client for client in CLIENTS if client.package == "aleph-alpha-client")
REASONS = "maximum_tokens|end_of_text|stop_sequence_reached"


def run(block: str, client: Client, endpoint: Endpoint, directory: Path) -> subprocess.CompletedProcess[str]:
    command = [python_of(client.package, client.version), "-P", PAGES / f"{block}.py"]
    env = environment(client.package, endpoint.url + client.base, endpoint.key)
    return subprocess.run(command, env=env, cwd=directory, capture_output=True, text=True, timeout=300, check=False)


def printed(block: str, client: Client, endpoint: Endpoint, directory: Path) -> str:
    done = run(block, client, endpoint, directory)
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_version(client: Client) -> str:
    return client.version


@pytest.mark.parametrize("client", MODEL, ids=with_version)
def test_the_guide_completes(client: Client, endpoint: Endpoint, tmp_path: Path) -> None:
    first, rest = printed("llm_engine_completion", client, endpoint, tmp_path).split("\n", 1)
    response = json.loads(first)
    assert response["request_id"]
    assert response["output"]["num_completion_tokens"] == 10
    assert response["output"]["text"]
    assert rest == response["output"]["text"] + "\n"


@pytest.mark.parametrize("block", ["llm_engine_stream", "llm_engine_stream_with_errors"])
@pytest.mark.parametrize("client", MODEL, ids=with_version)
def test_the_guide_streams(client: Client, block: str, endpoint: Endpoint, tmp_path: Path) -> None:
    text = printed(block, client, endpoint, tmp_path)
    assert len(text.split()) > 100
    assert "status_code" not in text


@pytest.mark.parametrize("client", MODEL, ids=with_version)
def test_the_guide_completes_asynchronously(client: Client, endpoint: Endpoint, tmp_path: Path) -> None:
    response = json.loads(printed("llm_engine_async", client, endpoint, tmp_path))
    assert response["output"]["num_completion_tokens"] == 10


@pytest.mark.parametrize("block", ["llm_engine_model_name_completion", "llm_engine_model_name_async"])
def test_the_older_guide_completes(block: str, endpoint: Endpoint, tmp_path: Path) -> None:
    response = json.loads(printed(block, MODEL_NAME, endpoint, tmp_path))
    assert [output["num_completion_tokens"] for output in response["outputs"]] == [10]
    assert response["outputs"][0]["text"]


def test_the_older_guide_streams(endpoint: Endpoint, tmp_path: Path) -> None:
    lines = printed("llm_engine_model_name_stream", MODEL_NAME, endpoint, tmp_path).splitlines()
    outputs = [json.loads(line)["output"] for line in lines]
    assert [output["finished"] for output in outputs] == [False] * (len(outputs) - 1) + [True]
    assert outputs[-1]["num_completion_tokens"] == 5


def test_aleph_alphas_page_completes(endpoint: Endpoint, tmp_path: Path) -> None:
    assert len(printed("aleph_alpha_completion", ALEPH_ALPHA, endpoint, tmp_path).split()) > 5


def test_aleph_alphas_page_gives_several(endpoint: Endpoint, tmp_path: Path) -> None:
    text = printed("aleph_alpha_several", ALEPH_ALPHA, endpoint, tmp_path)
    block = rf"Completion {{}}: (.*)\nFinish reason: ({REASONS})\n"
    found = re.fullmatch("".join(block.format(number) for number in (1, 2, 3)), text, re.DOTALL)
    assert found, text
    assert not any("\n\n" in completion for completion in found.groups()[::2])


def test_aleph_alphas_page_shows_log_probabilities(endpoint: Endpoint, own: Own, tmp_path: Path) -> None:
    lines = printed("aleph_alpha_log_probs", ALEPH_ALPHA, endpoint, tmp_path).splitlines()
    shown: list[dict[str, Any]] = [ast.literal_eval(line.removeprefix("Token probabilities: ")) for line in lines]
    answer = own(prompt="The capital of France is", max_tokens=10, temperature=0, logprobs=5, echo=True)
    first, *expected = answer["choices"][0]["logprobs"]["top_logprobs"]
    assert (shown[0], first) == ({}, None)
    assert [{**found} for found in shown[1:]] == [pytest.approx(tokens, abs=1e-4) for tokens in expected]
    assert len(shown) == answer["usage"]["total_tokens"]


def test_aleph_alphas_page_streams(endpoint: Endpoint, tmp_path: Path) -> None:
    text = printed("aleph_alpha_stream", ALEPH_ALPHA, endpoint, tmp_path)
    found = re.fullmatch(rf"(.+)\nStream 0 finished: ({REASONS})\nTotal tokens generated: (\d+)\n", text, re.DOTALL)
    assert found, text
    assert 0 < int(found[3]) <= 500


def test_aleph_alphas_page_sends_an_image_to_a_model_of_text(endpoint: Endpoint, tmp_path: Path) -> None:
    """That a model of images describes it is shown on one, elsewhere."""
    drawing = "from PIL import Image; Image.new('RGB', (8, 8), 'red').save('image.jpg')"
    python = python_of(ALEPH_ALPHA.package, ALEPH_ALPHA.version)
    subprocess.run([python, "-c", drawing], cwd=tmp_path, check=True)
    done = run("aleph_alpha_image", ALEPH_ALPHA, endpoint, tmp_path)
    assert done.returncode == 1
    assert re.search(r"ValueError: \(400, .*multimodal", done.stderr), done.stderr
