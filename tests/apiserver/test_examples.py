"""Every example, and every ModelEndpoint of the documentation, is accepted and does what it says.

Input: examples/*.yaml and the YAML blocks of README.md and docs/.  Output: the API server's verdict on them and on the
children that Berth would make of them, in dry runs.  Not mocked: anything.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from berth.api.names import KIND
from berth.api.spec import Endpoint
from berth.decide.admit import ignored, refusals
from berth.decide.parse import parse
from berth.desired.children import children
from local.kubectl import Kubectl
from tests.builders import PLATFORM

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "charts" / "berth" / "templates" / "NOTES.txt",
]


def yaml_blocks(page: Path) -> list[str]:
    """The fenced YAML blocks, and the here-documents of shell blocks, that hold a ModelEndpoint."""
    found = re.findall(r"^(?:```yaml|.*<<'?YAML'?)\n(.*?)^ *(?:```|YAML)$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in found if f"kind: {KIND}" in block]


DOCUMENTS = [pytest.param(path.read_text(), id=path.name) for path in EXAMPLES] + [
    pytest.param(block, id=f"{page.name}-{index}") for page in PAGES for index, block in enumerate(yaml_blocks(page))
]


def dry_run(kubectl: Kubectl, *objects: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects as the API server would store them. Unknown fields are errors."""
    given = "\n---\n".join(map(json.dumps, objects))
    command = [
        "apply",
        "--server-side",
        "--validate=strict",
        "--dry-run=server",
        "--namespace=default",
        "-ojson",
        "-f-",
    ]
    answer = json.loads(kubectl.run(*command, stdin=given))
    return list(answer["items"] if answer["kind"] == "List" else [answer])


def test_examples_are_numbered_and_start_with_a_comment() -> None:
    assert [path.name[:3] for path in EXAMPLES] == [f"{number:02}-" for number in range(1, len(EXAMPLES) + 1)]
    assert all(path.read_text().startswith("# ") for path in EXAMPLES)


@pytest.mark.parametrize("text", DOCUMENTS)
def test_the_api_server_takes_it_and_the_children_that_berth_makes_of_it(text: str, kubectl: Kubectl) -> None:
    stored = dry_run(kubectl, *yaml.safe_load_all(text))
    endpoints = [parse(found) for found in stored if found["kind"] == KIND]
    assert endpoints
    for endpoint in endpoints:
        assert isinstance(endpoint, Endpoint)
        assert (refusals(endpoint), ignored(endpoint)) == ([], [])
        dry_run(kubectl, *children(endpoint, PLATFORM))
