"""A real vLLM that hangs: its engine behind a healthy server, then the server itself.

Inputs: SIGSTOP and SIGCONT, and the launcher with shorter limits than its own, which are minutes.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.launcher.launched import CPU, EAGER, PAYLOAD, START_SECONDS, Launched, until
from tests.contracts.launcher.test_process import install

SECONDS = 120
SHORT = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
from berth_server import motion, progress, watch
watch.MOTION_SECONDS, motion.QUIET_SECONDS, motion.STILL_SECONDS = 0.5, 2.0, 10.0
progress.UNANSWERED_READY_SECONDS, progress.UNANSWERED_ALIVE_SECONDS = 10.0, 20.0
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def with_short_limits(launched: Launched) -> Launched:
    at = launched.command.index(str(PAYLOAD))
    launched.command[at - 1 : at] = [sys.executable, "-c", SHORT]
    return launched


@contextlib.contextmanager
def idle_client(launched: Launched) -> Iterator[None]:
    """Somebody who keeps a connection and asks nothing."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", launched.port, timeout=60)) as connection:
        connection.request("GET", "/version")
        connection.getresponse().read()
        yield


def tokens(launched: Launched) -> float:
    answer = launched.get("/metrics", launched.port)
    assert answer is not None
    return sum(map(float, re.findall(r"^vllm:generation_tokens_total\S* (\S+)$", answer[1], re.MULTILINE)))


@pytest.mark.timeout(2 * START_SECONDS)
def test_an_engine_that_hangs_behind_a_healthy_server(python: Path, vllm_model: Path, tmp_path: Path) -> None:
    environment = {**CPU, "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "3600"}
    launched = Launched(tmp_path, python.parent, f"file://{vllm_model}", vllm_model, flags=EAGER, env=environment)
    with with_short_limits(launched):
        launched.until_ready(START_SECONDS)
        with idle_client(launched):
            proven = tokens(launched)
            until(lambda: tokens(launched) > proven, SECONDS, "a token that the launcher asks for")
            assert launched.status("/livez") == launched.status("/readyz") == 200
            os.kill(launched.engine(), signal.SIGSTOP)
            until(lambda: launched.status("/livez") == 503, SECONDS, "the hang seen")
            assert launched.status("/readyz") == 503
            assert launched.status("/livez") == 503
            assert launched.get("/health", launched.port) == (200, "")
            os.kill(launched.engine(), signal.SIGCONT)
            until(lambda: launched.status("/livez") == launched.status("/readyz") == 200, SECONDS, "well again")
            os.kill(launched.engine(), signal.SIGSTOP)
            until(lambda: launched.status("/livez") == 503, SECONDS, "the hang seen again")
            assert "the engine is hung" in launched.drain().communicate(timeout=SECONDS)[0]
            launched.process.send_signal(signal.SIGTERM)
            code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, "EngineHung")
    assert "vLLM answers /health, but" in message["message"]
    assert launched.members() == []


def test_a_server_that_hangs(tmp_path: Path) -> None:
    """The stub is enough: it is stopped as a whole."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    env = {"PYTHONPATH": str(tmp_path / "site")}
    with with_short_limits(Launched(tmp_path, install(tmp_path), f"file://{model}", model, env=env)) as launched:
        launched.until_ready(SECONDS)
        (server,) = launched.members()
        os.kill(server, signal.SIGSTOP)
        until(lambda: launched.status("/readyz") == 503, SECONDS, "unready")
        until(lambda: launched.status("/livez") == 503, SECONDS, "the hang seen")
        launched.process.send_signal(signal.SIGTERM)
        code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, "EngineHung")
    assert "has not answered /health" in message["message"]
