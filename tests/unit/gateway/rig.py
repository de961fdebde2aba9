"""A relay between real sockets: pods that are played, and clients that send bytes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

from berth_gateway.access import Access
from berth_gateway.counts import Counts
from berth_gateway.holding import Holds, Limits
from berth_gateway.log import AccessLog
from berth_gateway.relay import Relay
from berth_gateway.settings import Settings
from berth_gateway.table import Table

Object = dict[str, Any]

LIMITS = Limits()
KEY = "k-of-team-a"
GOOD = b'{"id":"x","choices":[{"text":"hi"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'


def endpoint(name: str, namespace: str = "team-a", **spec: Any) -> Object:
    """A ModelEndpoint. spec: merged over a small one; status: of the object."""
    status = spec.pop("status", {})
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{namespace}-{name}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generation": 1,
        },
        "spec": {"model": {"source": "file:///m"}, **spec},
        "status": status,
    }


def slice_of(name: str, addresses: list[tuple[str, int]], namespace: str = "team-a", ready: bool = True) -> Object:
    """The controller's EndpointSlice of an endpoint. addresses: all of one port."""
    return {
        "metadata": {
            "name": f"{name}-x",
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "ports": [{"name": "http", "port": addresses[0][1] if addresses else 8000}],
        "endpoints": [
            {
                "addresses": [host],
                "conditions": {"ready": ready, "serving": ready, "terminating": False},
                "targetRef": {"kind": "Pod", "name": f"{name}-{host}", "namespace": namespace},
            }
            for host, _ in addresses
        ],
    }


def own_slice(name: str, port: int, namespace: str = "team-a") -> Object:
    """Berth's EndpointSlice of an endpoint at zero."""
    return {
        "metadata": {
            "name": f"{name}-gateway",
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "berth.dev",
            },
            "ownerReferences": [
                {"kind": "ModelEndpoint", "name": name, "uid": f"uid-{namespace}-{name}", "controller": True}
            ],
        },
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    }


def secret(name: str, key: str, **data: str) -> Object:
    """A key of the gateway."""
    texts = {"sha256": hashlib.sha256(key.encode()).hexdigest(), "owner": name, "namespaces": "*", **data}
    return {
        "metadata": {"name": name},
        "data": {field: b64encode(text.encode()).decode() for field, text in texts.items()},
    }


Handler = Callable[["Asked"], Awaitable[None]]


class Asked:
    """A request as a pod has got it."""

    def __init__(
        self, method: str, target: str, version: str, headers: dict[str, str], body: bytes, writer: Any
    ) -> None:
        self.method, self.target, self.version, self.headers = method, target, version, headers
        self.body, self.writer = body, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes = GOOD, status: int = 200, head: str = "") -> None:
        lines = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{head}\r\n"
        await self.send(lines.encode() + body)

    async def begin_stream(self) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def event(self, text: str) -> None:
        data = f"data: {text}\n\n".encode()
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))


class PlayedPod:
    """Listens on an address of its own; `handler` answers."""

    def __init__(self, handler: Handler | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.handler = handler or (lambda asked: asked.answer())
        self.host, self.port = host, port
        self.asked: list[Asked] = []
        self.connections = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *lines = head.rstrip("\r\n").split("\r\n")
                headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
                method, target, version = line.split(" ")
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                asked = Asked(method, target, version, headers, body, writer)
                self.asked.append(asked)
                await self.handler(asked)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:  # the end of the test; streams log it otherwise
            return
        finally:
            self._open.discard(writer)
            writer.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Rig:
    """A relay that listens, and what it knows."""

    def __init__(self, limits: Limits = LIMITS, **settings: Any) -> None:
        self.table, self.access, self.counts = Table(), Access(), Counts()
        self.holds = Holds(limits)
        self.lines: list[Object] = []
        self.settings = Settings(port=0, first_endpoint_port=_free_port(), endpoint_ports=1, **settings)
        self.ahead_seconds = 0.0
        self.relay = Relay(
            self.table, self.access, self.holds, self.counts, AccessLog(self._write), self.settings, self.now, time.time
        )
        self.access.put_secret(secret("team-a", KEY, namespaces="team-a"))

    def now(self) -> float:
        return time.monotonic() + self.ahead_seconds

    def _write(self, data: bytes) -> int:
        self.lines += [json.loads(line) for line in data.splitlines()]
        return len(data)

    def logged(self) -> list[Object]:
        self.relay.log.flush()
        return self.lines

    @property
    def port(self) -> int:
        return self.relay.ports[0]

    @property
    def endpoint_port(self) -> int:
        return self.settings.first_endpoint_port

    def serve(self, name: str, *pods: PlayedPod, namespace: str = "team-a", **spec: Any) -> None:
        """An endpoint and its pods. Several have the same port, and addresses of their own."""
        self.table.put_endpoint(endpoint(name, namespace, **spec))
        self.wake(name, *pods, namespace=namespace)

    def wake(self, name: str, *pods: PlayedPod, namespace: str = "team-a") -> None:
        self.table.put_slice(slice_of(name, [(pod.host, pod.port) for pod in pods], namespace))

    def connect(self, port: int | None = None) -> contextlib.AbstractAsyncContextManager[Talk]:
        return talking(port or self.port)


@contextlib.asynccontextmanager
async def running(limits: Limits = LIMITS, **settings: Any) -> AsyncIterator[Rig]:
    rig = Rig(limits, **settings)
    await rig.relay.listen()
    try:
        yield rig
    finally:
        await rig.relay.close()


class Talk:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def post(self, body: Any, path: str = "/v1/completions", key: str = KEY, head: str = "") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n{head}"
        if key:
            lines += f"Authorization: Bearer {key}\r\n"
        await self.send(f"{lines}Content-Length: {len(data)}\r\n\r\n".encode() + data)

    async def get(self, path: str, key: str = KEY) -> None:
        await self.send(f"GET {path} HTTP/1.1\r\nHost: gateway\r\nx-api-key: {key}\r\n\r\n".encode())

    async def head(self) -> tuple[int, dict[str, str]]:
        text = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)).decode("latin-1")
        line, *lines = text.rstrip("\r\n").split("\r\n")
        return int(line.split(" ")[1]), {
            name.lower(): value for name, _, value in (each.partition(": ") for each in lines)
        }

    async def chunk(self) -> bytes:
        size = int((await asyncio.wait_for(self.reader.readuntil(b"\r\n"), 20)), 16)
        data = await asyncio.wait_for(self.reader.readexactly(size + 2), 20)
        return data[:-2]

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        if "content-length" in headers:
            body = await asyncio.wait_for(self.reader.readexactly(int(headers["content-length"])), 20)
        elif headers.get("transfer-encoding") == "chunked":
            body = b""
            while part := await self.chunk():
                body += part
        else:
            body = await asyncio.wait_for(self.reader.read(), 20)
        return status, headers, body

    async def ended(self) -> bool:
        """Whether the other side has closed, and said nothing more."""
        return await asyncio.wait_for(self.reader.read(1), 20) == b""


@contextlib.asynccontextmanager
async def talking(port: int) -> AsyncIterator[Talk]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Talk(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def until(look: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.01)
