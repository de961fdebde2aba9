"""Which files are wanted, when a download is complete, and what is wrong with a model directory."""

import os
from pathlib import Path

import pytest

from berth_server import weights
from berth_server.protocol import Failure


def test_one_format_of_the_weights_is_enough() -> None:
    repository = {
        ".gitattributes": 1,
        "README.md": 1,
        "config.json": 1,
        "tokenizer.json": 1,
        "tokenizer.model": 1,
        "1_Pooling/config.json": 1,
        "model-00001-of-00002.safetensors": 9,
        "model-00002-of-00002.safetensors": 9,
        "model.safetensors.index.json": 1,
        "pytorch_model.bin": 9,
        "original/consolidated.00.pth": 9,
        "onnx/model.onnx": 9,
        "tf_model.h5": 9,
    }
    assert sorted(weights.wanted(repository)) == [
        "1_Pooling/config.json",
        "README.md",
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer.model",
    ]


@pytest.mark.parametrize("only", ["pytorch_model.bin", "model.Q4_K_M.gguf", "consolidated.pth"])
def test_the_only_format_is_taken_whatever_it_is(only: str) -> None:
    assert only in weights.wanted({"config.json": 1, only: 9})


def test_a_marker_counts_only_with_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("12345")
    assert weights.read_marker(str(tmp_path)) is None
    weights.write_marker(str(tmp_path), "o/n", "c0ffee", {"a": 5})
    marker = weights.read_marker(str(tmp_path))
    assert marker is not None
    assert marker["commit"] == "c0ffee"
    (tmp_path / "a").write_text("1234")
    assert weights.read_marker(str(tmp_path)) is None


def test_what_a_killed_download_left_is_taken_or_removed(tmp_path: Path) -> None:
    cache = tmp_path / ".cache" / "huggingface" / "download"
    cache.mkdir(parents=True)
    wanted, other = "a" * 64, "b" * 64
    for name, size in {
        f"n.{wanted}.00000001.incomplete": 5,
        f"n.{wanted}.00000002.incomplete": 9,
        f"n.{wanted}.00000003.incomplete": 7,
        f"n.{other}.00000001.incomplete": 5,
        f"n.{'c' * 40}.00000001.incomplete": 5,
        "model.safetensors.lock": 0,
        "model.safetensors.metadata": 3,
    }.items():
        (cache / name).write_bytes(b"w" * size)
    # A model's own file of such a name is nobody's leftover.
    (tmp_path / "uv.lock").write_text("")
    longest = cache / f"n.{wanted}.00000002.incomplete"
    assert weights.take_unfinished(str(tmp_path), {wanted}) == {wanted: str(longest)}
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {longest.name, "model.safetensors.metadata", "uv.lock"}


def test_a_torn_marker_is_none(tmp_path: Path) -> None:
    (tmp_path / weights.MARKER).write_text('{"files": {')
    assert weights.read_marker(str(tmp_path)) is None


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "team" / "model"
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_text("w")
    return path


def refusal(path: Path) -> Failure:
    with pytest.raises(Failure) as raised:
        weights.check_readable(str(path), "pvc://models/team/model")
    return raised.value


def test_a_model_is_accepted(model: Path) -> None:
    weights.check_readable(str(model), "pvc://models/team/model")


def test_a_wrong_path_is_told_with_what_is_there(model: Path) -> None:
    failure = refusal(model.parent / "modle")
    assert failure.reason == "ModelNotFound"
    assert str(model.parent / "modle") in failure.message
    assert f"{model.parent} holds: model" in failure.message


def test_a_file_is_not_a_model(model: Path) -> None:
    assert refusal(model / "config.json").reason == "NotAModel"


def test_a_directory_without_config_is_not_a_model(model: Path) -> None:
    failure = refusal(model.parent)
    assert failure.reason == "NotAModel"
    assert "In it: model." in failure.message


def test_a_file_of_somebody_else_is_named_with_its_mode(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the permission itself is checked in the pod; here what is made of a refusal."""
    (model / "model.safetensors").chmod(0o600)
    real = os.access
    monkeypatch.setattr(
        "berth_server.weights.os.access", lambda path, mode: not str(path).endswith(".safetensors") and real(path, mode)
    )
    failure = refusal(model)
    assert failure.reason == "ModelUnreadable"
    assert f"{model}/model.safetensors (mode 0600, uid {os.getuid()}" in failure.message
    assert "chmod" in failure.suggestion
