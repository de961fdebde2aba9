"""The download, in a process of its own: the token and the hub's library stay out of PID 1 and of vLLM.

Says on stdout, one JSON object a line: {"total": bytes, "commit"} once known, {"message"} when something is worth
knowing, and last {"done": true} or {"error": {…}}, which `failure` turns into a reason.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from berth_server import weights
from berth_server.protocol import Failure

PUBLIC_HUB = "https://huggingface.co"
ATTEMPTS = 4
# Of every HTTP library that huggingface_hub has used, and its own.
_TRANSPORT_ERRORS = {
    "TransportError",
    "TimeoutException",
    "Timeout",
    "ConnectionError",
    "FileMetadataError",
    "XetDownloadError",
}
Say = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Wanted:
    """What to download, from which hub, into which directory."""

    repo: str
    revision: str
    directory: str
    endpoint: str
    token: str | None


def fetch(wanted: Wanted, say: Say, sleep: Callable[[float], None]) -> bool:
    """Downloads a model repository of the hub; resumes, checks sizes and checksums. False when it failed."""
    directory = wanted.directory
    try:
        os.makedirs(directory, exist_ok=True)
        with open(directory + ".lock", "w", encoding="ascii") as lock:
            _take(lock.fileno(), say)
            # Another pod with the same volume may have finished while this one waited.
            if weights.read_marker(directory) is None:
                weights.remove_leftovers(directory)
                _with_retries(lambda: _fetch(wanted, say), directory, say, sleep)
    except Exception as error:  # whatever it is, the launcher reports it
        say({"error": {**described(error, wanted.token), "endpoint": wanted.endpoint, "uid": os.getuid()}})
        return False
    say({"done": True})
    return True


def _take(lock: int, say: Say) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say({"message": "waiting for another pod that downloads into the same volume"})
        fcntl.flock(lock, fcntl.LOCK_EX)


def _with_retries(attempt: Callable[[], None], directory: str, say: Say, sleep: Callable[[float], None]) -> None:
    """Tries again while the hub cannot be reached; an attempt that brought bytes does not count."""
    failed, before = 0, 0
    while True:
        try:
            return attempt()
        except Exception as error:
            seen = described(error, None)
            now = weights.bytes_on_disk(directory)
            failed = 1 if now > before else failed + 1
            before = now
            if failed >= ATTEMPTS or not unreachable(seen):
                raise
            say({"message": f"the hub cannot be reached, trying again ({failed} of {ATTEMPTS - 1}): {seen['message']}"})
            sleep(2.0 ** (failed - 1))


def _fetch(wanted: Wanted, say: Say) -> None:
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url, snapshot_download

    directory, endpoint = wanted.directory, wanted.endpoint
    token: str | bool = wanted.token or False  # False: not even one that lies around in a file
    found = HfApi(endpoint=endpoint, token=token).model_info(wanted.repo, revision=wanted.revision, files_metadata=True)
    commit = found.sha or wanted.revision
    siblings = {sibling.rfilename: sibling for sibling in found.siblings or ()}
    files = weights.wanted({path: sibling.size or 0 for path, sibling in siblings.items()})
    total = sum(files.values())
    say({"total": total, "commit": commit})
    needed, free = total - weights.bytes_on_disk(directory), shutil.disk_usage(directory).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed / 2**30:.1f} GiB are to come and {free / 2**30:.1f} GiB are free")
    snapshot_download(
        wanted.repo,
        revision=commit,
        local_dir=directory,
        endpoint=endpoint,
        token=token,
        allow_patterns=[glob.escape(path) for path in files],
    )
    absent = weights.missing(directory, files)
    if absent:
        # Some releases of the library return what is there when the hub refuses. Ask for the refusal itself.
        url = hf_hub_url(wanted.repo, absent[0], revision=commit, endpoint=endpoint)
        get_hf_file_metadata(url, token=token, endpoint=endpoint)
        raise OSError(errno.EIO, f"{len(absent)} files are missing or cut short, such as {absent[0]}")
    _verify(directory, {path: lfs.sha256 for path in files if (lfs := siblings[path].lfs)})
    weights.write_marker(directory, wanted.repo, commit, files)


def _verify(directory: str, checksums: Mapping[str, str]) -> None:
    """Compares the large files with the hub's SHA-256; one that differs is removed, so that the next try fetches it."""

    def digest(path: str) -> str:
        sha256 = hashlib.sha256()
        with open(os.path.join(directory, path), "rb") as file:
            while chunk := file.read(1 << 20):
                sha256.update(chunk)
        return sha256.hexdigest()

    with ThreadPoolExecutor(max_workers=8) as pool:
        damaged = [
            path for path, seen in zip(checksums, pool.map(digest, checksums), strict=True) if seen != checksums[path]
        ]
    for path in damaged:
        os.unlink(os.path.join(directory, path))
    if damaged:
        raise ChecksumMismatch(f"{damaged[0]} does not have the SHA-256 {checksums[damaged[0]]} that the hub names")


