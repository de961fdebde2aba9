"""Settings: every BERTH_ variable, its default, and the message for a wrong value."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from berth.desired.platform import Platform
from berth.settings import Settings

ROOT = Path(__file__).parents[3]


class Case(NamedTuple):
    name: str
    given: str
    expect: Any


CASES = {
    "BERTH_SERVER_IMAGE": Case("image", "my/vllm:1", "my/vllm:1"),
    "BERTH_PAYLOAD_IMAGE": Case("image", "my/payload:1", "my/payload:1"),
    "BERTH_CLUSTER_DOMAIN": Case("domain", "k8s.corp", "k8s.corp"),
    "BERTH_ACCELERATORS": Case("list", "a.com/gpu, b.com/gpu,", ("a.com/gpu", "b.com/gpu")),
    "BERTH_RUN_AS_USER": Case("uid", "1000", 1000),
    "BERTH_IMAGE_PULL_SECRETS": Case("list", "a,b", ("a", "b")),
    "BERTH_POD_ENV": Case("object", '{"HF_ENDPOINT": "http://hub"}', {"HF_ENDPOINT": "http://hub"}),
    "BERTH_WORKERS": Case("count", "4", 4),
    "BERTH_RESYNC_SECONDS": Case("seconds", "30.5", 30.5),
    "BERTH_LEASE_SECONDS": Case("seconds", "15", 15),
    "BERTH_HTTP_PORT": Case("port", "0", 0),
    "BERTH_URL": Case("url", "http://b.ns.svc:9/", "http://b.ns.svc:9/"),
    "BERTH_GATEWAY_SERVICE": Case("service", "berth-system/berth-gateway", "berth-system/berth-gateway"),
    "BERTH_GATEWAY_NAMESPACES": Case("list", "a,b", ("a", "b")),
    "BERTH_GATEWAY_FIRST_PORT": Case("port", "30000", 30000),
    "BERTH_GATEWAY_PORTS": Case("count", "50", 50),
    "BERTH_LOG_LEVEL": Case("level", "DEBUG", "DEBUG"),
    "BERTH_LOG_FORMAT": Case("format", "console", "console"),
}


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("BERTH_"):
            monkeypatch.delenv(name)


def test_every_setting_has_a_case() -> None:
    assert {f"BERTH_{name.upper()}" for name in Settings.model_fields} == CASES.keys()


@pytest.mark.parametrize("variable", CASES)
def test_each_variable_reaches_its_field(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field = variable.removeprefix("BERTH_").lower()
    assert getattr(Settings(), field) != CASES[variable].expect, "the case must differ from the default"
    monkeypatch.setenv(variable, CASES[variable].given)
    assert getattr(Settings(), field) == CASES[variable].expect


def test_an_empty_user_is_none_and_an_empty_list_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTH_RUN_AS_USER", "")
    monkeypatch.setenv("BERTH_ACCELERATORS", "")
    assert Settings().run_as_user is None
    assert Settings().accelerators == ()


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_what_shapes_children_reaches_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, case in CASES.items():
        monkeypatch.setenv(variable, case.given)
    assert Settings().platform() == Platform(
        server_image="my/vllm:1",
        payload_image="my/payload:1",
        cluster_domain="k8s.corp",
        accelerators=("a.com/gpu", "b.com/gpu"),
        run_as_user=1000,
        image_pull_secrets=("a", "b"),
        pod_env=(("HF_ENDPOINT", "http://hub"),),
        url="http://b.ns.svc:9",
        gateway_service="berth-system/berth-gateway",
        gateway_namespaces=("a", "b"),
    )
    assert Settings().endpoint_ports() == range(30000, 30050)


class Wrong(NamedTuple):
    variable: str
    given: str
    says: str


WRONG = [
    Wrong("BERTH_WORKERS", "many", "valid integer"),
    Wrong("BERTH_WORKERS", "0", "greater than or equal to 1"),
    Wrong("BERTH_RESYNC_SECONDS", "1", "greater than or equal to 10"),
    Wrong("BERTH_LEASE_SECONDS", "1", "greater than or equal to 2"),
    Wrong("BERTH_HTTP_PORT", "70000", "less than or equal to 65535"),
    Wrong("BERTH_RUN_AS_USER", "root", "valid integer"),
    Wrong("BERTH_GATEWAY_SERVICE", "berth-gateway", "String should match pattern"),
    Wrong("BERTH_LOG_LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    Wrong("BERTH_LOG_FORMAT", "xml", "'json' or 'console'"),
    Wrong("BERTH_POD_ENV", "A=b", "JSON"),
    Wrong("BERTH_POD_ENV", '["A"]', "must be a JSON object of texts"),
    Wrong("BERTH_POD_ENV", '{"A": 1}', "must be a JSON object of texts"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: f"{case.variable}={case.given}")
def test_a_wrong_value_ends_the_program_with_a_message(case: Wrong) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "berth"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator"), case.variable: case.given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"berth: setting {case.variable}: ")
    assert case.says in line
    assert case.given in line
