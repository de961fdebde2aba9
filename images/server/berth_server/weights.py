"""Weights on disk: is a planned download complete, which files of a repository are wanted, can a model be read."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

from berth_server.protocol import Failure

MARKER = ".berth-download.json"
"""Written beside the files once all are checked: {"v", "repo", "commit", "files": {path: bytes}}."""

# What huggingface_hub keeps below the directory. An unfinished file's name has the SHA-256 of the content it is to
# have (git's id for a small file); in recent releases also a random part for the attempt.
_UNFINISHED = re.compile(r"/\.cache/huggingface/.*\.([0-9a-f]{64}|[0-9a-f]{40})(?:\.[0-9a-f]{8})?\.incomplete$")
_LOCK = re.compile(r"/\.cache/huggingface/.*\.lock$")

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


def wanted(paths: Iterable[str]) -> list[str]:
    """The files of a repository that vLLM needs: weights in one format, safetensors first."""
    kept = [path for path in paths if not _matches(path, _NEVER)]
    if any("/" not in path and path.endswith(".safetensors") for path in kept):
        kept = [path for path in kept if not _matches(path, _OTHER_WEIGHTS)]
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


def forget(directory: str) -> None:
    """Takes the marker away: the next start compares the files with the hub's checksums again."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, MARKER))


def missing(directory: str, files: Mapping[str, int | None]) -> list[str]:
    """Those of {path: bytes} that are not in the directory with exactly that size; None stands for any size."""

    def size(path: str) -> int:
        try:
            return os.stat(os.path.join(directory, path)).st_size
        except OSError:
            return -1

    return [path for path, expected in files.items() if (found := size(path)) < 0 or expected not in (None, found)]


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


def take_unfinished(directory: str, known: Container[str]) -> dict[str, str]:
    """Paths of unfinished files by the SHA-256 of what they are to become, the longest of each, for those in `known`.

    Removes all others, and the library's lock files, which outlive their holder where a volume has no other locks.
    Only the holder of the lease may call it.
    """
    paths = [os.path.join(parent, name) for parent, _, names in os.walk(directory) for name in names]
    unfinished = [(path, found[1]) for path in paths if (found := _UNFINISHED.search(path))]
    unfinished.sort(key=lambda each: os.path.getsize(each[0]))
    taken = {checksum: path for path, checksum in unfinished if checksum in known}
    for path in paths:
        if (_UNFINISHED.search(path) and path not in taken.values()) or _LOCK.search(path):
            os.unlink(path)
    return taken


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
