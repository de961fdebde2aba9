"""Building images: what a killed build leaves, what stays out of an image, when nothing is done. Real buildah; root."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import images
from local.builder import Builder, builder
from local.tools import cache_dir
from tests.waiting import eventually

TAG = f"localhost/berth-test:{os.getpid()}"

# Sleeps under a name of its own, so that a process list shows whether it is still there.
ENDLESS = "berth-endless-build"
BUILD_WITHOUT_END = f"""
import sys
from pathlib import Path
from local import images
from local.builder import builder
with builder() as store:
    base = images.build(store, "base")
    store.build("{TAG}", Path(sys.argv[1]) / "Dockerfile", Path(sys.argv[1]), {{"BASE": base}})
"""


@pytest.fixture
def store() -> Iterator[Builder]:
    """The builder; the image TAG is gone afterwards."""
    with builder() as opened:
        yield opened
        if TAG in opened.references():
            opened.remove([TAG])


def test_a_killed_build_leaves_no_process_and_no_mount_and_the_next_one_works(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        f'ARG BASE\nFROM ${{BASE}}\nSHELL ["/bin/bash", "-c"]\nRUN exec -a {ENDLESS} sleep 600\n'
    )
    build = subprocess.Popen([sys.executable, "-c", BUILD_WITHOUT_END, str(tmp_path)])
    try:
        eventually(lambda: _processes(ENDLESS), 120, "the build runs its command")
    finally:
        build.send_signal(signal.SIGKILL)
        build.wait()
    eventually(lambda: not _processes(ENDLESS), 5, "the build's processes are gone")
    assert str(cache_dir() / "images") not in Path("/proc/mounts").read_text()
    with builder() as store:
        (tmp_path / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nRUN true\n")
        store.build(TAG, tmp_path / "Dockerfile", tmp_path, {"BASE": images.build(store, "base")})
        assert TAG in store.references()
        store.remove([TAG])
        assert TAG not in store.references()


def test_package_index_settings_reach_a_build_and_stay_out_of_the_image(
    store: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://somebody:pass-phrase@mirror.example/simple")
    (tmp_path / "Dockerfile").write_text(
        "ARG BASE\nFROM ${BASE}\n"
        "RUN --mount=type=secret,id=package-index . /run/secrets/package-index"
        ' && echo "${UV_DEFAULT_INDEX}" | cut -d / -f 3 | cut -d @ -f 2 >/seen\n'
    )
    store.build(TAG, tmp_path / "Dockerfile", tmp_path, {"BASE": images.build(store, "base")})
    shown = store.run(TAG, tmp_path, "sh", "-c", "cat /seen; env; grep -rs pass-phrase /etc /run /tmp /root || true")
    assert shown.splitlines()[0] == "mirror.example"
    assert "pass-phrase" not in shown


def test_unchanged_images_are_neither_built_nor_imported(
    references: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(images, "builder")
    monkeypatch.delattr(images, "_import")
    assert images.ensure(references) == references


def _processes(name: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(name.encode()):
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
