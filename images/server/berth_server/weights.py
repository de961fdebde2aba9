"""Weights on disk: is a planned download complete, which files of a repository are wanted, can a model be read."""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from berth_server.protocol import Failure

MARKER = ".berth-download.json"
"""Written beside the files once all are checked: {"v", "repo", "commit", "files": {path: bytes}}."""

_UNIQUE_UNFINISHED = re.compile(r"\.[0-9a-f]{8}\.incomplete$")

# Copies of the same weights for other programs, which vLLM does not read.
_NEVER = (
    ".git*",
    "original/*",
    "metal/*",
    "onnx/*",
    "openvino/*",
    "coreml/*",
    "*.onnx",
    "*.onnx_data",
    "*.msgpack",
    "*.h5",
    "*.tflite",
    "*.ot",
)
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf")


def wanted(files: Mapping[str, int]) -> dict[str, int]:
    """The files of a repository that vLLM needs, of {path: bytes}: weights in one format, safetensors first."""
    kept = {path: size for path, size in files.items() if not _matches(path, _NEVER)}
    if any("/" not in path and path.endswith(".safetensors") for path in kept):
        kept = {path: size for path, size in kept.items() if not _matches(path, _OTHER_WEIGHTS)}
    return kept


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def read_marker(directory: str) -> dict[str, Any] | None:
    """The marker of a finished download whose files are all still there in full; else None."""
    try:
        with open(os.path.join(directory, MARKER), encoding="utf-8") as file:
            marker: dict[str, Any] = json.load(file)
        return None if missing(directory, marker["files"]) else marker
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_marker(directory: str, repo: str, commit: str, files: Mapping[str, int]) -> None:
    """Marks the download as complete; a crash leaves either the whole marker or none."""
    path = os.path.join(directory, MARKER)
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump({"v": 1, "repo": repo, "commit": commit, "files": dict(files)}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".part", path)


def missing(directory: str, files: Mapping[str, int]) -> list[str]:
    """Those of {path: bytes} that are not in the directory with exactly that size."""

    def size(path: str) -> int:
        try:
            return os.stat(os.path.join(directory, path)).st_size
        except OSError:
            return -1

    return [path for path, expected in files.items() if size(path) != expected]


def bytes_on_disk(directory: str) -> int:
    """What a download has brought so far: finished files and unfinished ones."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # renamed meanwhile
                continue
    return total


def remove_leftovers(directory: str) -> None:
    """Removes what a killed download left and no later one can use.

    Recent releases of huggingface_hub give unfinished files a name of their own in each attempt; older ones have one
    name a file, and go on with it.
    """
    for parent, _, names in os.walk(directory):
        for name in names:
            if _UNIQUE_UNFINISHED.search(name):
                os.unlink(os.path.join(parent, name))


def check_readable(path: str, source: str) -> None:
    """Raises Failure unless `path` is a model directory whose every file this user can read.

    vLLM says of an unreadable file that it does not exist, half a minute into its start.
    """
    user = f"uid {os.getuid()}, groups {sorted({os.getgid(), *os.getgroups()})}"
    if not os.path.lexists(path):
        raise Failure(
            "ModelNotFound",
            f"There is no {path}, where {source} should be{_nearest(path)}.",
            "Correct the path in spec.model.source, or copy the model to it.",
        )
    if not os.path.isdir(path):
        raise Failure(
            "NotAModel",
            f"{path}, named by {source}, is not a directory.",
            "Point spec.model.source at the model directory.",
        )
    unreadable = _unreadable(path)
    if unreadable:
        more = f" and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
        raise Failure(
            "ModelUnreadable",
            f"The server runs as {user} and may not read {_described(unreadable[0])}{more}.",
            "Make the files readable for that user: chmod -R a+rX on the model directory.",
        )
    if not os.path.isfile(os.path.join(path, "config.json")):
        inside = ", ".join(sorted(os.listdir(path))[:10]) or "nothing"
        raise Failure(
            "NotAModel",
            f"{path}, named by {source}, has no config.json. In it: {inside}.",
            "Point spec.model.source at the directory that holds config.json.",
        )


def _unreadable(path: str) -> list[str]:
    """Directories and files below `path` that this user cannot open, hidden ones left out."""
    bad = [] if os.access(path, os.R_OK | os.X_OK) else [path]
    for parent, directories, names in os.walk(path):
        directories[:] = [name for name in directories if not name.startswith(".")]
        for name in directories:
            child = os.path.join(parent, name)
            if not os.access(child, os.R_OK | os.X_OK):
                bad.append(child)
        for name in names:
            child = os.path.join(parent, name)
            if not name.startswith(".") and not os.access(child, os.R_OK):
                bad.append(child)
    return sorted(bad)


def _described(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError as error:
        return f"{path} ({error.strerror})"
    return f"{path} (mode {status.st_mode & 0o7777:04o}, uid {status.st_uid}, gid {status.st_gid})"


def _nearest(path: str) -> str:
    """`; /existing/parent holds: a, b`: what helps against a misspelt path."""
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    try:
        inside = ", ".join(sorted(os.listdir(parent))[:10]) or "nothing"
    except OSError:
        return f"; {parent} cannot be listed"
    return f"; {parent} holds: {inside}"