class ChecksumMismatch(Exception):
    """A downloaded file is not what the hub says it is."""


def described(error: BaseException, token: str | None) -> dict[str, Any]:
    """An exception as plain data: class names along its causes, HTTP status, errno and message, without the token."""
    names: list[str] = []
    status: int | None = None
    number: int | None = None
    hub_message: str | None = None
    link: BaseException | None = error
    while link is not None and len(names) < 100:
        names += [base.__name__ for base in type(link).__mro__]
        response = getattr(link, "response", None)
        if status is None and response is not None:
            status = response.status_code
            hub_message = response.headers.get("X-Error-Message")
        if number is None and isinstance(link, OSError):
            number = link.errno
        link = link.__cause__ or link.__context__
    message = " ".join(str(error).split())[:1000]
    if token:
        message = message.replace(token, "…")
    return {
        "names": names,
        "status": status,
        "errno": number,
        "message": message,
        "hub": hub_message,
        "token": bool(token),
    }


def unreachable(error: Mapping[str, Any]) -> bool:
    """Whether the hub, or the way to it, is at fault for now: worth another try. `error` as for `failure`."""
    names, status = set(error["names"]), error["status"]
    if "OfflineModeIsEnabled" in names or error["errno"] in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return False
    if status is not None:
        return bool(status == 429 or status >= 500)
    return bool(names & _TRANSPORT_ERRORS)


def failure(error: Mapping[str, Any], source: str, revision: str, secret: str) -> Failure:
    """The reason for a failed download. `error` is what `described` made of it; secret: name of the token's Secret."""
    names, status, message, had_token = set(error["names"]), error["status"], error["message"], error["token"]
    repo = source.removeprefix("hf://")
    name_one = "Name a Secret with a Hugging Face token in spec.model.secretRef."
    token = f"the token of Secret {secret}" if secret else "the token"
    if error["errno"] in (errno.ENOSPC, errno.EDQUOT):
        return Failure("DiskFull", f"No room for {source}: {message}.", "Give spec.storage.weights a larger volume.")
    if error["errno"] in (errno.EACCES, errno.EPERM, errno.EROFS) and status is None:
        return Failure("VolumeNotWritable", f"The weights volume cannot be written by uid {error['uid']}: {message}.")
    if "RevisionNotFoundError" in names:
        return Failure(
            "RevisionNotFound",
            f"{source} has no revision {revision}.",
            "Set spec.model.revision to a branch, tag or commit of that repository.",
        )
    if "GatedRepoError" in names:
        if had_token:
            return Failure(
                "ModelGated",
                f"{source} is gated and {token} has no access to it.",
                f"Ask for access on the page of {repo} with the account of the token, or use another token.",
            )
        return Failure("TokenMissing", f"{source} is gated: it can only be downloaded with a token.", name_one)
    if status == 401 and had_token:
        said = f" The hub says: {error['hub']}." if error["hub"] else ""
        return Failure("TokenRejected", f"The hub does not accept {token}.{said}", "Put a valid token into the Secret.")
    if status == 403:
        reason = "TokenRejected" if had_token else "TokenMissing"
        return Failure(reason, f"The hub refuses {source}: {message}.", name_one)
    if "RepositoryNotFoundError" in names or status in (401, 404):
        if had_token:
            return Failure(
                "ModelNotFound",
                f"The hub has no model {repo} that {token} can see.",
                "Correct spec.model.source, or use a token that has access.",
            )
        return Failure(
            "ModelNotFound",
            f"The hub has no public model {repo}: it does not exist, or it is private.",
            f"Correct spec.model.source. If it is private: {name_one}",
        )
    if "ChecksumMismatch" in names:
        return Failure("WeightsCorrupt", f"Downloaded from {source}: {message}.", "The next start fetches it again.")
    if "OfflineModeIsEnabled" in names:
        suggestion = "Remove HF_HUB_OFFLINE from spec.server.env."
        return Failure("HubUnreachable", "HF_HUB_OFFLINE forbids downloads.", suggestion)
    if "HFValidationError" in names:
        return Failure("ModelNotFound", f"{repo} is no repository name: {message}.", "Correct spec.model.source.")
    if "ImportError" in names:
        return Failure("VllmMissing", f"The image lacks what every vLLM image has: {message}.")
    if unreachable(error):
        answered = f" answered {status}" if status is not None else " cannot be reached"
        return Failure("HubUnreachable", f"The hub at {error['endpoint']}{answered}: {message}.")
    return Failure("DownloadFailed", f"The download of {source} failed: {message}.")


def main(repo: str, revision: str, directory: str) -> int:
    """The child process: the token comes in HF_TOKEN, the report goes to stdout."""

    def say(line: Mapping[str, Any]) -> None:
        print(json.dumps(line), flush=True)

    endpoint = os.environ.get("HF_ENDPOINT") or PUBLIC_HUB
    wanted = Wanted(repo, revision, directory, endpoint, token=os.environ.get("HF_TOKEN"))
    return 0 if fetch(wanted, say, time.sleep) else 1
