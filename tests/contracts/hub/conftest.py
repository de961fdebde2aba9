"""Fixtures: a small repository on disk. The hub's library is the real one; so are processes, signals and sockets."""

from pathlib import Path

import pytest

from tests.contracts.hub.fetching import REPO

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
SHARD_BYTES = 24_000_000  # the hub's library writes in steps of 10 MB


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`<root>/harbour/tiny` with two large files; returns the root."""
    base = tmp_path / "hub" / REPO
    base.mkdir(parents=True)
    (base / "config.json").write_text('{"model_type": "llama"}')
    for number, name in enumerate(SHARDS):
        (base / name).write_bytes(bytes([number + 1]) * SHARD_BYTES)
    return tmp_path / "hub"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Where the weights go on a volume that pods may share."""
    return tmp_path / "weights" / "harbour--tiny@main"
