"""Brings hf:// weights to their planned path, in a child process that alone gets the token."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from berth_server import diagnose, hub_errors, progress, protocol, weights
from berth_server.processes import Child, Output
from berth_server.protocol import Failure
from berth_server.status import Status

MEASURE_SECONDS = 1.0
LOG_SECONDS = 30.0


async def download(
    source: str,
    revision: str,
    secret: str,
    path: str,
    command: list[str],
    env: Mapping[str, str],
    child: Child,
    status: Status,
) -> None:
    """Downloads unless `path` is complete; raises Failure.

    command: Python and the payload directory; secret: name of the token's Secret, for messages.
    """
    status.phase(protocol.DOWNLOADING)
    done = await asyncio.to_thread(weights.read_marker, path)
    if done:
        _complete(done, status)
        status.say(f"{path} is complete: commit {done['commit']}, {status.snapshot.bytes_total} bytes")
        return
    report: dict[str, Any] = {}
    loop = asyncio.get_running_loop()
    out = Output(lambda line: loop.call_soon_threadsafe(_read_line, line, report, status))
    err = Output()
    arguments = ["fetch", f"--repo={source.removeprefix('hf://')}", f"--revision={revision}", f"--into={path}"]
    end = child.start([*command, *arguments], {**env, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}, out, err, pass_on=False)
    measuring = asyncio.create_task(_measure(path, status))
    try:
        code = await end
    finally:
        measuring.cancel()
    # The reader hands lines to this loop in order: this one comes back after them all.
    await asyncio.to_thread(out.wait, 2.0)
    if "error" in report:
        raise hub_errors.failure(report["error"], source, revision, secret)
    if "done" not in report:
        last = diagnose.root_cause(list(err.lines)) or "it left no error"
        raise Failure("DownloadFailed", f"The download of {source} ended with exit code {code}: {last}")
    done = await asyncio.to_thread(weights.read_marker, path)
    if done is None:
        raise Failure("DownloadFailed", f"The files of {source} were there and are gone from {path} again.")
    _complete(done, status)


def _complete(marker: Mapping[str, Any], status: Status) -> None:
    size = sum(marker["files"].values())
    status.update(bytes_done=size, bytes_total=size, revision=marker["commit"], bytes_per_second=None, message="")


def _read_line(line: str, report: dict[str, Any], status: Status) -> None:
    with contextlib.suppress(ValueError):
        said = json.loads(line)
        report.update(said)
        if "total" in said and said["commit"] != status.snapshot.revision:
            status.update(bytes_total=said["total"], revision=said["commit"])
            status.say(f"downloading commit {said['commit']}, {said['total'] or 'unknown'} bytes")
        message = said.get("message", "")
        if message and message != status.snapshot.message:
            status.say(message)
        status.update(message=message)


async def _measure(path: str, status: Status) -> None:
    """Looks at the disk, which is right for every release of the hub's library and for another pod's download too."""
    logged_at = time.monotonic()
    samples: deque[tuple[float, int]] = deque()
    while True:
        size = await asyncio.to_thread(weights.bytes_on_disk, path)
        total = status.snapshot.bytes_total
        samples.append((time.monotonic(), size))
        while samples[-1][0] - samples[0][0] > progress.RATE_SECONDS:
            samples.popleft()
        status.update(bytes_done=min(size, total or size), bytes_per_second=progress.rate(samples))
        if total and time.monotonic() - logged_at >= LOG_SECONDS:
            logged_at = time.monotonic()
            status.say(f"downloaded {size / 2**30:.1f} of {total / 2**30:.1f} GiB")
        await asyncio.sleep(MEASURE_SECONDS)
