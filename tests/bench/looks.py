"""`make bench-looks`: what it costs the operator to look at the load of 1, 100 and 1,000 endpoints, on loopback.

Real HTTP to a real server that answers as a launcher does, one pod for each endpoint; the operator's own classes ask
and decide. BENCH_ROUNDS: how often all are looked at.  Out: a table for docs/scaling.md, and exit code 1 when a bound
does not hold: a fifth of a core and AT_ONCE sockets for 1,000 endpoints with a look every LOOK_SECONDS.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from berth.api import names
from berth.api.names import Key
from berth.cli.markdown import table
from berth.held import Held
from berth.kube.cache import Cache
from berth.kube.launchers import fetch_load
from berth.kube.resources import DEPLOYMENTS, ENDPOINTS, PODS
from berth.loads import AT_ONCE, Loads
from berth.process import utc_in
from berth.scaler import LOOK_SECONDS, Scaler
from local.daemons import DIES_WITH_US, wait_until
from tests import builders

ADDRESS = "127.0.49.1"
SIZES = (1, 100, 1000)
MOST_OF_A_CORE = 0.2
ANSWER = {
    "v": 1, "running": 17.0, "waiting": 3.0, "deferred": 0.0, "max_num_seqs": 256,
    "kv_cache_tokens": 1_000_000, "requests": 5000.0, "tokens": 2_000_000.0,
}  # fmt: skip


def serve() -> None:
    """In a process of its own: a launcher."""

    async def load(_: web.Request) -> web.Response:
        return web.Response(body=json.dumps(ANSWER), content_type="application/json")

    app = web.Application()
    app.add_routes([web.get("/load", load)])
    web.run_app(app, host=ADDRESS, port=names.LAUNCHER_PORT, print=None)


def answers() -> bool:
    """Whether it listens."""
    with socket.socket() as probe:
        return probe.connect_ex((ADDRESS, names.LAUNCHER_PORT)) == 0


def filled(count: int) -> tuple[Cache, list[Key]]:
    """So many endpoints that scale, each with a ready pod."""
    cache, keys = Cache(), []
    for number in range(count):
        name = f"e{number}"
        endpoint = builders.endpoint(name, uid=name, scaling={"min": 1, "max": 4})
        owner = {"kind": names.KIND, "name": name, "uid": name, "controller": True}
        meta = {"name": name, "namespace": builders.NAMESPACE, "uid": name, "resourceVersion": "1"}
        status = {"replicas": 1, "updatedReplicas": 1}
        cache.put(ENDPOINTS, endpoint)
        spec = {"replicas": 1}
        cache.put(DEPLOYMENTS, {"metadata": meta | {"ownerReferences": [owner]}, "spec": spec, "status": status})
        pod = builders.pod(f"{name}-0", labels=names.labels(name))
        pod["metadata"] |= {"uid": f"{name}-0", "resourceVersion": "1", "creationTimestamp": builders.T0}
        pod["status"] |= {"podIP": ADDRESS, "conditions": [{"type": "Ready", "status": "True"}]}
        cache.put(PODS, pod)
        keys.append(Key(builders.NAMESPACE, name))
    return cache, keys


def sockets() -> int:
    """Of this process."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found += str(descriptor.readlink()).startswith("socket:")
    return found


async def no_gateway(at: str, version: int | None) -> None:
    """None of these endpoints sleeps."""


async def measure(count: int, rounds: int) -> tuple[float, int]:
    """CPU-seconds of a round, and the most sockets above those of an idle process."""
    cache, keys = filled(count)
    idle = sockets()
    most = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE, force_close=True)) as session:
        fetch = partial(fetch_load, session)

        async def counted(ip: str) -> Any:
            nonlocal most
            found = await fetch(ip)
            most = max(most, sockets() - idle)
            return found

        held = Held(no_gateway, lambda uid: None, time.monotonic)
        scaler = Scaler(Loads(fetch, time.monotonic), held, cache, lambda key: None, time.monotonic, utc_in)
        await asyncio.gather(*map(scaler.look, keys))
        began = time.process_time()
        for _ in range(rounds):
            await asyncio.gather(*map(scaler.look, keys))
        cpu_seconds = (time.process_time() - began) / rounds
        known = sum(scaler.demand(key) is not None for key in keys)
        assert known == count, f"only {known} of {count} loads were answered"
        watched = Scaler(Loads(counted, time.monotonic), held, cache, lambda key: None, time.monotonic, utc_in)
        await asyncio.gather(*map(watched.look, keys))
    return cpu_seconds, most


async def run(rounds: int) -> int:
    """Returns the exit code."""
    rows, wrong = [], []
    for count in SIZES:
        cpu_seconds, most = await measure(count, rounds)
        share = cpu_seconds / LOOK_SECONDS
        rows.append([f"{count:,}", f"{cpu_seconds / count * 1000:.2f}", f"{share:.1%}", str(most)])
        if count == SIZES[-1] and (share > MOST_OF_A_CORE or most > AT_ONCE):
            wrong.append(f"{count} endpoints take {share:.0%} of a core and {most} sockets")
    share_of = f"share of a core, a look every {LOOK_SECONDS:.0f} s"
    print(table(["endpoints", "CPU of a look, ms", share_of, "sockets"], rows))
    for text in wrong:
        print(f"does not hold: {text}", file=sys.stderr)
    return 1 if wrong else 0


def main() -> int:
    """Returns the exit code."""
    launcher = subprocess.Popen([*DIES_WITH_US, sys.executable, "-m", "tests.bench.looks", "serve"])
    try:
        wait_until(answers, "the launcher", 20, alive=lambda: launcher.poll() is None)
        return asyncio.run(run(int(os.environ.get("BENCH_ROUNDS", "5"))))
    finally:
        launcher.kill()
        launcher.wait()


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1:] == ["serve"] else main())
