"""The launcher as a process: signals, reaping, probes, drain, termination message. The engine is a stub.

Inputs: what the stub is told to do, signals, the drain command. Outputs: probes, exit code, termination log.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.launcher.launched import PAYLOAD, Launched, until
from tests.hub import Hub
from tests.secret_volume import write_secret

STUB = Path(__file__).parents[2] / "stub_engine.py"
RECORDED = Path(__file__).parent / "recorded"


def install(directory: Path, version: str | None = "0.32.0", python: Path | str = sys.executable) -> Path:
    """A directory for PATH with a `vllm` that is the stub, and beside it what an installed vLLM leaves."""
    bin_directory = directory / "bin"
    bin_directory.mkdir()
    script = bin_directory / "vllm"
    script.write_text(f"#!{python}\n" + STUB.read_text())
    script.chmod(0o755)
    if version:
        info = directory / "site" / f"vllm-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[vllm.general_plugins]\nlora_filesystem_resolver = a:b\n")
    return bin_directory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("{}")
    return path


Launch = Callable[..., Launched]


@pytest.fixture
def launch(tmp_path: Path, model: Path) -> Launch:
    def start(
        stub: dict[str, Any] | None = None,
        version: str | None = "0.32.0",
        env: dict[str, str] | None = None,
        source: str = f"file://{model}",
        model: Path = model,
        options: Sequence[str] = (),
        wrapper: Sequence[str] = (),
    ) -> Launched:
        run = tmp_path / "run"
        run.mkdir()
        made = {"STUB_ENGINE": json.dumps(stub or {}), "PYTHONPATH": str(run / "site"), **(env or {})}
        return Launched(run, install(run, version), source, model, options, env=made, wrapper=wrapper)

    return start


def test_serves_and_ends_cleanly_when_told_to(launch: Launch) -> None:
    with launch() as launched:
        launched.until_ready()
        assert launched.progress()["phase"] == "Serving"
        assert launched.progress()["engine"] == {"version": "0.32.0"}
        assert launched.status("/livez") == 200
        assert launched.status("/anything") == 404
        assert launched.terminate() == 0
    assert launched.termination_log.read_text() == ""


def test_answers_while_it_loads_and_is_not_ready(launch: Launch) -> None:
    with launch({"loading": "once"}) as launched:
        until(lambda: launched.progress()["phase"] == "LoadingWeights", 10, "phase of the stub's output")
        assert launched.status("/livez") == 200
        assert launched.get("/readyz") == (503, "not yet ready: LoadingWeights\n")


def test_without_a_key_nothing_is_started(launch: Launch, tmp_path: Path) -> None:
    secret = write_secret(tmp_path / "secret", one="\n")
    with launch(env={"BERTH_KEYS_DIR": str(secret)}) as launched:
        code, message = launched.ended()
    assert (code, message["reason"]) == (1, "KeysMissing")
    assert "spec.server.apiKeySecretRef has no key in it" in message["message"]
    assert "StartingEngine" not in launched.text()


def test_vllm_gets_the_planned_command_offline_with_the_plugin_and_without_the_token(
    launch: Launch, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    with launch({"witness": str(witness)}, env={"HF_TOKEN": "hf_secret"}) as launched:
        launched.until_ready()
    assert "hf_secret" not in witness.read_text()
    seen = json.loads(witness.read_text())
    assert seen["command"] == launched.command[launched.command.index("--") + 2 :]
    environment = seen["environment"]
    assert environment["HF_HUB_OFFLINE"] == environment["TRANSFORMERS_OFFLINE"] == "1"
    assert environment["VLLM_PLUGINS"].split(",") == ["lora_filesystem_resolver", "berth"]
    assert environment["PYTHONPATH"].split(":")[0] == str(PAYLOAD)


def test_repeats_sigterm_that_a_loading_engine_loses(launch: Launch) -> None:
    with launch({"loading": "once"}) as launched:
        until(lambda: launched.progress()["phase"] == "LoadingWeights", 10, "loading")
        started = time.monotonic()
        assert launched.terminate() == 0
        assert time.monotonic() - started < 4.5  # the kill comes after 5 s


def test_kills_a_loading_engine_that_hears_no_sigterm(launch: Launch) -> None:
    with launch({"loading": "deaf"}) as launched:
        until(lambda: launched.progress()["phase"] == "LoadingWeights", 10, "loading")
        started = time.monotonic()
        assert launched.terminate() == 0
        assert time.monotonic() - started < 15


@pytest.mark.parametrize("recorded", ["unknown-flag", "unsupported-architecture"])
def test_a_failed_start_becomes_one_line_of_reason(launch: Launch, recorded: str) -> None:
    code = {"unknown-flag": 2, "unsupported-architecture": 1}[recorded]
    with launch({"output": str(RECORDED / f"{recorded}.txt"), "exit": code}) as launched:
        ended, message = launched.ended()
    assert ended == 1
    assert message["reason"] == {"unknown-flag": "UnknownEngineArgument"}.get(recorded, "UnsupportedArchitecture")
    assert len(launched.termination_log.read_bytes()) <= 3073
    # vLLM's own words are in the log, unchanged.
    assert (RECORDED / f"{recorded}.txt").read_text() in launched.text()


def test_the_engine_dying_under_a_server_is_a_failure_although_vllm_exits_0(launch: Launch) -> None:
    with launch() as launched:
        launched.until_ready()
        launched.tell_stub(exit=0)
        code, message = launched.ended()
    assert (code, message["reason"]) == (1, "EngineDied")


def test_a_kill_by_somebody_else_is_named(launch: Launch) -> None:
    with launch() as launched:
        launched.until_ready()
        launched.tell_stub(exit=-signal.SIGKILL)
        code, message = launched.ended()
    assert (code, message["reason"]) == (1, "EngineKilled")
    assert "SIGKILL" in message["message"]


def test_readiness_follows_the_engines_health_at_once(launch: Launch) -> None:
    with launch() as launched:
        launched.until_ready()
        launched.tell_stub(health=503)
        until(lambda: launched.status("/readyz") == 503, 15, "unready")
        assert launched.status("/livez") == 200
        launched.tell_stub(health=200)
        until(lambda: launched.status("/readyz") == 200, 15, "ready again")


def test_a_server_told_to_outlive_its_engine_is_ended(launch: Launch) -> None:
    """As with VLLM_KEEP_ALIVE_ON_ENGINE_DEATH: /health answers 503 for ever, everything else 200."""
    with launch() as launched:
        launched.until_ready()
        launched.tell_stub(health=503)
        code, message = launched.ended(120)
    assert (code, message["reason"]) == (1, "EngineDied")
    assert "/health answers 503" in message["message"]


def test_a_server_without_the_plugin_is_not_ready_but_failed(launch: Launch) -> None:
    with launch({"plugin": False}) as launched:
        code, message = launched.ended()
    assert (code, message["reason"]) == (1, "PluginFailed")


def test_a_server_that_cannot_complete_is_not_ready_but_failed(launch: Launch) -> None:
    with launch({"completion": 500}) as launched:
        code, message = launched.ended()
    assert (code, message["reason"]) == (1, "ProofFailed")
    assert "refused by the stub" in message["message"]


def test_an_image_without_vllm(launch: Launch) -> None:
    with launch(version=None) as launched:
        code, message = launched.ended()
    assert (code, message["reason"]) == (1, "VllmMissing")


def test_an_image_with_a_vllm_without_plugins(launch: Launch) -> None:
    with launch(version="0.25.1") as launched:
        code, message = launched.ended()
    assert (code, message["reason"]) == (1, "VllmTooOld")


def test_drain_waits_for_what_is_in_flight(launch: Launch) -> None:
    with launch() as launched:
        launched.until_ready()
        launched.tell_stub(in_flight=1)
        started = time.monotonic()
        drain, second = launched.drain(), launched.drain()
        until(lambda: launched.get("/readyz") == (503, "draining\n"), 15, "unready")
        assert launched.status("/livez") == 200
        assert launched.progress()["phase"] == "Draining"
        until(lambda: time.monotonic() - started > 5.5, 10, "the least time of a drain")
        assert drain.poll() is None
        launched.tell_stub(in_flight=0)
        assert drain.wait(10) == second.wait(10) == 0
        assert drain.stdout is not None
        assert "nothing is in flight" in drain.stdout.read()
        assert launched.terminate() == 0


def test_drain_ends_at_its_limit(launch: Launch) -> None:
    with launch(options=["--drain-seconds=1"]) as launched:
        launched.until_ready()
        launched.tell_stub(in_flight=1)
        output, _ = launched.drain().communicate(timeout=15)
        assert "limit of 1 s" in output


def test_drain_of_a_loading_server_is_over_at_once(launch: Launch) -> None:
    with launch({"loading": "once"}) as launched:
        until(lambda: launched.progress()["phase"] == "LoadingWeights", 10, "loading")
        output, _ = launched.drain().communicate(timeout=15)
        assert "not loaded" in output
        assert launched.status("/readyz") == 503


def test_drain_without_a_launcher_does_not_hold_up_the_pod(launch: Launch) -> None:
    assert launch().drain().wait(15) == 0


def test_only_its_user_may_ask_for_a_drain(launch: Launch) -> None:
    with launch() as launched:
        launched.until_ready()
        socket = launched.directory / "tmp" / "berth" / "launcher.sock"
        assert socket.stat().st_mode & 0o777 == 0o600


def test_a_killed_launcher_leaves_nothing_that_stops_the_next_one(launch: Launch) -> None:
    launched = launch()
    with launched:
        launched.until_ready()
        drain = launched.drain()
        until(lambda: launched.status("/readyz") == 503, 15, "draining")
        launched.kill()
        assert drain.wait(15) == 0
    with launched:
        launched.until_ready()


def test_reaps_orphans_as_process_1(launch: Launch) -> None:
    with launch({"orphans": 20}, wrapper=["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]) as launched:
        launched.until_ready()
        (unshared,) = Path(f"/proc/{launched.process.pid}/task/{launched.process.pid}/children").read_text().split()

        def states() -> list[str]:
            children = Path(f"/proc/{unshared}/task/{unshared}/children").read_text().split()
            return [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] for child in children]

        until(lambda: len(states()) == 1, 15, "only the engine left")
        assert "Z" not in states()
        os.kill(int(unshared), signal.SIGTERM)
        assert launched.process.wait(10) == 0


def test_downloads_from_the_hub_with_progress_and_serves(launch: Launch, tmp_path: Path) -> None:
    base = tmp_path / "hub" / "harbour" / "tiny"
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"w" * 500_000)
    volume = tmp_path / "weights"
    where = {
        "source": "hf://harbour/tiny",
        "model": volume / "harbour--tiny@main",
        "options": [f"--weights={volume}", "--secret=hf-token"],
    }
    with Hub(tmp_path / "hub", token="hf_valid", private=["harbour/tiny"]) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_valid"}
        launched = launch(env=env, **where)
        with launched:
            launched.until_ready()
            progress = launched.progress()
            assert progress["bytes"] == progress["total"] == 500_002
            assert launched.terminate() == 0
        hub.requests.clear()
        with launched:
            launched.until_ready()
        assert hub.requests == []
        assert "hf_valid" not in launched.text()


def test_a_download_tells_its_rate_what_is_left_and_the_commit(launch: Launch, tmp_path: Path) -> None:
    base = tmp_path / "hub" / "harbour" / "tiny"
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    (base / "notes.txt").write_bytes(b"n" * 60_000_000)
    volume = tmp_path / "weights"
    with Hub(tmp_path / "hub") as hub:
        hub.faults.bytes_per_second = 5_000_000
        where = {"source": "hf://harbour/tiny", "model": volume / "harbour--tiny@main"}
        with launch(env={"HF_ENDPOINT": hub.url}, options=[f"--weights={volume}"], **where) as launched:
            until(lambda: launched.progress()["bytes_per_second"], 60, "a rate")
            told = launched.progress()
            hub.faults.bytes_per_second = 0
            commit = hub.commit("harbour/tiny")
            assert (told["phase"], told["total"], told["revision"]) == ("Downloading", 60_000_002, commit)
            assert 0 < told["bytes"] < told["total"]
            # The library writes 10 MB at a time: a window of some seconds may hold one more than was sent in it.
            assert 0 < told["bytes_per_second"] < 15_000_000
            left_bytes = told["total"] - told["bytes"]
            assert told["seconds_left"] == pytest.approx(left_bytes / told["bytes_per_second"], rel=0.01)
            launched.until_ready(60)
            served = launched.progress()
            assert (served["revision"], served["bytes_per_second"], served["message"]) == (commit, None, "")


def test_a_download_told_to_end_ends_and_the_next_container_goes_on(launch: Launch, tmp_path: Path) -> None:
    base = tmp_path / "hub" / "harbour" / "tiny"
    base.mkdir(parents=True)
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    (base / "config.json").write_text("{}")
    (base / first).write_bytes(b"v" * 1_000_000)
    (base / second).write_bytes(b"w" * 24_000_000)
    volume = tmp_path / "weights"
    model = volume / "harbour--tiny@main"
    with Hub(tmp_path / "hub") as hub:
        hub.faults.hold, hub.faults.cut_bytes = second, 21_000_000  # the hub's library writes in steps of 10 MB
        launched = launch(
            env={"HF_ENDPOINT": hub.url}, source="hf://harbour/tiny", model=model, options=[f"--weights={volume}"]
        )
        with launched:
            until(lambda: (launched.progress()["bytes"] or 0) >= 21_000_000, 20, "most of the bytes")
            assert launched.progress()["phase"] == "Downloading"
            assert launched.progress()["total"] == 25_000_002
            launched.kill()
            (left,) = model.rglob("*.incomplete")
        hub.faults.cut_bytes = 1_000_000
        with launched:
            # It asks for what is missing of that file, and the hub holds most of that back too.
            until(lambda: hub.requests.count(f"GET /large/harbour/tiny/{second}") == 2, 20, "going on")
            assert left.exists()
            started = time.monotonic()
            assert launched.terminate() == 0
            assert time.monotonic() - started < 4.5  # the kill comes after 5 s
        hub.faults.hold = ""
        hub.faults.go_on.set()
        before, sent_bytes = len(hub.requests), hub.sent_bytes
        with launched:
            launched.until_ready()
        assert f"GET /large/harbour/tiny/{first}" not in hub.requests[before:]
        assert hub.sent_bytes - sent_bytes < 5_000_000
    assert list(model.rglob("*.incomplete")) == []


def test_weights_of_the_hub_that_vllm_cannot_read_are_checked_and_fetched_again(launch: Launch, tmp_path: Path) -> None:
    base = tmp_path / "hub" / "harbour" / "tiny"
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"w" * 500_000)
    volume = tmp_path / "weights"
    weights = volume / "harbour--tiny@main" / "model.safetensors"
    with Hub(tmp_path / "hub") as hub:
        launched = launch(
            env={"HF_ENDPOINT": hub.url}, source="hf://harbour/tiny", model=weights.parent,
            options=[f"--weights={volume}"],
        )  # fmt: skip
        with launched:
            launched.until_ready()
        before = weights.stat()
        weights.write_bytes(b"x" + b"w" * 499_999)
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
        sound = launched.env["STUB_ENGINE"]
        launched.env["STUB_ENGINE"] = json.dumps({"output": str(RECORDED / "damaged-header.txt"), "exit": 1})
        with launched:
            assert launched.ended()[1]["reason"] == "WeightsCorrupt"
        launched.env["STUB_ENGINE"] = sound
        with launched:
            assert "SHA-256" in launched.ended()[1]["message"]
        with launched:
            launched.until_ready()
        assert weights.read_bytes() == b"w" * 500_000
