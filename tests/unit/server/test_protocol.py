"""The termination line, the payload's version, and what the image takes along."""

import json
import tomllib
from pathlib import Path

import pytest

import berth_server
from berth_server import cli, plugin, protocol
from berth_server.protocol import Failure

ROOT = Path(__file__).parents[3]
PAYLOAD = ROOT / "images" / "server"


def test_the_termination_line_is_one_line_of_the_contract() -> None:
    line = protocol.termination_line(Failure("Why", "it\nbroke", "do this"))
    assert "\n" not in line
    assert json.loads(line) == {"v": 1, "reason": "Why", "message": "it\nbroke", "suggestion": "do this"}


@pytest.mark.parametrize("text", ["x" * 5000, "ü" * 5000, "\U0001f6a2" * 3000, '"' * 5000, "\x00" * 2000])
def test_a_long_message_is_cut_to_what_the_kubelet_keeps(text: str) -> None:
    line = protocol.termination_line(Failure("Why", text, "s" * 2000))
    assert len(line.encode()) <= protocol.TERMINATION_MESSAGE_BYTES
    assert len(line.encode()) > protocol.TERMINATION_MESSAGE_BYTES - 100
    assert json.loads(line)["message"].endswith("…")


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert berth_server.__version__ == project["version"]
    (info,) = PAYLOAD.glob("*.dist-info")
    assert info.name == f"berth-{berth_server.__version__}.dist-info"
    assert f"Version: {berth_server.__version__}\n" in (info / "METADATA").read_text()
    assert info.name in (PAYLOAD / "Dockerfile").read_text()


def test_the_entry_point_is_a_callable_without_arguments() -> None:
    (info,) = PAYLOAD.glob("*.dist-info")
    assert "berth = berth_server.plugin:BerthPlugin" in (info / "entry_points.txt").read_text()
    made = plugin.BerthPlugin()
    assert (made.name, made.required_tasks) == ("berth", None)


def test_weights_must_lie_in_their_volume(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(
            ["serve", "--source=hf://a/b", "--weights=/var/w", "--", "vllm", "serve", "/var/wide/x", "--port", "1"]
        )
    assert raised.value.code == 2
    assert "not below --weights=/var/w" in capsys.readouterr().err
