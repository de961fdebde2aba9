"""Several pods that download into one volume at once: one downloads, the others wait, and no death stops them for long.

Inputs: processes that play pods, SIGKILL, SIGSTOP. Outputs: what the hub was asked for, what each process said, files.
"""

import signal
from collections import Counter
from pathlib import Path

from berth_server import weights
from tests.contracts.hub.conftest import SHARD_BYTES, SHARDS
from tests.contracts.hub.fetching import REPO, Fetching
from tests.hub import Hub
from tests.waiting import eventually


def contents(hub: Hub) -> Counter[str]:
    """How often each file's content was sent."""
    paths = [line.removeprefix("GET ") for line in hub.requests if line.startswith("GET ")]
    return Counter(path.rpartition("/")[2] for path in paths if not path.startswith("/api/"))


def from_store(hub: Hub) -> Counter[str]:
    """How often each large file was asked for in the store that holds them."""
    return Counter(line.rpartition("/")[2] for line in hub.requests if line.startswith("GET /large/"))


def intact(model: Path, hub: Hub) -> bool:
    return all(
        (model / name).read_bytes() == (hub.root / REPO / name).read_bytes() for name in (*SHARDS, "config.json")
    )


def test_four_pods_at_once_fetch_each_file_once(repository: Path, model: Path) -> None:
    with Hub(repository) as hub:
        hub.faults.bytes_per_second = 12_000_000  # slow enough that all four are there
        env = {"HF_ENDPOINT": hub.url}
        pods = [Fetching(model, env, holder=f"pod-{letter}") for letter in "abcd"]
        codes = [pod.ended() for pod in pods]
    assert codes == [0, 0, 0, 0], [pod.said for pod in pods]
    assert from_store(hub) == dict.fromkeys(SHARDS, 1)
    assert contents(hub)["config.json"] == 1
    assert intact(model, hub)
    waited = [pod for pod in pods if any("waiting" in line.get("message", "") for line in pod.said)]
    assert len(waited) == 3
    # They know from the lease what is being downloaded, without asking the hub themselves.
    told = {"total": 2 * SHARD_BYTES + 23, "commit": hub.commit(REPO)}
    for pod in waited:
        assert any(told.items() <= line.items() for line in pod.said), pod.said
    assert sum(line == f"GET /api/models/{REPO}/revision/main" for line in hub.requests) == 1
    assert not Path(f"{model}.lock").exists()


def test_a_killed_holder_is_succeeded_by_one_who_waits_and_goes_on_where_it_was(repository: Path, model: Path) -> None:
    with Hub(repository) as hub:
        hub.faults.hold, hub.faults.cut_bytes = SHARDS[1], 21_000_000
        env = {"HF_ENDPOINT": hub.url}
        with Fetching(model, env, holder="pod-a", quick=True) as first:
            eventually(lambda: weights.bytes_on_disk(str(model)) >= SHARD_BYTES + 20_000_000, 60, "most of the bytes")
            with Fetching(model, env, holder="pod-b", quick=True) as second:
                assert second.until_said("message")["message"] == "waiting for another pod's download: pod-a"
                first.signal(signal.SIGKILL)
                first.process.wait()
                hub.faults.hold = ""
                assert second.ended() == 0, second.said
        hub.faults.go_on.set()
    assert from_store(hub) == {SHARDS[0]: 1, SHARDS[1]: 2}
    assert intact(model, hub)
    # The second request was for the rest only.
    assert hub.sent_bytes < 2 * SHARD_BYTES + 10_000_000


def test_a_container_that_starts_again_does_not_wait_for_its_own_dead_predecessor(
    repository: Path, model: Path
) -> None:
    with Hub(repository) as hub:
        hub.faults.hold, hub.faults.cut_bytes = SHARDS[1], 21_000_000
        env = {"HF_ENDPOINT": hub.url}
        with Fetching(model, env, holder="pod-a") as first:
            eventually(lambda: weights.bytes_on_disk(str(model)) >= SHARD_BYTES + 20_000_000, 60, "most of the bytes")
            first.signal(signal.SIGKILL)
            first.process.wait()
        hub.faults.hold = ""
        # With the real minute until a holder is taken for dead: it would say that it waits.
        with Fetching(model, env, holder="pod-a") as second:
            assert second.ended() == 0, second.said
        hub.faults.go_on.set()
    assert not any("waiting" in line.get("message", "") for line in second.said)
    assert intact(model, hub)


def test_a_frozen_holder_gives_up_when_another_took_over(repository: Path, model: Path) -> None:
    with Hub(repository) as hub:
        hub.faults.hold, hub.faults.cut_bytes = SHARDS[1], 1_000_000
        env = {"HF_ENDPOINT": hub.url}
        with Fetching(model, env, holder="pod-a", quick=True) as frozen:
            frozen.until_said("total")
            # One that thaws as it was about to fetch a file takes the other's away first: see the lease's limits.
            others = [model / name for name in (SHARDS[0], "config.json")]
            eventually(
                lambda: f"GET /large/{REPO}/{SHARDS[1]}" in hub.requests and all(path.exists() for path in others),
                60,
                "only the last file is to come",
            )
            frozen.signal(signal.SIGSTOP)
            hub.faults.hold = ""
            with Fetching(model, env, holder="pod-b", quick=True) as second:
                assert second.ended() == 0, second.said
            frozen.signal(signal.SIGCONT)
            failure = frozen.failure()
            hub.faults.go_on.set()
    assert failure.reason == "DownloadFailed"
    assert "another one took the download over" in failure.message
    assert intact(model, hub)
    assert weights.read_marker(str(model)) is not None


def test_a_holder_that_fails_lets_the_next_one_try(repository: Path, model: Path) -> None:
    with Hub(repository, token="hf_valid", private=[REPO]) as hub:
        with Fetching(model, {"HF_ENDPOINT": hub.url}, holder="pod-a") as without:
            assert without.failure().reason == "ModelNotFound"
        with Fetching(model, {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_valid"}, holder="pod-b") as other:
            assert other.ended() == 0, other.said
    assert not any("waiting" in line.get("message", "") for line in other.said)
