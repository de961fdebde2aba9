"""What ends a start before vLLM is run: the image, the path, the hub, the volume; and SIGTERM in those phases.

Inputs: real directories, mounts and permissions, and a local server that speaks the hub's protocol to the hub's library
of vLLM's environment. Outputs: exit code, termination message, what is left on disk. Needs root: mounts in a
namespace of their own, files of another user.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.contracts.launcher.launched import Launched, free_port, until
from tests.hub import Hub

SECONDS = 120
BIG = "model.safetensors"
BIG_BYTES = 24_000_000

Launch = Callable[..., Launched]


@pytest.fixture
def launch(python: Path, tmp_path: Path) -> Launch:
    def start(source: str, path: Path, *options: str, wrapper: Sequence[str] = (), **env: str) -> Launched:
        directory = tmp_path / "run"
        directory.mkdir()
        return Launched(directory, python.parent, source, path, options, env=env, wrapper=wrapper)

    return start


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    for name in ("open", "gated"):
        base = tmp_path / "hub" / "harbour" / name
        base.mkdir(parents=True)
        (base / "config.json").write_text("{}")
        (base / BIG).write_bytes(os.urandom(BIG_BYTES))
    with Hub(tmp_path / "hub", token="hf_valid", gated=["harbour/gated"]) as hub:
        yield hub


@pytest.fixture
def fetch(launch: Launch, tmp_path: Path, hub: Hub) -> Launch:
    """A start with a model of the hub, in the directory `volume` below tmp_path."""

    def start(
        repo: str = "open", revision: str = "main", wrapper: Sequence[str] = (), endpoint: str = "", **env: str
    ) -> Launched:
        volume = tmp_path / "volume"
        volume.mkdir()
        options = (f"--weights={volume}", f"--revision={revision}", "--secret=hf-token")
        path = volume / f"harbour--{repo}@{revision}"
        where = {"HF_ENDPOINT": endpoint or hub.url, **env}
        return launch(f"hf://harbour/{repo}", path, *options, wrapper=wrapper, **where)

    return start


def mounted(volume: Path, options: str) -> tuple[str, ...]:
    """Runs what follows with a tmpfs at `volume` that nobody else sees and that goes with it."""
    mount = f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", mount, str(volume))


class Absent(NamedTuple):
    name: str
    reason: str
    says: str


@pytest.mark.parametrize(
    "case",
    [
        Absent("modle", "ModelNotFound", "holds: empty, file, model"),
        Absent("file", "NotAModel", "is not a directory"),
        Absent("empty", "NotAModel", "has no config.json. In it: nothing"),
    ],
    ids=lambda case: case.name,
)
def test_what_keeps_vllm_from_being_started(launch: Launch, tmp_path: Path, case: Absent) -> None:
    claim = tmp_path / "claim"
    for name in ("model", "empty"):
        (claim / name).mkdir(parents=True)
    (claim / "file").touch()
    with launch(f"pvc://models/{case.name}", claim / case.name) as launched:
        code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, case.reason)
    assert case.says in message["message"]
    assert f"pvc://models/{case.name}" in message["message"]
    assert "StartingEngine" not in launched.text()


def test_a_file_that_the_server_may_not_read(launch: Launch, vllm_model: Path) -> None:
    """A root that is not above file permissions stands for the pod's user."""
    os.chown(vllm_model / BIG, 12345, 12345)  # as save_pretrained leaves it: mode 0600
    wrapper = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
    try:
        with launch(f"file://{vllm_model}", vllm_model, wrapper=wrapper) as launched:
            code, message = launched.ended(SECONDS)
    finally:
        os.chown(vllm_model / BIG, 0, 0)
    assert (code, message["reason"]) == (1, "ModelUnreadable")
    assert "(mode 0600, uid 12345, gid 12345)" in message["message"]
    assert "chmod" in message["suggestion"]


class Refusal(NamedTuple):
    repo: str
    revision: str
    token: str
    reason: str
    says: str


