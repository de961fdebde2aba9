"""Plays the API server to what lists and watches it: objects, their versions, and what can go wrong.

Lists come in pages of two. Failures are given by path; the next request of that path gets the first of them.
"""

import asyncio
import json
from collections import defaultdict
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from aiohttp import web

Object = dict[str, Any]


class Failure(NamedTuple):
    """An answer with an error."""

    status: int
    message: str = "refused"
    headers: dict[str, str] = {}  # noqa: RUF012


class Asked(NamedTuple):
    """A request. version: of a watch, "" of a list."""

    path: str
    version: str
    labels: str
    authorization: str


class ApiServer:
    """Listens on a port of its own while it is entered; `stop` and `start` keep port and objects."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.failures: dict[str, list[Failure]] = defaultdict(list)
        self.always: dict[str, Failure] = {}
        self.oldest = 0
        self.version = 10
        self._objects: dict[str, dict[tuple[str, str], Object]] = defaultdict(dict)
        self._history: list[tuple[int, str, Object]] = []
        self._streams: dict[web.StreamResponse, asyncio.Queue[bytes | None]] = {}
        self._paths: dict[web.StreamResponse, str] = {}
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            self.end_streams()
            await self._runner.cleanup()
            self._runner = None

    def put(self, path: str, obj: Object) -> Object:
        """Create or change an object of the collection at `path`; returns it as it is stored."""
        self.version += 1
        meta = obj["metadata"]
        name = (meta["namespace"], meta["name"])
        known = name in self._objects[path]
        uid = meta.get("uid") or f"uid-{meta['name']}"
        stored = {**obj, "metadata": {**meta, "uid": uid, "resourceVersion": str(self.version)}}
        self._objects[path][name] = stored
        self._tell(path, "MODIFIED" if known else "ADDED", stored)
        return stored

    def delete(self, path: str, namespace: str, name: str) -> None:
        self.version += 1
        gone = self._objects[path].pop((namespace, name))
        self._tell(path, "DELETED", {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}})

    def expire(self) -> None:
        """Forget what happened up to now: a watch from there gets 410 in its stream."""
        self.oldest = self.version

    def send(self, path: str, data: bytes) -> None:
        """Bytes to all who watch `path`."""
        for answer, queue in self._streams.items():
            if self._paths[answer] == path:
                queue.put_nowait(data)

    def end_streams(self) -> None:
        """End all watches."""
        for queue in self._streams.values():
            queue.put_nowait(None)

    def watching(self, path: str) -> int:
        """How many watch `path`."""
        return sum(1 for answer in self._streams if self._paths[answer] == path)

    def _tell(self, path: str, kind: str, obj: Object) -> None:
        self._history.append((self.version, path, {"type": kind, "object": obj}))
        self.send(path, json.dumps({"type": kind, "object": obj}).encode() + b"\n")

    def _note(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, query = urlsplit(request.path_qs).path, request.query
        version = query.get("resourceVersion", "") if "watch" in query else ""
        headers = request.headers.get("Authorization", "")
        self.asked.append(Asked(path, version, query.get("labelSelector", ""), headers))
        self._note()
        failure = self.failures[path].pop(0) if self.failures[path] else self.always.get(path)
        if failure:
            status = {"kind": "Status", "code": failure.status, "message": failure.message}
            return web.json_response(status, status=failure.status, headers=failure.headers)
        if "watch" in query:
            return await self._watch(request, path, int(version))
        objects = list(self._objects[path].values())
        start = int(query.get("continue", "0"))
        meta = {"resourceVersion": str(self.version)}
        if start + 2 < len(objects):
            meta["continue"] = str(start + 2)
        return web.json_response({"metadata": meta, "items": objects[start : start + 2]})

    async def _watch(self, request: web.Request, path: str, version: int) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        if version < self.oldest:
            status = {"kind": "Status", "code": 410, "message": "too old resource version"}
            await answer.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            return answer
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        for at, where, event in self._history:
            if at > version and where == path:
                queue.put_nowait(json.dumps(event).encode() + b"\n")
        self._streams[answer], self._paths[answer] = queue, path
        self._note()
        try:
            while (data := await queue.get()) is not None:
                await answer.write(data)
        finally:
            del self._streams[answer], self._paths[answer]
            self._note()
        return answer
