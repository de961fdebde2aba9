"""The launcher in front of real vLLM on the CPU.

Inputs: BERTH_VLLM_PYTHON, the Python of an environment with vLLM, and a model with random weights. Outputs: what the
kubelet, a client and the operator see. Nothing is mocked; one test holds the stub engine against the real one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.launcher.launched import Launched, until
from tests.contracts.launcher.test_process import install

FLAGS = ("--max-model-len", "2048", "--enforce-eager")
START_SECONDS = 240
KEY = "sk-test"


@pytest.fixture(scope="module")
def python() -> Path:
    path = os.environ.get("BERTH_VLLM_PYTHON")
    assert path, "set BERTH_VLLM_PYTHON to the Python of an environment with vLLM"
    return Path(path)


@pytest.fixture(scope="module")
def model(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    subprocess.run([python, Path(__file__).with_name("tiny_model.py"), directory], check=True, capture_output=True)
    return directory


Launch = Callable[..., Launched]


@pytest.fixture
def launch(python: Path, model: Path, tmp_path: Path) -> Launch:
    def start(*flags: str, path: Path = model, env: dict[str, str] | None = None) -> Launched:
        made = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", **(env or {})}
        return Launched(tmp_path, python.parent, f"file://{path}", path, flags=[*FLAGS, *flags], env=made)

    return start


def group_members(launched: Launched) -> list[int]:
    """Pids of vLLM's processes: of the session that the launcher's child leads."""
    children, members = launched.children(), []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) in children:
                members.append(int(stat.parent.name))
    return members


def living(pids: list[int]) -> list[int]:
    """Those that still run. Outside of a container nobody may reap what a killed process leaves."""

    def lives(pid: int) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False

    return [pid for pid in pids if lives(pid)]


def pooled(launched: Launched) -> contextlib.closing[http.client.HTTPConnection]:
    """A connection that a client keeps."""
    return contextlib.closing(http.client.HTTPConnection("127.0.0.1", launched.port, timeout=60))


def stream(launched: Launched, started: threading.Event) -> dict[str, Any]:
    """A streamed completion on a pooled connection: how it ended, and what the response said of the connection."""
    connection = http.client.HTTPConnection("127.0.0.1", launched.port, timeout=120)
    body = {"model": "tiny", "prompt": "the", "max_tokens": 1500, "stream": True, "ignore_eos": True}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    connection.request("POST", "/v1/completions", json.dumps(body), headers)
    response = connection.getresponse()
    events = []
    for line in response:
        if line.startswith(b"data: "):
            events.append(line.removeprefix(b"data: ").strip())
            started.set()
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
        assert info["apis"] == ["OpenAI"]
        assert info["model"] == "tiny"
        assert launched.progress()["engine"]["version"] == info["vllm"]
        for pid in group_members(launched):
            assert b"hf_secret" not in Path(f"/proc/{pid}/environ").read_bytes()

        def refusal() -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection("127.0.0.1", launched.port, timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", "/v1/models")
                response = connection.getresponse()
                response.read()
                return response

        assert (refusal().status, refusal().getheader("connection")) == (401, None)
        started, result = threading.Event(), {}
        client = threading.Thread(target=lambda: result.update(stream(launched, started)))
        client.start()
        assert started.wait(60)
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
        members = group_members(launched)
        assert launched.terminate() == 0
    until(lambda: not living(members), 15, "all of vLLM's processes gone")
    assert launched.termination_log.read_text() == ""
    log = launched.text()
    phases = re.findall(r"^\(berth\) [\d.]+ s: (\w+)$", log, re.MULTILINE)
    assert phases == ["StartingEngine", "LoadingWeights", "WarmingUp", "Proving", "Serving", "Draining"]
    assert not re.search(r'"GET /(health|metrics|berth/info) ', log), "the launcher's polling fills the log"


def test_the_death_of_the_engine_is_seen_at_once_and_told(launch: Launch) -> None:
    with launch() as launched:
        launched.until_ready(START_SECONDS)
        (engine,) = (
            pid for pid in group_members(launched) if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(engine, signal.SIGKILL)
        until(lambda: launched.status("/readyz") != 200, 15, "unready")
        code, message = launched.ended(60)
    assert (code, message["reason"]) == (1, "EngineDied")


def test_ends_quickly_in_the_middle_of_loading(launch: Launch) -> None:
    with launch() as launched:
        # The moment in which vLLM waits for its engine and loses a SIGTERM.
        until(lambda: "Initializing a V1 LLM engine" in launched.text(), START_SECONDS, "the engine starting")
        members = group_members(launched)
        launched.process.send_signal(signal.SIGTERM)
        assert launched.process.wait(10) == 0
    until(lambda: not living(members), 15, "all of vLLM's processes gone")


def broken_config(path: Path) -> None:
    config = path / "config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "HarbourForCausalLM"))


def cut_weights(path: Path) -> None:
    os.truncate(path / "model.safetensors", 100_000)


@pytest.mark.parametrize(
    ("flags", "damage", "reason"),
    [
        (["--nope", "1"], None, "UnknownEngineArgument"),
        ([], broken_config, "UnsupportedArchitecture"),
        ([], cut_weights, "WeightsCorrupt"),
    ],
)
def test_real_failures_have_the_recorded_reasons(
    launch: Launch, model: Path, tmp_path: Path, flags: list[str], damage: Callable[[Path], None] | None, reason: str
) -> None:
    path = tmp_path / "model"
    shutil.copytree(model, path)
    if damage:
        damage(path)
    with launch(*flags, path=path) as launched:
        code, message = launched.ended(START_SECONDS)
    assert (code, message["reason"]) == (1, reason)


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


def test_the_stub_engine_behaves_like_vllm(launch: Launch, model: Path, tmp_path: Path) -> None:
    run = tmp_path / "stub"
    run.mkdir()
    stub = Launched(run, install(run), f"file://{model}", model, env={"PYTHONPATH": str(run / "site")})
    assert list(observed(launch())) == list(observed(stub))