@pytest.mark.parametrize(
    "case",
    [
        Refusal("nowhere", "main", "", "ModelNotFound", "no public model harbour/nowhere"),
        Refusal("nowhere", "main", "hf_valid", "ModelNotFound", "that the token of Secret hf-token can see"),
        Refusal("gated", "main", "", "TokenMissing", "is gated"),
        Refusal("gated", "main", "hf_valid", "ModelGated", "the token of Secret hf-token has no access"),
        Refusal("open", "main", "hf_old", "TokenRejected", "the token of Secret hf-token"),
        Refusal("open", "v9", "", "RevisionNotFound", "has no revision v9"),
    ],
    ids=lambda case: f"{case.reason}-{case.token or 'anonymous'}",
)
def test_what_the_hub_refuses(fetch: Launch, case: Refusal) -> None:
    token = {"HF_TOKEN": case.token} if case.token else {}
    with fetch(case.repo, case.revision, **token) as launched:
        code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, case.reason)
    assert case.says in message["message"]
    assert message["suggestion"]
    assert not case.token or case.token not in launched.text() + json.dumps(message)


def test_a_hub_that_cannot_be_reached(fetch: Launch) -> None:
    with fetch(endpoint=f"http://127.0.0.1:{free_port()}") as launched:
        code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, "HubUnreachable")
    assert launched.text().count("trying again") == 3


def test_a_download_that_is_not_what_the_hub_says(fetch: Launch, hub: Hub, tmp_path: Path) -> None:
    hub.faults.damaged = {BIG}
    with fetch() as launched:
        code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, "WeightsCorrupt")
    assert "SHA-256" in message["message"]
    assert not (tmp_path / "volume" / "harbour--open@main" / BIG).exists()


def test_a_download_that_is_killed(fetch: Launch, hub: Hub) -> None:
    hub.faults.hold, hub.faults.cut_bytes = BIG, 1000
    with fetch() as launched:
        until(lambda: launched.progress()["total"], SECONDS, "the download under way")
        (child,) = launched.children()
        os.kill(child, signal.SIGKILL)
        code, message = launched.ended(SECONDS)
        hub.faults.go_on.set()
    assert (code, message["reason"]) == (1, "DownloadFailed")
    assert "exit code -9" in message["message"]


def test_a_weights_volume_that_is_too_small(fetch: Launch, tmp_path: Path) -> None:
    with fetch(wrapper=mounted(tmp_path / "volume", "size=8m")) as launched:
        code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, "DiskFull")
    assert "are to come" in message["message"]


def test_a_weights_volume_that_fills_up(fetch: Launch, hub: Hub, tmp_path: Path) -> None:
    hub.faults.hold, hub.faults.cut_bytes = BIG, 11_000_000  # the hub's library writes in steps of 10 MB
    volume = tmp_path / "volume"
    with fetch(wrapper=mounted(volume, "size=40m")) as launched:
        until(lambda: (launched.progress()["bytes"] or 0) >= 10_000_000, SECONDS, "some bytes")
        with contextlib.suppress(OSError), Path(f"/proc/{launched.process.pid}/root{volume}/other").open("wb") as file:
            while True:
                file.write(b"x" * 100_000)
        hub.faults.go_on.set()
        code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, "DiskFull")
    assert "No space left on device" in message["message"]


def test_a_weights_volume_that_is_read_only(fetch: Launch, tmp_path: Path) -> None:
    with fetch(wrapper=mounted(tmp_path / "volume", "ro")) as launched:
        code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, "VolumeNotWritable")
    assert "uid 0" in message["message"]


@pytest.mark.parametrize("there", [False, True])
def test_an_engine_cache_that_is_read_only(launch: Launch, vllm_model: Path, tmp_path: Path, there: bool) -> None:
    """torch would not be imported where the directory cannot be made, and could not compile where it is."""
    volume = tmp_path / "volume"
    volume.mkdir()
    cache = volume if there else volume / "torchinductor"
    wrapper = mounted(volume, "ro")
    with launch(f"file://{vllm_model}", vllm_model, wrapper=wrapper, TORCHINDUCTOR_CACHE_DIR=str(cache)) as launched:
        code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, "VolumeNotWritable")
    assert f"The engine cache, {cache}," in message["message"]
    assert "StartingEngine" not in launched.text()


def test_a_launcher_that_cannot_run(launch: Launch, vllm_model: Path) -> None:
    launched = launch(f"file://{vllm_model}", vllm_model)
    (launched.directory / "tmp" / "berth").touch()
    with launched:
        code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, "LauncherFailed")
    assert "File exists" in message["message"]
    assert "Traceback" not in launched.text()


def test_the_launchers_port_is_taken(launch: Launch, vllm_model: Path) -> None:
    launched = launch(f"file://{vllm_model}", vllm_model)
    with launched.blocked_probes(), launched:
        code, message = launched.ended(SECONDS)
    assert (code, message["reason"]) == (1, "PortInUse")
    assert str(launched.probes_port) in message["message"]
    assert "Traceback" not in launched.text()
