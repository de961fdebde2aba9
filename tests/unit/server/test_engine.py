"""The planned command read, and the environment of vLLM made."""

import json
from pathlib import Path

import pytest

from berth_server import engine, launcher
from berth_server.protocol import Failure

COMMAND = ["vllm", "serve", "/m", "--served-model-name", "a", "b", "--port", "8000"]


def test_reads_what_the_launcher_must_know() -> None:
    planned = engine.read_command(COMMAND, {})
    assert (planned.model_path, planned.served_name, planned.host, planned.port) == ("/m", "a", "127.0.0.1", 8000)
    assert planned.api_key is None


def test_a_user_flag_after_ours_wins_as_it_does_in_vllm() -> None:
    planned = engine.read_command(
        [*COMMAND, "--port=9000", "--host", "10.0.0.7", "--api-key", "k"], {"VLLM_API_KEY": "e"}
    )
    assert (planned.host, planned.port, planned.api_key) == ("10.0.0.7", 9000, "k")
    assert engine.read_command([*COMMAND, "--host=0.0.0.0"], {"VLLM_API_KEY": "e"}).host == "127.0.0.1"
    assert engine.read_command([*COMMAND, "--host=::"], {"VLLM_API_KEY": "e"}).api_key == "e"


@pytest.mark.parametrize("command", [[], ["vllm"], ["vllm", "serve"], ["vllm", "serve", "--port"], ["bash", "-c", "x"]])
def test_refuses_what_is_not_vllm_serve(command: list[str]) -> None:
    with pytest.raises(ValueError, match="vllm serve <model path>"):
        engine.read_command(command, {})


def test_finds_the_python_that_runs_the_vllm_script(tmp_path: Path) -> None:
    python = tmp_path / "long name"
    python.mkdir()
    python = tmp_path / "venv" / "python3.12"
    python.parent.mkdir()
    python.write_text("")
    python.chmod(0o755)
    script = tmp_path / "vllm"
    script.chmod(0o755) if script.exists() else None
    for head in (f"#!{python}\n", f"#!/bin/sh\n'''exec' '{python}' \"$0\" \"$@\"\n"):
        script.write_text(head)
        script.chmod(0o755)
        assert engine.resolve({"PATH": str(tmp_path)}) == (str(script), str(python))


def test_without_a_script_vllm_is_run_as_a_module(tmp_path: Path) -> None:
    script, python = engine.resolve({"PATH": str(tmp_path)})
    planned = engine.read_command(COMMAND, {})
    assert engine.argv(planned, script, python) == [python, "-m", "vllm.entrypoints.cli.main", *COMMAND[1:]]
    assert engine.argv(planned, "/bin/vllm", python) == ["/bin/vllm", *COMMAND[1:]]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, "lora_filesystem_resolver,mine,berth"),
        ("", "berth"),
        ("only_this", "only_this,berth"),
        ("berth,other", "berth,other"),
    ],
)
def test_the_plugin_joins_what_is_allowed_already(named: str | None, expected: str) -> None:
    assert engine.with_plugin(named, ["lora_filesystem_resolver", "mine"]) == expected


def test_vllm_gets_no_token_and_stays_offline() -> None:
    env = {"HF_TOKEN": "t", "HUGGING_FACE_HUB_TOKEN": "t", "PYTHONPATH": "/x", "HOME": "/tmp", "HF_HUB_OFFLINE": "0"}
    assert engine.environment(env, "/opt/berth", ["p"]) == {
        "PYTHONPATH": "/opt/berth:/x",
        "HOME": "/tmp",
        "VLLM_PLUGINS": "p,berth",
        "HF_HUB_OFFLINE": "0",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_MAX_STOP_STRINGS": "64",
    }


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "VllmMissing"),
        ("Traceback (most recent call last):", "VllmMissing"),
        (json.dumps({"version": None, "plugins": []}), "VllmMissing"),
        (json.dumps({"version": "0.9.2", "plugins": []}), "VllmTooOld"),
        (json.dumps({"version": "0.25.1+cu129", "plugins": []}), "VllmTooOld"),
    ],
)
def test_refuses_images_it_cannot_serve_with(output: str, reason: str) -> None:
    with pytest.raises(Failure) as raised:
        engine.read_inspection(output, "/usr/bin/python3")
    assert raised.value.reason == reason
    assert "spec.server.image" in raised.value.suggestion


@pytest.mark.parametrize("version", ["0.26.0", "0.32.0+cpu", "1.0.0", "0.1.dev1+g1234", "0.26.0rc1"])
def test_accepts_releases_with_plugins_and_builds_from_source(version: str) -> None:
    assert engine.read_inspection(json.dumps({"version": version, "plugins": []}), "p")["version"] == version


def test_how_vllm_is_ended() -> None:
    assert launcher.shutdown_plan(proven=False, alive=True) == (0.5, 5.0)
    # vLLM's own limit is 20 s, the pod's 30 s.
    assert launcher.shutdown_plan(proven=True, alive=True) == (None, 27.0)
    assert launcher.shutdown_plan(proven=True, alive=False) == (None, 0.0)


def test_the_token_is_the_secrets_key_hf_token_and_else_its_key_token() -> None:
    assert engine.with_token({"BERTH_HF_TOKEN": "second"})["HF_TOKEN"] == "second"
    assert engine.with_token({"HF_TOKEN": "first", "BERTH_HF_TOKEN": "second"})["HF_TOKEN"] == "first"
    assert "HF_TOKEN" not in engine.with_token({})
    assert (
        engine.environment(engine.with_token({"BERTH_HF_TOKEN": "second"}), "/p", ())
        .keys()
        .isdisjoint({"HF_TOKEN", "BERTH_HF_TOKEN"})
    )
