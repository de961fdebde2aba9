"""The download against a local hub, with the real huggingface_hub library.

Inputs: small repositories on disk, faults of the hub. Outputs: files, progress, reasons. Nothing of ours is mocked.
"""

import errno
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from berth_server import hub as download
from berth_server import hub_errors, weights
from berth_server.lease import Lease
from berth_server.protocol import Failure
from tests.hub import Hub

REPO = "harbour/tiny"
TOKEN = "hf_valid"
SHARD_BYTES = 3_000_000


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    base = tmp_path / "hub" / REPO
    (base / "original").mkdir(parents=True)
    (base / "config.json").write_text('{"model_type": "llama"}')
    (base / "tokenizer.json").write_text("{}")
    (base / "model.safetensors").write_bytes(bytes(range(250)) * (SHARD_BYTES // 250))
    (base / "pytorch_model.bin").write_bytes(b"the same weights once more")
    (base / "original" / "consolidated.safetensors").write_bytes(b"and again")
    with Hub(tmp_path / "hub", token=TOKEN) as running:
        yield running


@dataclass
class Fetched:
    ok: bool
    said: list[Mapping[str, Any]]
    slept: list[float]

    def failure(self, revision: str = "main", secret: str = "") -> Failure:
        return hub_errors.failure(self.said[-1]["error"], f"hf://{REPO}", revision, secret)


Fetch = Callable[..., Fetched]


def a_lease(model: Path) -> Lease:
    return Lease(f"{model}.lock", "this-pod", lambda: pytest.fail("the lease was lost"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "weights" / "harbour--tiny@main"


@pytest.fixture
def fetch(hub: Hub, model: Path) -> Fetch:
    def run(repo: str = REPO, revision: str = "main", token: str | None = None) -> Fetched:
        said: list[Mapping[str, Any]] = []
        slept: list[float] = []
        wanted = download.Wanted(repo, revision, str(model), hub.url, token)
        ok = download.fetch(wanted, a_lease(model), said.append, slept.append)
        return Fetched(ok, said, slept)

    return run


def test_brings_what_vllm_needs_and_nothing_else(hub: Hub, fetch: Fetch, model: Path) -> None:
    fetched = fetch()
    assert fetched.ok, fetched.said
    assert {path.name for path in model.iterdir() if not path.name.startswith(".")} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }
    assert (model / "model.safetensors").read_bytes() == (hub.root / REPO / "model.safetensors").read_bytes()
    total = sum(path.stat().st_size for path in model.iterdir() if not path.name.startswith(".") and path.is_file())
    assert {"total": total, "commit": hub.commit(REPO)} in fetched.said
    marker = weights.read_marker(str(model))
    assert marker is not None
    assert marker["commit"] == hub.commit(REPO)


def test_a_complete_download_asks_the_hub_nothing(hub: Hub, fetch: Fetch) -> None:
    fetch()
    hub.requests.clear()
    assert fetch().ok
    assert hub.requests == []


def test_a_pinned_commit_is_what_arrives(hub: Hub, fetch: Fetch, model: Path) -> None:
    assert fetch(revision=hub.commit(REPO)).ok
    assert (model / "config.json").exists()


def test_a_file_lost_later_is_brought_again_and_only_that(hub: Hub, fetch: Fetch, model: Path) -> None:
    fetch()
    (model / "tokenizer.json").unlink()
    hub.sent_bytes = 0
    assert fetch().ok
    assert (model / "tokenizer.json").read_text() == "{}"
    assert hub.sent_bytes < SHARD_BYTES


def test_a_cut_transfer_goes_on_where_it_stopped(hub: Hub, fetch: Fetch, model: Path) -> None:
    large = 24_000_000  # the library writes in steps of 10 MB
    (hub.root / REPO / "model.safetensors").write_bytes(b"w" * large)
    hub.faults.cut_bytes, hub.faults.cuts = 21_000_000, 1
    assert fetch().ok
    assert (model / "model.safetensors").stat().st_size == large
    assert hub.sent_bytes < 21_000_000 + large / 2


def test_a_damaged_file_is_found_removed_and_brought_again(hub: Hub, fetch: Fetch, model: Path) -> None:
    hub.faults.damaged.add("model.safetensors")
    assert fetch().failure().reason == "WeightsCorrupt"
    assert not (model / "model.safetensors").exists()
    assert weights.read_marker(str(model)) is None
    hub.faults.damaged.clear()
    assert fetch().ok


def test_a_small_file_is_checked_by_its_git_id(hub: Hub, fetch: Fetch, model: Path) -> None:
    hub.faults.damaged.add("config.json")
    failure = fetch().failure()
    assert failure.reason == "WeightsCorrupt"
    assert "config.json" in failure.message
    assert not (model / "config.json").exists()
    hub.faults.damaged.clear()
    assert fetch().ok


def test_files_come_side_by_side(hub: Hub, fetch: Fetch) -> None:
    for number in range(4):
        (hub.root / REPO / f"model-{number}.safetensors").write_bytes(b"w" * 1000)
    # All five are held back until the fifth is asked for; one after the other, the first would wait in vain.
    hub.faults.together = threading.Barrier(5)
    assert fetch().ok
    assert not hub.faults.together.broken


def test_a_hub_that_tells_no_sizes(hub: Hub, fetch: Fetch, model: Path) -> None:
    hub.faults.no_sizes = True
    fetched = fetch()
    assert fetched.ok, fetched.said
    assert {"total": None, "commit": hub.commit(REPO)} in fetched.said
    marker = weights.read_marker(str(model))
    assert marker is not None
    assert marker["files"]["model.safetensors"] == SHARD_BYTES


def unfinished(model: Path, content: bytes, done: bytes, attempt: str = ".0123abcd") -> Path:
    """What a killed download leaves, as huggingface_hub names it."""
    cache = model / ".cache" / "huggingface" / "download"
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"oRhD4zyLJpeLxTPPUXRzg4OmMqE=.{hashlib.sha256(content).hexdigest()}{attempt}.incomplete"
    path.write_bytes(done)
    return path


@pytest.mark.parametrize("attempt", [".0123abcd", ""], ids=["recent", "old"])
def test_an_unfinished_file_is_finished(hub: Hub, fetch: Fetch, model: Path, attempt: str) -> None:
    content = (hub.root / REPO / "model.safetensors").read_bytes()
    unfinished(model, content, content[:2_000_000], attempt)
    assert fetch().ok
    assert (model / "model.safetensors").read_bytes() == content
    assert hub.sent_bytes < SHARD_BYTES - 2_000_000 + 1000
    assert list(model.rglob("*.incomplete")) == []


def test_an_unfinished_file_with_other_bytes_is_found_and_brought_again(hub: Hub, fetch: Fetch, model: Path) -> None:
    content = (hub.root / REPO / "model.safetensors").read_bytes()
    unfinished(model, content, b"x" * 2_000_000)
    # The library itself notices before we do, as it compares what it finds with the hub's checksum.
    assert fetch().ok
    assert (model / "model.safetensors").read_bytes() == content


def test_an_unfinished_file_that_is_too_long_is_brought_again(hub: Hub, fetch: Fetch, model: Path) -> None:
    content = (hub.root / REPO / "model.safetensors").read_bytes()
    unfinished(model, content, content + b"x")
    assert fetch().ok
    assert (model / "model.safetensors").read_bytes() == content
    assert list(model.rglob("*.incomplete")) == []


def test_a_firewall_that_denies_the_connection_is_no_matter_of_the_volume() -> None:
    error = hub_errors.described(httpx.ConnectError("no"), None) | {"errno": errno.EPERM, "endpoint": "https://h"}
    assert hub_errors.failure(error, f"hf://{REPO}", "main", "").reason == "HubUnreachable"


def test_no_such_repository(hub: Hub, fetch: Fetch) -> None:
    failure = fetch(repo="harbour/other").failure()
    assert failure.reason == "ModelNotFound"
    assert "spec.model.secretRef" in failure.suggestion


def test_no_such_repository_with_a_token(hub: Hub, fetch: Fetch) -> None:
    failure = fetch(repo="harbour/other", token=TOKEN).failure(secret="hf-token")
    assert failure.reason == "ModelNotFound"
    assert "Secret hf-token" in failure.message


def test_no_such_revision(hub: Hub, fetch: Fetch) -> None:
    failure = fetch(revision="v9").failure(revision="v9")
    assert failure.reason == "RevisionNotFound"
    assert "v9" in failure.message


def test_a_gated_model_without_a_token(hub: Hub, fetch: Fetch) -> None:
    hub.gated.add(REPO)
    fetched = fetch()
    assert fetched.failure().reason == "TokenMissing"
    assert fetched.slept == []


def test_a_gated_model_with_a_token_that_has_no_access(hub: Hub, fetch: Fetch) -> None:
    hub.gated.add(REPO)
    assert fetch(token=TOKEN).failure().reason == "ModelGated"


def test_a_gated_model_with_access(hub: Hub, fetch: Fetch) -> None:
    hub.gated.add(REPO)
    hub.granted.add(REPO)
    assert fetch(token=TOKEN).ok


def test_a_private_model_needs_the_token(hub: Hub, fetch: Fetch) -> None:
    hub.private.add(REPO)
    assert fetch().failure().reason == "ModelNotFound"
    assert fetch(token=TOKEN).ok


def test_a_wrong_token_is_rejected_and_never_repeated_in_messages(hub: Hub, fetch: Fetch) -> None:
    fetched = fetch(token="hf_wrong")
    failure = fetched.failure(secret="hf-token")
    assert failure.reason == "TokenRejected"
    assert "Secret hf-token" in failure.message
    assert "hf_wrong" not in str(fetched.said)


def test_a_hub_that_is_back_soon_is_only_a_delay(hub: Hub, fetch: Fetch) -> None:
    hub.faults.unavailable = 2
    assert fetch().ok


def test_an_unreachable_hub_is_tried_again_with_growing_pauses(hub: Hub, fetch: Fetch) -> None:
    hub.__exit__()
    fetched = fetch()
    failure = fetched.failure()
    assert failure.reason == "HubUnreachable"
    assert hub.url in failure.message
    assert fetched.slept == [1.0, 2.0, 4.0]


def test_a_model_larger_than_the_volume(hub: Hub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("berth_server.hub.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    failure = fetch().failure()
    assert failure.reason == "DiskFull"
    assert "spec.storage.weights" in failure.suggestion


def test_a_volume_that_cannot_be_written(hub: Hub) -> None:
    said: list[Mapping[str, Any]] = []
    # Nobody, not even root, may create anything there.
    model = Path("/sys/berth/model")
    download.fetch(
        download.Wanted(REPO, "main", str(model), hub.url, None), a_lease(model), said.append, lambda _: None
    )
    failure = hub_errors.failure(said[-1]["error"], f"hf://{REPO}", "main", "")
    assert failure.reason == "VolumeNotWritable"
    assert "/sys/berth" in failure.message
