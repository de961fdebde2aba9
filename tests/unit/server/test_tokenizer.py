"""What is read of a model's `tokenizer.json`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from berth_server import tokenizer

ADDED = [
    {"id": 0, "content": "</s>", "special": True},
    {"id": 1, "content": "<tool>", "special": False},
    {"id": 2, "content": "", "special": True},
]


def args(model: Path, other: Path | None = None) -> Any:
    return SimpleNamespace(model=str(model), tokenizer=str(other) if other else None)


@pytest.mark.parametrize(
    ("text", "special"),
    [(json.dumps({"added_tokens": ADDED}), ("</s>",)), ("{}", ()), ('{"added_tokens": null}', ()), ("no JSON", ())],
)
def test_the_special_tokens(text: str, special: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    assert tokenizer.special_tokens(tokenizer.file_of(args(tmp_path))) == special


def test_where_it_lies(tmp_path: Path) -> None:
    model, other = tmp_path / "model", tmp_path / "other"
    assert tokenizer.file_of(args(model)) is None
    assert tokenizer.special_tokens(None) == ()
    for directory in (model, other):
        directory.mkdir()
        (directory / "tokenizer.json").touch()
    assert tokenizer.file_of(args(model)) == str(model / "tokenizer.json")
    assert tokenizer.file_of(args(model, other)) == str(other / "tokenizer.json")
    # An id on the hub, which vLLM fetches by itself.
    assert tokenizer.file_of(args(Path("org/model"))) is None
