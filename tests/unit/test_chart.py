"""The chart's values against the operator's settings: same names, defaults and limits.

Input: charts/berth/values.yaml and values.schema.json.  Not here: rendering, see tests/apiserver/test_chart.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from berth import __version__
from berth.cli.reference import COMPUTED, value_path
from berth.settings import Settings

CHART = Path(__file__).parents[2] / "charts" / "berth"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
FIELDS = Settings.model_json_schema()["properties"]


def value(field: str) -> Any:
    part, name = value_path(field).split(".")
    return VALUES[part][name]


def schema(field: str) -> dict[str, Any]:
    part, name = value_path(field).split(".")
    found: dict[str, Any] = SCHEMA["properties"][part]["properties"][name]
    return found


def test_every_setting_has_a_value_and_every_value_is_a_setting() -> None:
    named = {value_path(field) for field in Settings.model_fields} - {""}
    assert {path for path in named if path.startswith("settings.")} == {
        f"settings.{name}" for name in VALUES["settings"]
    }
    assert named - {f"settings.{name}" for name in VALUES["settings"]} == {"image.server", "image.payload"}


@pytest.mark.parametrize("field", Settings.model_fields.keys() - COMPUTED)
def test_a_value_has_the_default_of_its_setting(field: str) -> None:
    default = Settings.model_fields[field].get_default(call_default_factory=True)
    assert value(field) == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize("field", [name for name, given in FIELDS.items() if {"minimum", "enum"} & given.keys()])
def test_the_schema_has_the_limits_of_the_setting(field: str) -> None:
    ours = {key: schema(field).get(key) for key in ("minimum", "maximum", "enum")}
    if field == "http_port":
        ours["minimum"] = 0  # 0 is any free port: fine for a process, useless for a Service
    assert ours == {key: FIELDS[field].get(key) for key in ("minimum", "maximum", "enum")}


def test_the_schema_names_exactly_the_values() -> None:
    def names(values: dict[str, Any], schema: dict[str, Any]) -> set[str]:
        assert schema["additionalProperties"] is False
        return values.keys() ^ schema["properties"].keys()

    assert names(VALUES, SCHEMA) == {"global"}  # Helm passes it to every chart
    for part in ("image", "crds", "settings"):
        assert not names(VALUES[part], SCHEMA["properties"][part])


def test_chart_operator_and_images_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
    assert VALUES["image"]["operator"].rsplit(":", 1)[1] == __version__
    assert VALUES["image"]["payload"].rsplit(":", 1)[1] == __version__
