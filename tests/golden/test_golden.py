"""`NN-name/endpoint.yaml` → `NN-name/expected.yaml`: every child as it is applied, reviewed as a diff.

`settings.yaml` beside an endpoint overrides settings of the operator; `decided.yaml` says what a pass has decided of
the number of replicas. BERTH_GOLDEN_UPDATE=1 rewrites what is expected.
"""

import dataclasses
import difflib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from berth.api.spec import Endpoint, Spec
from berth.decide.admit import Refusal
from berth.decide.observed import Observed
from berth.decide.parse import parse
from berth.decide.plan import make_plan
from berth.desired.platform import Platform

HERE = Path(__file__).parent
CASES = sorted(path.parent for path in HERE.glob("*/endpoint.yaml"))
PLATFORM = Platform(server_image="vllm/vllm-openai:v0.0.0", payload_image="example.test/berth-server:0.0.0")


class _Dumper(yaml.SafeDumper):
    """No anchors: each manifest is read by itself."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def rendered(case: Path) -> str:
    """The manifests of a case as YAML documents."""
    body = yaml.safe_load((case / "endpoint.yaml").read_text())
    body["metadata"] |= {"namespace": "team-a", "uid": "00000000-0000-0000-0000-000000000001", "generation": 1}
    overrides = case / "settings.yaml"
    settings = yaml.safe_load(overrides.read_text()) if overrides.exists() else {}
    platform = dataclasses.replace(PLATFORM, **{name: _frozen(value) for name, value in settings.items()})
    ep = parse(body)
    assert not isinstance(ep, Refusal), ep.message
    if (decided := case / "decided.yaml").exists():
        ep = Endpoint.model_validate(ep.model_dump() | yaml.safe_load(decided.read_text()))
    plan = make_plan(ep, Observed(endpoint=body), platform)
    assert plan.refusal is None, plan.refusal
    return yaml.dump_all(plan.apply, Dumper=_Dumper, sort_keys=True, width=120, explicit_start=True)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_children_are_as_expected(case: Path) -> None:
    expected, now = case / "expected.yaml", rendered(case)
    if os.environ.get("BERTH_GOLDEN_UPDATE") == "1":
        expected.write_text(now)
    was = expected.read_text() if expected.exists() else ""
    if was != now:
        name = expected.relative_to(HERE.parents[1])
        diff = "".join(difflib.unified_diff(was.splitlines(True), now.splitlines(True), str(name), "rendered now"))
        pytest.fail(f"the children of {case.name} changed. If that is meant, run `make golden-update`.\n{diff}", False)


def test_every_expectation_has_its_endpoint() -> None:
    assert len(CASES) >= 8
    assert sorted(path.parent for path in HERE.glob("*/expected.yaml")) == CASES


def test_every_part_of_the_spec_is_in_some_case() -> None:
    used: set[str] = set()
    for case in CASES:
        used |= yaml.safe_load((case / "endpoint.yaml").read_text())["spec"].keys()
    assert used == {field.alias or name for name, field in Spec.model_fields.items()}
