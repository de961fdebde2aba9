"""Settings of the gateway: every BERTH_GATEWAY_ variable, its default, and the message for a wrong value."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from berth_gateway.__main__ import main
from berth_gateway.settings import Settings

IMAGES = Path(__file__).parents[3] / "images"


class Case(NamedTuple):
    given: str
    expect: Any


CASES = {
    "AUTH": Case("Open", "Open"),
    "NAMESPACES": Case("a, b,", ("a", "b")),
    "NAMESPACE": Case("here", "here"),
    "PORT": Case("80", 80),
    "ADMIN_PORT": Case("0", 0),
    "FIRST_ENDPOINT_PORT": Case("30000", 30000),
    "ENDPOINT_PORTS": Case("7", 7),
    "CONNECT_SECONDS": Case("1.5", 1.5),
    "FIRST_BYTE_SECONDS": Case("60", 60.0),
    "BETWEEN_BYTES_SECONDS": Case("60", 60.0),
    "TOTAL_SECONDS": Case("60", 60.0),
    "MOST_BODY_BYTES": Case("2048", 2048),
    "MOST_BODIES_BYTES": Case("4096", 4096),
    "HOLD_PER_ENDPOINT": Case("0", 0),
    "HOLD_IN_ALL": Case("7", 7),
    "HOLD_BYTES_PER_ENDPOINT": Case("7", 7),
    "HOLD_BYTES_IN_ALL": Case("7", 7),
    "HOLD_SECONDS": Case("7", 7.0),
    "FURTHER_SECONDS": Case("0", 0.0),
    "DRAIN_SECONDS": Case("0", 0.0),
    "LOG_LEVEL": Case("DEBUG", "DEBUG"),
}


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("BERTH_"):
            monkeypatch.delenv(name)


def test_every_setting_has_a_case() -> None:
    assert {name.upper() for name in Settings.model_fields} == CASES.keys()


@pytest.mark.parametrize("variable", CASES)
def test_each_variable_reaches_its_field(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field = variable.lower()
    assert getattr(Settings(), field) != CASES[variable].expect, "the case must differ from the default"
    monkeypatch.setenv(f"BERTH_GATEWAY_{variable}", CASES[variable].given)
    assert getattr(Settings(), field) == CASES[variable].expect


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


class Wrong(NamedTuple):
    given: dict[str, str]
    says: str


WRONG = [
    Wrong({"AUTH": "None"}, "BERTH_GATEWAY_AUTH: Input should be 'Keys' or 'Open' (got 'None')"),
    Wrong({"NAMESPACE": ""}, "BERTH_GATEWAY_NAMESPACE: String should have at least 1 character"),
    Wrong({"PORT": "http"}, "BERTH_GATEWAY_PORT: Input should be a valid integer"),
    Wrong({"PORT": "70000"}, "BERTH_GATEWAY_PORT: Input should be less than or equal to 65535"),
    Wrong({"FIRST_ENDPOINT_PORT": "80"}, "BERTH_GATEWAY_FIRST_ENDPOINT_PORT: Input should be greater than or equal"),
    Wrong({"TOTAL_SECONDS": "0"}, "BERTH_GATEWAY_TOTAL_SECONDS: Input should be greater than 0"),
    Wrong({"LOG_LEVEL": "loud"}, "BERTH_GATEWAY_LOG_LEVEL: Input should be 'DEBUG'"),
    Wrong({"PORT": "9090"}, "BERTH_GATEWAY_PORT and BERTH_GATEWAY_ADMIN_PORT are both 9090"),
    Wrong({"PORT": "20499"}, "BERTH_GATEWAY_PORT 20499 is one of the endpoints' ports"),
    Wrong({"ADMIN_PORT": "20000"}, "BERTH_GATEWAY_ADMIN_PORT 20000 is one of the endpoints' ports"),
    Wrong({"FIRST_ENDPOINT_PORT": "65100"}, "end at 65599: no such port"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: str(case.given))
def test_a_wrong_value_is_told_in_one_line(
    case: Wrong, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in case.given.items():
        monkeypatch.setenv(f"BERTH_GATEWAY_{name}", value)
    assert main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("berth-gateway: ")
    assert case.says in line


def test_a_wrong_value_ends_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "berth_gateway"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{IMAGES / 'gateway'}:{IMAGES / 'apis'}",
            "BERTH_GATEWAY_AUTH": "None",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "berth-gateway: setting BERTH_GATEWAY_AUTH: Input should be 'Keys' or 'Open' (got 'None')"
    ]


@pytest.mark.parametrize(("port", "first", "count"), [("20500", "20000", "500"), ("19999", "20000", "500")])
def test_a_port_beside_those_of_the_endpoints_is_free(
    port: str, first: str, count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PORT", port), ("FIRST_ENDPOINT_PORT", first), ("ENDPOINT_PORTS", count)):
        monkeypatch.setenv(f"BERTH_GATEWAY_{name}", value)
    assert Settings().port == int(port)


def test_any_free_ports_may_be_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTH_GATEWAY_PORT", "0")
    monkeypatch.setenv("BERTH_GATEWAY_ADMIN_PORT", "0")
    assert Settings().port == Settings().admin_port == 0
