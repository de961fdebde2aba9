"""The kernel's memory accounts, as files of cgroup v2 and v1."""

from __future__ import annotations

from pathlib import Path

import pytest

from berth_server import memory

V2 = "0::/\n"
V1 = "9:name=systemd:/x\n4:memory:/kubepods/pod1/abc\n0::/\n"


def write(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


V2_FILES = {"memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0\n", "memory.max": "1073741824\n"}
V1_FILES = {
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "memory.limit_in_bytes": "1073741824\n",
}


@pytest.mark.parametrize(
    ("cgroups", "files"),
    [
        (V2, V2_FILES),
        (V1, {f"memory/kubepods/pod1/abc/{name}": text for name, text in V1_FILES.items()}),
        # A container without a cgroup namespace: the path is the node's, the mount is its own.
        (V1, {f"memory/{name}": text for name, text in V1_FILES.items()}),
    ],
    ids=["v2", "v1", "v1-in-a-container"],
)
def test_kills_and_limit(tmp_path: Path, cgroups: str, files: dict[str, str]) -> None:
    root = write(tmp_path, files)
    assert memory.kills(cgroups, root) == 2
    assert memory.limit_bytes(cgroups, root) == 2**30


@pytest.mark.parametrize(("cgroups", "name"), [(V2, "memory.max"), (V1, "memory/memory.limit_in_bytes")])
@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n"])
def test_no_limit(tmp_path: Path, cgroups: str, name: str, text: str) -> None:
    assert memory.limit_bytes(cgroups, write(tmp_path, {name: text})) is None


def test_nothing_known(tmp_path: Path) -> None:
    assert memory.kills(V1, str(tmp_path)) is None
    assert memory.kills("", str(tmp_path)) is None


def test_this_machine_counts() -> None:
    assert memory.kills(memory.read_cgroups()) is not None


def test_what_is_said() -> None:
    assert memory.failure(2**31).message.endswith("at the container's memory limit of 2.0 GiB.")
    assert memory.failure(None).message.endswith("as the node ran out of memory.")
