"""The gateway as a process of its own: what it serves, logs and exits with.

In: `python -m berth_gateway` with variables and signals, an API server of a few lines, pods that are played.
Out: answers, standard output and error, exit codes. The API server is real in tests/apiserver/test_gateway_cluster.py.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.unit.gateway.api_server import ApiServer
from tests.unit.gateway.rig import Asked, PlayedPod, endpoint, secret, slice_of

IMAGES = Path(__file__).parents[3] / "images"
ENDPOINTS = "/apis/berth.dev/v1alpha1/modelendpoints"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
SECRETS = "/api/v1/namespaces/berth-system/secrets"
ASK = {"model": "llama", "prompt": "a secret prompt"}
KEY = {"x-api-key": "a secret key"}


def free_ports(count: int) -> int:
    """The first of so many ports, all free a moment ago."""
    while True:
        with contextlib.ExitStack() as held:
            first = held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            try:
                for port in range(first + 1, first + count):
                    held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first


class Process:
    """A gateway under way. said: what it has logged.  errors: lines of standard error that are no log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._news = asyncio.Event()
        self._over = False
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            try:
                self.said.append(json.loads(line))
            except ValueError:
                self.errors.append(line.decode())
            self._news.set()
        self._over = True
        self._news.set()

    async def event(self, name: str) -> dict[str, Any]:
        """The first log line of this event, once it is there."""
        async with asyncio.timeout(60):
            while True:
                for entry in self.said:
                    if entry["event"] == name:
                        return entry
                assert not self._over, (self.errors, self.said)
                self._news.clear()
                await self._news.wait()

    async def url(self) -> str:
        return f"http://127.0.0.1:{(await self.event('listening'))['port']}"

    async def admin(self) -> str:
        return f"http://127.0.0.1:{(await self.event('admin_listening'))['port']}"

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    async def ended(self) -> tuple[int, list[str]]:
        """Exit code and the lines of standard output, once it has ended."""
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            output = await self._process.stdout.read()
            await self._reading
            return await self._process.wait(), output.decode().splitlines()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._reading.cancel()


@contextlib.asynccontextmanager
async def started(server: ApiServer, directory: Path, **settings: str) -> AsyncIterator[Process]:
    config = directory / "kubeconfig"
    config.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": server.url}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    given = {
        "PORT": "0",
        "ADMIN_PORT": "0",
        "FIRST_ENDPOINT_PORT": str(free_ports(2)),
        "ENDPOINT_PORTS": "2",
        "FURTHER_SECONDS": "0",
        **settings,
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "berth_gateway",
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{IMAGES / 'gateway'}:{IMAGES / 'apis'}",
            "KUBECONFIG": str(config),
            **{f"BERTH_GATEWAY_{name}": value for name, value in given.items()},
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    process = Process(running)
    try:
        yield process
    finally:
        await process.kill()


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        key = secret("me", KEY["x-api-key"])
        running.put(SECRETS, {**key, "metadata": {**key["metadata"], "namespace": "berth-system"}})
        yield running


async def test_a_request_reaches_a_pod_and_no_word_of_it_is_logged(server: ApiServer, tmp_path: Path) -> None:
    async with PlayedPod() as pod, started(server, tmp_path) as gateway:
        server.put(ENDPOINTS, endpoint("llama"))
        server.put(SLICES, slice_of("llama", [(pod.host, pod.port)]))
        url = await gateway.url()
        async with aiohttp.ClientSession(headers=KEY) as session:
            async with asyncio.timeout(60), session.post(f"{url}/v1/completions", json=ASK) as answer:
                assert (answer.status, (await answer.json())["choices"]) == (200, [{"text": "hi"}])
            async with session.get(f"{await gateway.admin()}/metrics") as answer:
                text = await answer.text()
            async with session.get(f"{await gateway.admin()}/demand") as answer:
                demand = await answer.json()
        assert 'endpoint="llama",namespace="team-a",owner="me"' in text
        assert demand["endpoints"]["uid-team-a-llama"]["requests"] == 1
        gateway.terminate()
        code, lines = await gateway.ended()
    assert code == 0
    assert [(entry["endpoint"], entry["owner"], entry["status"]) for entry in map(json.loads, lines)] == [
        ("llama", "me", 200)
    ]
    assert gateway.errors == []
    assert [entry["event"] for entry in gateway.said] == ["admin_listening", "listening", "leaving", "stopped"]
    assert "secret" not in "".join([*lines, *map(str, gateway.said)])


async def test_told_to_end_it_finishes_what_it_has_and_takes_no_more(server: ApiServer, tmp_path: Path) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(asked: Asked) -> None:
        await asked.begin_stream()
        await asked.event("one")
        began.set()
        await go_on.wait()
        await asked.event("two")
        await asked.send(b"0\r\n\r\n")

    async with PlayedPod(slow) as pod, started(server, tmp_path) as gateway:
        server.put(ENDPOINTS, endpoint("llama"))
        server.put(SLICES, slice_of("llama", [(pod.host, pod.port)]))
        url, admin = await gateway.url(), await gateway.admin()
        async with aiohttp.ClientSession(headers=KEY) as session, asyncio.timeout(60):
            async with session.post(f"{url}/v1/completions", json=ASK) as answer:
                await began.wait()
                gateway.terminate()
                await gateway.event("leaving")
                async with session.get(f"{admin}/readyz") as ready:
                    assert ready.status == 503
                async with session.get(f"{admin}/demand") as told:
                    assert (await told.json())["endpoints"]["uid-team-a-llama"]["in_flight"] == 1
                go_on.set()
                assert (await answer.read()).count(b"data:") == 2
            code, _ = await gateway.ended()
            assert code == 0
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(f"{url}/v1/models")


async def test_a_taken_port_is_said_in_one_line(server: ApiServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with started(server, tmp_path, FIRST_ENDPOINT_PORT=str(port), ENDPOINT_PORTS="1") as gateway:
            code, _ = await gateway.ended()
    assert code == 2
    assert gateway.errors == [
        f"berth-gateway: one of the ports 0, {port} to {port} cannot be used: Address already in use; set"
        " BERTH_GATEWAY_PORT or BERTH_GATEWAY_FIRST_ENDPOINT_PORT to free ones\n"
    ]


def test_without_a_cluster_it_says_what_to_set() -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{IMAGES / 'gateway'}:{IMAGES / 'apis'}"}
    command = [sys.executable, "-m", "berth_gateway"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "berth-gateway: not running in a pod with a service account, and no kubeconfig is named: set KUBECONFIG\n"
    )
