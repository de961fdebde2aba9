"""The chart's values against the settings of operator and gateway: same names, defaults and limits.

Input: charts/berth/values.yaml and values.schema.json.  Not here: rendering, see tests/apiserver/test_chart.py.
"""

import json
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from pydantic_settings import BaseSettings

from berth import __version__
from berth.cli import gateway_page, reference
from berth.settings import Settings
from berth_gateway.settings import Settings as GatewaySettings

CHART = Path(__file__).parents[2] / "charts" / "berth"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


class Setting(NamedTuple):
    """A field of a program's settings. path: where the chart's values have it, "" where the chart knows it itself."""

    of: type[BaseSettings]
    field: str
    path: str

    @property
    def described(self) -> dict[str, Any]:
        found: dict[str, Any] = self.of.model_json_schema()["properties"][self.field]
        return found


def settings(of: type[BaseSettings], value_path: Callable[[str], str]) -> list[Setting]:
    return [Setting(of, field, value_path(field)) for field in of.model_fields]


ALL = [*settings(Settings, reference.value_path), *settings(GatewaySettings, gateway_page.value_path)]
GIVEN = [setting for setting in ALL if setting.path]
LIMITS = ("minimum", "exclusiveMinimum", "maximum", "enum")
each = {"ids": lambda setting: setting.path}


def value(path: str) -> Any:
    return reduce(lambda part, name: part[name], path.split("."), VALUES)


def schema(path: str) -> dict[str, Any]:
    found: dict[str, Any] = reduce(lambda part, name: part["properties"][name], path.split("."), SCHEMA)
    return SCHEMA["$defs"][found["$ref"].rsplit("/", 1)[1]] if "$ref" in found else found


def test_every_setting_has_a_value_and_every_value_is_a_setting() -> None:
    named = {setting.path for setting in GIVEN}
    parts = {"settings": VALUES["settings"], "gateway.settings": VALUES["gateway"]["settings"]}
    values = {f"{part}.{name}" for part, found in parts.items() for name in found}
    assert named - values == {
        "image.server", "image.payload",
        "gateway.auth", "gateway.namespaces", "gateway.ports.first", "gateway.ports.count",
    }  # fmt: skip
    assert values - named == set()


@pytest.mark.parametrize("setting", GIVEN, **each)
def test_a_value_has_the_default_of_its_setting(setting: Setting) -> None:
    default = setting.of.model_fields[setting.field].get_default(call_default_factory=True)
    assert value(setting.path) == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize("setting", [setting for setting in GIVEN if setting.described.keys() & set(LIMITS)], **each)
def test_the_schema_has_the_limits_of_the_setting(setting: Setting) -> None:
    found = schema(setting.path)
    ours = {key: found.get(key) for key in LIMITS}
    if setting.field in ("http_port", "port", "admin_port"):
        ours["minimum"] = 0  # 0 is any free port: fine for a process, useless for a Service
    assert ours == {key: setting.described.get(key) for key in LIMITS}


def test_operator_and_gateway_have_the_same_ports_for_endpoints() -> None:
    def limits(of: type[BaseSettings], field: str) -> tuple[Any, ...]:
        found = of.model_json_schema()["properties"][field]
        return found["default"], found["minimum"], found["maximum"]

    assert limits(Settings, "gateway_first_port") == limits(GatewaySettings, "first_endpoint_port")
    assert limits(Settings, "gateway_ports") == limits(GatewaySettings, "endpoint_ports")


def test_the_schema_names_exactly_the_values() -> None:
    def names(values: dict[str, Any], schema: dict[str, Any]) -> set[str]:
        assert schema["additionalProperties"] is False
        return values.keys() ^ schema["properties"].keys()

    assert names(VALUES, SCHEMA) == {"global"}  # Helm passes it to every chart
    for part in ("image", "crds", "settings", "gateway", "gateway.service", "gateway.ports", "gateway.settings"):
        assert not names(value(part), schema(part)), part


def test_chart_operator_and_images_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
    for image in ("operator", "payload", "gateway"):
        assert VALUES["image"][image].rsplit(":", 1)[1] == __version__
