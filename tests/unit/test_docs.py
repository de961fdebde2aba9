"""Documentation against the code: nothing undocumented, nothing documented that is not there.

Input: README.md, docs/, the Makefile.  Not here: YAML blocks and the helm command of README,
which run on a real API server in tests/apiserver.
"""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from berth.api.conditions import REASON_EXPLANATION, TYPE_MEANING, Reason, Type
from berth.api.crd import openapi
from berth.api.spec import Spec
from berth.api.status import Status
from berth.cli import generate
from berth.settings import Settings
from berth.telemetry.metrics import Metrics
from berth_gateway.counts import METRICS
from berth_gateway.settings import Settings as GatewaySettings
from berth_server.reasons import PHASES, REASONS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def reference(name: str) -> str:
    return (ROOT / "docs" / "reference" / name).read_text()


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """(section, name, description) of every field of an object and of the objects in it."""
    for name, child in schema.get("properties", {}).items():
        yield path, name, child.get("description", "")
        yield from fields(child, f"{path}.{name}")
        yield from fields(child.get("items", {}), f"{path}.{name}[]")


FIELDS = [*fields(openapi(Spec), "spec"), *fields(openapi(Status), "status")]


@pytest.mark.parametrize(("section", "name", "description"), FIELDS, ids=[f"{field[0]}.{field[1]}" for field in FIELDS])
def test_every_field_has_a_description_and_a_row_in_its_section(section: str, name: str, description: str) -> None:
    assert description
    if section == "spec.server.args":  # flags that are refused: a table of their own
        assert f"| `--{name}` |" in reference("modelendpoint.md")
        return
    heading = re.escape(f"{'##' if section in ('spec', 'status') else '###'} {section}\n")
    found = re.search(f"^{heading}(.*?)(?=^##|\\Z)", reference("modelendpoint.md"), re.MULTILINE | re.DOTALL)
    assert found
    assert re.search(rf"^\| `{name}` \| [^|]+ \| [^|]+ \|$", found[1], re.MULTILINE)


def test_every_condition_and_reason_is_explained() -> None:
    assert TYPE_MEANING.keys() == set(Type)
    assert REASON_EXPLANATION.keys() == set(Reason)
    for name in (*Type, *Reason):
        assert f"| `{name}` |" in reference("conditions.md")
    for name in (*REASONS, *PHASES):
        assert f"| `{name}` |" in reference("server-reasons.md")
    assert re.findall(r"^\| `(\w+)` \| [^|]+ \|$", (ROOT / "README.md").read_text(), re.MULTILINE) == list(Type)


def test_every_setting_is_documented() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description
        assert f"| `BERTH_{name.upper()}` |" in reference("settings.md")


def test_every_metric_is_documented() -> None:
    for family in Metrics().registry.collect():
        if family.name.startswith("berth_"):
            assert f"`{family.name}{'_total' if family.type == 'counter' else ''}`" in reference("metrics.md")


def test_every_setting_and_metric_of_the_gateway_is_documented() -> None:
    for name in GatewaySettings.model_fields:
        assert f"| `BERTH_GATEWAY_{name.upper()}` |" in reference("gateway.md")
    for metric in METRICS:
        assert f"| `{metric.name}` |" in reference("gateway.md")


def test_check_names_each_file_that_is_not_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text().replace("| `Serving` |", "| `Served` |"))
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert generate.main() == 1
    assert len(capsys.readouterr().err.splitlines()) == len(generate.files())
    monkeypatch.setattr(sys, "argv", ["generate"])
    assert generate.main() == 0
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert generate.main() == 0
    assert "| `Serving` |" in (tmp_path / "README.md").read_text()


def test_generated_files_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert {path: path.read_text() for path in generate.files()} == generate.files()


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text().replace("\n", " ")):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, link


@pages
def test_commands_exist(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    for module in re.findall(r"python3? -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), module
    for path in re.findall(r"(?:^|[\s`])((?:charts|examples|images|operator|tests|docs|crds)/[\w./-]*)", text):
        assert (ROOT / path).exists(), path


@pages
def test_named_tests_exist(page: Path) -> None:
    for file, name in re.findall(r"`(tests/[\w/.]+)::(\w+)`", page.read_text()):
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{name}"


def test_every_trap_names_its_test_or_says_why_there_is_none() -> None:
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| ([^|]+) \|$", (ROOT / "docs" / "traps.md").read_text(), re.MULTILINE)[2:]
    assert rows
    for shown in rows:
        assert re.fullmatch(r"(`tests/[\w/.]+::test_\w+` ?)+|No test: .+", shown), shown


@pages
def test_shell_blocks_parse(page: Path) -> None:
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
