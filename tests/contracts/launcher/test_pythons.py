"""The payload on every CPython of a vLLM image: the oldest that vLLM 0.26 takes, the newest that vLLM 0.32 takes.

Inputs: interpreters without third-party packages, the stub engine, every warning an error. Outputs: what the kubelet
sees. Not here: the plugin in vLLM and the hub's library; they run on the Pythons of real vLLM, oldest and newest.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from local import pythons
from tests.contracts.launcher.launched import PAYLOAD, Launched, until
from tests.contracts.launcher.test_process import RECORDED, install

SECONDS = 120
VERSIONS = sorted({*pythons.UNPACKED, pythons.THIS})
LOAD = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import berth_server
names = [module.name for module in pkgutil.iter_modules(berth_server.__path__, "berth_server.")]
print(*map(importlib.import_module, names), sep="\\n")
"""


@pytest.fixture(params=VERSIONS)
def interpreter(request: pytest.FixtureRequest) -> Path:
    return pythons.ensure(request.param)


def launch(directory: Path, interpreter: Path, **stub: object) -> Launched:
    model = directory / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    env = {
        "PYTHONPATH": str(directory / "site"),
        "PYTHONWARNINGS": "error",
        "STUB_ENGINE": json.dumps(stub),
    }
    script = install(directory, python=interpreter)
    return Launched(directory, script, f"file://{model}", model, env=env, python=interpreter)


def test_every_module_loads_without_a_warning(interpreter: Path, tmp_path: Path) -> None:
    command = [interpreter, "-I", "-W", "error", "-X", f"pycache_prefix={tmp_path}", "-c", LOAD, PAYLOAD]
    loaded = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert len(loaded.stdout.splitlines()) == len(list((PAYLOAD / "berth_server").glob("*.py"))) - 1


def test_serves_drains_and_ends(interpreter: Path, tmp_path: Path) -> None:
    with launch(tmp_path, interpreter) as launched:
        launched.until_ready(SECONDS)
        assert launched.progress()["engine"] == {"version": "0.32.0"}
        assert launched.status("/livez") == 200
        output, _ = launched.drain().communicate(timeout=SECONDS)
        assert "nothing is in flight" in output
        assert launched.get("/readyz") == (503, "draining\n")
        assert launched.terminate() == 0
    assert launched.phases() == ["StartingEngine", "Proving", "Serving", "Draining"]
    assert (launched.termination_log.read_text(), launched.members()) == ("", [])
    assert "Warning" not in launched.text()


def test_says_why_vllm_did_not_start(interpreter: Path, tmp_path: Path) -> None:
    recorded = str(RECORDED / "unknown-flag.txt")
    with launch(tmp_path, interpreter, output=recorded, exit=2) as launched:
        code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, "UnknownEngineArgument")


def test_ends_a_start_that_hears_no_sigterm(interpreter: Path, tmp_path: Path) -> None:
    with launch(tmp_path, interpreter, loading="deaf") as launched:
        until(lambda: launched.progress()["phase"] == "LoadingWeights", SECONDS, "loading")
        assert launched.terminate() == 0
    assert launched.members() == []
