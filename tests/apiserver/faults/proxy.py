"""A proxy between the operator and a real API server that does what networks and busy servers do.

Plain HTTP towards the operator, TLS towards the API server; the operator's token passes through. What a test asks for:

- a fault for requests that match: `proxy.on("patch", "services", answer(503))`, once or until its `with` block ends;
- something done to the open watches: `silence`, `cut`, `expire`.

Requests are matched by the verb that RBAC and the audit log use (get, list, watch, create, patch, delete) and by
resource with subresource (`modelendpoints/status`).
"""

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import yaml
from aiohttp import web

from tests.apiserver.faults.actions import Action, refusal, reset

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_HOP_BY_HOP = {"host", "connection", "accept-encoding", "content-length", "transfer-encoding"}


class Call(NamedTuple):
    """One request of the operator. at: monotonic seconds.  body: as sent."""

    verb: str
    resource: str
    namespace: str
    name: str
    token: str
    at: float
    body: bytes


@dataclass
class Fault:
    """What happens to matching requests, at most `times` times. `calls`: those it happened to."""

    verb: str
    resource: str
    action: Action
    times: float
    when: Callable[[Call], bool]
    calls: list[Call] = field(default_factory=list)

    def takes(self, call: Call) -> bool:
        """True for a request that this fault is for."""
        return (
            len(self.calls) < self.times
            and self.verb in ("*", call.verb)
            and self.resource in ("*", call.resource)
            and self.when(call)
        )


@dataclass(eq=False)
class _Stream:
    """One open watch. `heard` is False when nothing of it may reach the operator any more."""

    request: web.Request
    response: web.StreamResponse
    resource: str
    ended: asyncio.Event
    heard: bool = True


class Proxy:
    """A proxy in front of the API server at `url`, in a thread with a loop of its own, for the length of a `with`."""

    def __init__(self, url: str, ca_path: Path) -> None:
        self._upstream = url
        self._tls = ssl.create_default_context(cafile=str(ca_path))
        self._faults: list[Fault] = []
        self._streams: set[_Stream] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self.calls: list[Call] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self.url = self._run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    # What tests ask for

    def once(
        self, verb: str, resource: str, action: Action, times: float = 1, when: Callable[[Call], bool] = lambda _: True
    ) -> Fault:
        """The fault for the next matching request, or the next few."""
        fault = Fault(verb, resource, action, times, when)
        self._faults.append(fault)
        return fault

    @contextmanager
    def on(
        self, verb: str, resource: str, action: Action, when: Callable[[Call], bool] = lambda _: True
    ) -> Iterator[Fault]:
        """The fault for all matching requests until the block ends."""
        fault = self.once(verb, resource, action, float("inf"), when)
        try:
            yield fault
        finally:
            self._faults.remove(fault)

    def silence(self) -> None:
        """Watches that are open now stay open, and nothing comes through them any more, not even an end."""
        for stream in list(self._streams):
            stream.heard = False

    def cut(self) -> None:
        """Open watches break with RST in the middle of a line."""
        self._run(self._end(b'{"type":"MODIFIED","object":{"kind":"Pod","metad', broken=True))

    def expire(self) -> None:
        """Open watches say that their resourceVersion is too old, and end."""
        event = {"type": "ERROR", "object": refusal(410, "too old resource version: 1 (2)")}
        self._run(self._end(json.dumps(event).encode() + b"\n"))

    def watched(self) -> set[str]:
        """Resources with an open watch that is heard."""
        return {stream.resource for stream in list(self._streams) if stream.heard and not stream.ended.is_set()}

    # How it works

    async def _start(self) -> str:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None), read_bufsize=2**20
        )
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        call = _call(request, body)
        self.calls.append(call)

        async def forward() -> web.StreamResponse:
            try:
                return await self._forward(request, call)
            except aiohttp.ClientError:  # the API server is away
                reset(request)
                return web.Response()

        for fault in list(self._faults):
            if fault.takes(call):
                fault.calls.append(call)
                return await fault.action(request, forward)
        return await forward()

    async def _forward(self, request: web.Request, call: Call) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["Accept-Encoding"] = "identity"
        url = self._upstream + request.raw_path
        async with self._session.request(request.method, url, headers=headers, data=call.body or None) as found:
            kept = {name: found.headers[name] for name in ("Content-Type", "Retry-After") if name in found.headers}
            if call.verb != "watch" or found.status != 200:
                return web.Response(status=found.status, headers=kept, body=await found.read())
            response = web.StreamResponse(status=found.status, headers=kept)
            await response.prepare(request)
            stream = _Stream(request, response, call.resource, asyncio.Event())
            await self._pass_on(stream, found)
            return response

    async def _pass_on(self, stream: _Stream, found: aiohttp.ClientResponse) -> None:
        """Lines of a watch as they come, until either side ends it."""
        reading = asyncio.create_task(self._copy(stream, found))
        ended = asyncio.create_task(stream.ended.wait())
        self._streams.add(stream)
        try:
            await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams.discard(stream)
            reading.cancel()
            ended.cancel()
            await asyncio.gather(reading, ended, return_exceptions=True)

    async def _copy(self, stream: _Stream, found: aiohttp.ClientResponse) -> None:
        async for line in found.content:
            if stream.heard:
                await stream.response.write(line)
        if not stream.heard:
            await stream.ended.wait()  # silent to the end

    async def _end(self, last: bytes, broken: bool = False) -> None:
        for stream in list(self._streams):
            await stream.response.write(last)
            if broken:
                reset(stream.request)
            stream.ended.set()


def _call(request: web.Request, body: bytes) -> Call:
    """What a request is, in the words of RBAC."""
    parts = request.path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "", "")[:3]
    verb = _VERBS.get(request.method, "get" if name else "list")
    if request.query.get("watch") == "true":
        verb = "watch"
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    resource = f"{plural}/{subresource}" if subresource else plural
    return Call(verb, resource, namespace, name, token, monotonic(), body)


def through(proxy: Proxy, kubeconfig: Path, copy: Path) -> Path:
    """Write `copy`: the same user and namespace, but the server is the proxy."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["clusters"][0]["cluster"] = {"server": proxy.url}
    fresh = copy.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(config))
    fresh.replace(copy)
    return copy
