"""Real vLLM for the tests beside this file: its Python, a model with random weights, and starts made ahead."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

AT_ONCE = 2
"""A start is three imports of vLLM one after the other, each on one core."""


@pytest.fixture(scope="session")
def python() -> Path:
    path = os.environ.get("BERTH_VLLM_PYTHON")
    assert path, "set BERTH_VLLM_PYTHON to the Python of an environment with vLLM"
    return Path(path)


@pytest.fixture(scope="session")
def vllm_model(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    subprocess.run([python, Path(__file__).with_name("tiny_model.py"), directory], check=True, capture_output=True)
    return directory


@pytest.fixture(scope="module")
def ahead(
    request: pytest.FixtureRequest, python: Path, vllm_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Any], Any]]:
    """What `run(case, …)` of the test's module made of its case.

    The cases of all selected tests of the module run from the first test on, AT_ONCE at a time.
    """
    cases: list[Any] = [
        item.callspec.params["case"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and hasattr(item, "callspec")
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made: dict[Any, Future[Any]] = {
            case.name: pool.submit(request.module.run, case, python, vllm_model, tmp_path_factory.mktemp("run"))
            for case in cases
        }
        yield lambda case: made[case.name].result()
        for future in made.values():
            future.cancel()
