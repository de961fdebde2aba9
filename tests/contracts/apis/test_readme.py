"""The client code in README, run as it stands there against a real endpoint: address, key and model excepted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from local import clients
from tests.contracts.apis.conftest import NAMES, Endpoint

README = (Path(__file__).parents[3] / "README.md").read_text()
SECTION = README.partition("## Use it from your code\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)


def test_there_is_one_for_each_api() -> None:
    assert [re.findall(r"svc\.cluster\.local(\S*?)\"", block) for block in BLOCKS] == [
        ["/v1"],
        ["/llm-engine/"],
        ["/egp"],
        ["/aleph-alpha"],
    ]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split()[1])
def test_it_prints_a_completion(block: str, endpoint: Endpoint, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    code = block.replace("http://qwen.default.svc.cluster.local", endpoint.url).replace('"my-key"', f'"{endpoint.key}"')
    script.write_text(code.replace('"qwen"', f'"{NAMES[0]}"'))
    python = sys.executable if "openai" in block else clients.ensure_python()
    env = {**os.environ, "LLM_ENGINE_DISABLE_VERSION_CHECK": "1"}
    done = subprocess.run([python, script], env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 3
