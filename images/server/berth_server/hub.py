"""The download, in a process of its own: the token and the hub's library stay out of PID 1 and of vLLM.

Says on stdout, one JSON object a line: {"total": bytes or null, "commit"} once known, {"message"} when something is
worth knowing, and last {"done": true} or {"error": {…}}, which `hub_errors.failure` turns into a reason.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from berth_server import weights
from berth_server.hub_errors import CertificatesMissing, ChecksumMismatch, LeaseLost, described, unreachable
from berth_server.lease import Lease

PUBLIC_HUB = "https://huggingface.co"
ATTEMPTS = 4
PARALLEL = 8
# httpx and httpx2, of huggingface_hub since 1.0, read the first; requests, of older releases, the second.
CERTIFICATES, OLD_CERTIFICATES = "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"
Say = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Wanted:
    """What to download, from which hub, into which directory."""

    repo: str
    revision: str
    directory: str
    endpoint: str
    token: str | None


class File(NamedTuple):
    """What the hub says of a file. size: bytes, None when the hub does not tell.

    sha256: of a large file's content; blob: git's object id of any other file. None when the hub does not tell.
    """

    size: int | None
    sha256: str | None
    blob: str | None


def fetch(wanted: Wanted, lease: Lease, say: Say, sleep: Callable[[float], None]) -> bool:
    """Downloads a model repository of the hub; resumes, checks sizes and checksums. False when it failed."""
    directory = wanted.directory

    def incomplete() -> bool:
        return weights.read_marker(directory) is None

    try:
        _check_certificates(os.environ)
        os.makedirs(directory, exist_ok=True)
        if lease.acquire(incomplete, lambda holder: say(_waiting(holder))):
            try:
                if incomplete():  # another pod may have finished between the two looks
                    _with_retries(lambda: _fetch(wanted, lease, say), wanted, say, sleep)
            finally:
                lease.release()
    except Exception as error:  # whatever it is, the launcher reports it
        say({"error": {**described(error, wanted.token), "endpoint": wanted.endpoint, "uid": os.getuid()}})
        return False
    say({"done": True})
    return True


def _waiting(holder: Mapping[str, Any]) -> dict[str, Any]:
    told = {"message": f"waiting for another pod's download: {holder.get('holder', 'unknown')}"}
    return told | ({"total": holder["total"], "commit": holder["commit"]} if "commit" in holder else {})


def _check_certificates(env: Mapping[str, str]) -> None:
    """The libraries say of such a file that something does not exist, but not what."""
    for name in (CERTIFICATES, OLD_CERTIFICATES):
        path = env.get(name)
        if path and not os.access(path, os.R_OK):
            raise CertificatesMissing(f"{name} names {path}, which is not there or cannot be read")


def _with_retries(attempt: Callable[[], None], wanted: Wanted, say: Say, sleep: Callable[[float], None]) -> None:
    """Tries again while the hub cannot be reached; an attempt that brought bytes does not count."""
    failed, before = 0, 0
    while True:
        try:
            return attempt()
        except Exception as error:
            seen = described(error, wanted.token)
            now = weights.bytes_on_disk(wanted.directory)
            failed = 1 if now > before else failed + 1
            before = now
            if failed >= ATTEMPTS or not unreachable(seen):
                raise
            say({"message": f"the hub cannot be reached, trying again ({failed} of {ATTEMPTS - 1}): {seen['message']}"})
            sleep(2.0 ** (failed - 1))


def _fetch(wanted: Wanted, lease: Lease, say: Say) -> None:
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url, snapshot_download

    directory, endpoint = wanted.directory, wanted.endpoint
    token: str | bool = wanted.token or False  # False: not even one that lies around in a file
    found = HfApi(endpoint=endpoint, token=token).model_info(wanted.repo, revision=wanted.revision, files_metadata=True)
    # From here on the commit: a branch may move while it is being downloaded.
    commit = found.sha or wanted.revision
    listed = {
        sibling.rfilename: File(sibling.size, sibling.lfs.sha256 if sibling.lfs else None, sibling.blob_id)
        for sibling in found.siblings or ()
    }
    files = {path: listed[path] for path in weights.wanted(listed)}
    total = _total(files)
    lease.tell(total=total, commit=commit)
    say({"total": total, "commit": commit})
    needed, free = (total or 0) - weights.bytes_on_disk(directory), shutil.disk_usage(directory).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed / 2**30:.1f} GiB are to come and {free / 2**30:.1f} GiB are free")
    urls = {path: hf_hub_url(wanted.repo, path, revision=commit, endpoint=endpoint) for path in files}
    _resume(wanted, files, urls, say)
    snapshot_download(
        wanted.repo,
        revision=commit,
        local_dir=directory,
        endpoint=endpoint,
        token=token,
        allow_patterns=[glob.escape(path) for path in files],
        max_workers=PARALLEL,
    )
    absent = weights.missing(directory, {path: file.size for path, file in files.items()})
    if absent:
        # Some releases of the library return what is there when the hub refuses. Ask for the refusal itself.
        get_hf_file_metadata(urls[absent[0]], token=token, endpoint=endpoint)
        raise OSError(errno.EIO, f"{len(absent)} files are missing or cut short, such as {absent[0]}")
    say({"message": "comparing checksums"})
    _verify(directory, files)
    sizes = {path: os.path.getsize(os.path.join(directory, path)) for path in files}
    weights.write_marker(directory, wanted.repo, commit, sizes)


def _total(files: Mapping[str, File]) -> int | None:
    sizes = [file.size for file in files.values()]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _resume(wanted: Wanted, files: Mapping[str, File], urls: Mapping[str, str], say: Say) -> None:
    """Finishes large files that a killed download left unfinished: a request for the rest of each.

    Recent releases of huggingface_hub would begin again: they give an unfinished file a new name in each attempt. Files
    in Xet storage do begin again, as they need not be written from beginning to end.
    """
    absent = weights.missing(wanted.directory, {path: file.size for path, file in files.items()})
    by_sum = {checksum: path for path in absent if (checksum := files[path].sha256)}
    left = weights.take_unfinished(wanted.directory, by_sum)

    def finish(checksum: str) -> None:
        path = by_sum[checksum]
        whole = os.path.join(wanted.directory, path)
        try:
            _finish(left[checksum], files[path].size, urls[path], wanted)
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            os.replace(left[checksum], whole)
        except Exception as error:
            seen = described(error, wanted.token)
            if unreachable(seen):
                raise
            say({"message": f"cannot go on with {path}, beginning again: {seen['message']}"})
            os.unlink(left[checksum])

    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        list(pool.map(finish, left))


def _finish(unfinished: str, size: int | None, url: str, wanted: Wanted) -> None:
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.file_download import build_hf_headers, http_get, is_xet_available  # type: ignore[attr-defined]

    token = wanted.token or False
    metadata = get_hf_file_metadata(url, token=token, endpoint=wanted.endpoint)
    if getattr(metadata, "xet_file_data", None) is not None and is_xet_available():
        raise ValueError("this file comes from Xet storage")
    with open(unfinished, "r+b") as file:
        file.seek(0, os.SEEK_END)
        http_get(
            url,
            file,
            resume_size=file.tell(),
            headers=build_hf_headers(token=token),
            expected_size=size or metadata.size,
        )


def _verify(directory: str, files: Mapping[str, File]) -> None:
    """Compares files with the hub's checksums; one that differs is removed, so that the next try fetches it."""

    def differs(path: str) -> bool:
        file, whole = files[path], os.path.join(directory, path)
        if file.sha256:
            return _digest(hashlib.sha256(), whole) != file.sha256
        if file.blob:
            # As `git hash-object`: of a header and the content.
            header = b"blob %d\0" % os.path.getsize(whole)
            return _digest(hashlib.sha1(header, usedforsecurity=False), whole) != file.blob
        return False

    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        damaged = [path for path, bad in zip(files, pool.map(differs, files), strict=True) if bad]
    for path in damaged:
        os.unlink(os.path.join(directory, path))
    if damaged:
        file = files[damaged[0]]
        known = f"SHA-256 {file.sha256}" if file.sha256 else f"git blob id {file.blob}"
        raise ChecksumMismatch(f"{damaged[0]} does not have the {known} that the hub names")


def _digest(algorithm: Any, path: str) -> str:
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            algorithm.update(chunk)
    found: str = algorithm.hexdigest()
    return found


def main(repo: str, revision: str, directory: str) -> int:
    """The child process: the token comes in HF_TOKEN, the report goes to stdout."""

    def say(line: Mapping[str, Any]) -> None:
        print(json.dumps(line), flush=True)

    def lost() -> None:
        say({"error": {**described(LeaseLost(), None), "endpoint": endpoint, "uid": os.getuid()}})
        os._exit(1)  # the library's threads would go on

    if CERTIFICATES in os.environ:
        os.environ.setdefault(OLD_CERTIFICATES, os.environ[CERTIFICATES])
    endpoint = os.environ.get("HF_ENDPOINT") or PUBLIC_HUB
    wanted = Wanted(repo, revision, directory, endpoint, token=os.environ.get("HF_TOKEN"))
    # The pod's name; in the node's network that of the node, which has room for one such pod on our port.
    lease = Lease(directory + ".lock", os.environ.get("HOSTNAME") or os.uname().nodename, lost)
    return 0 if fetch(wanted, lease, say, time.sleep) else 1
