"""The recorded exchanges of tests/fixtures/apis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[2] / "fixtures" / "apis"


def fixture(name: str) -> Any:
    """One file, e.g. `vllm-openai/stream-usage`."""
    return json.loads((FIXTURES / f"{name}.json").read_text())


def requests(api: str) -> list[tuple[str, Any]]:
    """All requests that clients of an API really sent, with the name of the scenario."""
    return [
        (path.stem, exchange["request"])
        for path in sorted((FIXTURES / api).glob("*.json"))
        for exchange in json.loads(path.read_text())["exchanges"]
    ]


def answer(name: str) -> Any:
    """The JSON that vLLM answered."""
    return fixture(f"vllm-openai/{name}")["exchanges"][0]["response"]["json"]


def stream(name: str) -> bytes:
    """The bytes that vLLM streamed."""
    return "".join(fixture(f"vllm-openai/{name}")["exchanges"][0]["response"]["chunks"]).encode()
