"""The launcher in front of real vLLM on the CPU.

Inputs: a model with random weights. Outputs: what the
kubelet, a client and the operator see. Nothing is mocked; one test holds the stub engine against the real one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.launcher.launched import CPU, EAGER, START_SECONDS, Launched, until
from tests.contracts.launcher.test_process import install

KEY = "sk-test"

Launch = Callable[..., Launched]


@pytest.fixture
def launch(python: Path, vllm_model: Path, tmp_path: Path) -> Launch:
    def start(env: dict[str, str] | None = None) -> Launched:
        made = {**CPU, **(env or {})}
        return Launched(tmp_path, python.parent, f"file://{vllm_model}", vllm_model, flags=EAGER, env=made)

    return start


def pooled(launched: Launched) -> contextlib.closing[http.client.HTTPConnection]:
    """A connection that a client keeps."""
    return contextlib.closing(http.client.HTTPConnection("127.0.0.1", launched.port, timeout=60))


def load(launched: Launched) -> dict[str, Any]:
    answer = launched.get("/load")
    assert answer is not None
    found: dict[str, Any] = json.loads(answer[1])
    return found


def stream(launched: Launched) -> dict[str, Any]:
    """A streamed completion: how it ended."""
    connection = http.client.HTTPConnection("127.0.0.1", launched.port, timeout=120)
    body = {"model": "tiny", "prompt": "the", "max_tokens": 1500, "stream": True, "ignore_eos": True}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    connection.request("POST", "/v1/completions", json.dumps(body), headers)
    response = connection.getresponse()
    events = [line.removeprefix(b"data: ").strip() for line in response if line.startswith(b"data: ")]
    return {"done": events[-1], "reason": json.loads(events[-2])["choices"][0]["finish_reason"], "tokens": len(events)}


def test_serves_drains_and_ends_with_a_stream_in_flight(launch: Launch) -> None:
    env = {"HF_TOKEN": "hf_secret", "VLLM_API_KEY": KEY, "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "620"}
    with launch(env=env) as launched, pooled(launched) as unused:
        launched.until_ready(START_SECONDS)
        unused.request("GET", "/v1/models")
        assert unused.getresponse().read()
        answer = launched.get("/berth/info", launched.port)
        assert answer is not None
        info = json.loads(answer[1])
        assert sorted(info["apis"]) == ["AlephAlpha", "LLMEngine", "OpenAI", "ScaleEGP"]
        assert info["model"] == "tiny"
        assert launched.progress()["engine"]["version"] == info["vllm"]
        idle = load(launched)
        assert (idle["running"], idle["waiting"], idle["deferred"]) == (0, 0, 0)
        assert idle["max_num_seqs"] == info["max_num_seqs"] > 0
        assert idle["kv_cache_tokens"] > 2048
        for pid in launched.members():
            assert b"hf_secret" not in Path(f"/proc/{pid}/environ").read_bytes()

        def refusal() -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection("127.0.0.1", launched.port, timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", "/v1/models")
                response = connection.getresponse()
                response.read()
                return response

        assert (refusal().status, refusal().getheader("connection")) == (401, None)
        result: dict[str, Any] = {}
        client = threading.Thread(target=lambda: result.update(stream(launched)))
        with launched.engine_comes_last(), launched.slowed():
            client.start()
            until(lambda: load(launched)["running"] == 1, 30, "a request in the launcher's load")
            drain = launched.drain()
            until(lambda: launched.status("/readyz") == 503, 15, "unready")
            # A refusal made by vLLM's outermost middleware closes too.
            assert (refusal().status, refusal().getheader("connection")) == (401, "close")
        output, _ = drain.communicate(timeout=120)
        assert "nothing is in flight and nobody is connected" in output
        assert unused.sock.recv(1) == b"", "a connection that nobody used was left to vLLM's end"
        client.join(5)
        assert not client.is_alive(), "the drain ended before the stream"
        assert result == {"done": b"[DONE]", "reason": "length", "tokens": result["tokens"]}
        assert launched.terminate() == 0
    assert launched.members() == []
    assert launched.termination_log.read_text() == ""
    log = launched.text()
    assert launched.phases() == ["StartingEngine", "LoadingWeights", "WarmingUp", "Proving", "Serving", "Draining"]
    assert not re.search(r'"GET /(health|metrics|berth/info) ', log), "the launcher's polling fills the log"


def test_the_death_of_the_engine_is_seen_at_once_and_told(launch: Launch) -> None:
    with launch() as launched:
        launched.until_ready(START_SECONDS)
        os.kill(launched.engine(), signal.SIGKILL)
        until(lambda: launched.status("/readyz") != 200, 15, "unready")
        code, message = launched.ended(60)
    assert (code, message["reason"]) == (1, "EngineDied")


def observed(launched: Launched) -> Iterator[object]:
    """One script of a pod's life, and what is seen from outside on the way."""
    with launched:
        launched.until_ready(START_SECONDS)
        yield launched.get("/livez")
        answer = launched.get("/berth/info", launched.port)
        assert answer is not None
        yield sorted(json.loads(answer[1]))
        yield launched.status("/nothing-here")
        output, _ = launched.drain().communicate(timeout=60)
        yield output.partition(": ")[2].partition(" s: ")[2]
        yield launched.get("/readyz")
        yield launched.progress()["phase"]
        yield launched.terminate()
    yield launched.termination_log.read_text()


def test_the_stub_engine_behaves_like_vllm(launch: Launch, vllm_model: Path, tmp_path: Path) -> None:
    run = tmp_path / "stub"
    run.mkdir()
    stub = Launched(run, install(run), f"file://{vllm_model}", vllm_model, env={"PYTHONPATH": str(run / "site")})
    assert list(observed(launch())) == list(observed(stub))
