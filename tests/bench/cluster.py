"""What the bench itself asks of the API server: writes as an administrator, and watches cheap enough to run beside.

`Mirror` follows one kind and tells when all of some objects have become something.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import orjson

from berth.kube.connection import connect
from berth.kube.resources import Resource

Object = dict[str, Any]
Want = Callable[[Object | None], bool]

WATCH_LINE_BYTES = 1 << 22
WRITES_AT_ONCE = 16


class Api:
    """The API server for the administrator of `kubeconfig`, in one namespace, while entered."""

    def __init__(self, kubeconfig: str, namespace: str) -> None:
        self.namespace = namespace
        self._info = connect(kubeconfig, {})

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession(
            base_url=self._info.server,
            connector=aiohttp.TCPConnector(ssl=self._info.as_ssl_context(), limit=0),
            headers={**self._info.as_http_headers(), "User-Agent": "berth-bench"},
            read_bufsize=WATCH_LINE_BYTES,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def create(self, resource: Resource, obj: Object) -> None:
        """Make an object."""
        await self._send("POST", resource.path(self.namespace), obj, "application/json")

    async def merge(self, resource: Resource, name: str, patch: Object, subresource: str = "") -> None:
        """Merge `patch` into an object; nothing happens when it is gone."""
        await self._send(
            "PATCH", resource.path(self.namespace, name, subresource), patch, "application/merge-patch+json"
        )

    async def delete(self, resource: Resource, name: str = "") -> None:
        """Delete an object, or all of its kind."""
        await self._send("DELETE", resource.path(self.namespace, name))

    async def _send(self, method: str, path: str, body: Object | None = None, content_type: str = "") -> None:
        headers = {"Content-Type": content_type} if content_type else {}
        data = None if body is None else orjson.dumps(body)
        async with self.session.request(method, path, data=data, headers=headers) as answer:
            text = await answer.text()
            if answer.status >= 400 and answer.status != 404:
                raise RuntimeError(f"{method} {path}: {answer.status} {text}")


async def each(names: Iterable[str], do: Callable[[str], Awaitable[object]]) -> None:
    """`do` for every name, a few at once."""
    waiting = iter(names)

    async def work() -> None:
        for name in waiting:
            await do(name)

    await asyncio.gather(*(work() for _ in range(WRITES_AT_ONCE)))


@dataclass
class _Wait:
    want: Want
    missing: set[str]
    met_at: dict[str, float] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self, name: str, obj: Object | None) -> None:
        if name in self.missing and self.want(obj):
            self.missing.discard(name)
            self.met_at[name] = time.monotonic()
        if not self.missing:
            self.over.set()


class Mirror:
    """Objects of one kind by name, while entered. on_object: told every object that appears or changes."""

    def __init__(self, api: Api, resource: Resource, on_object: Callable[[Object], None] = lambda obj: None) -> None:
        self.objects: dict[str, Object] = {}
        self._api = api
        self._resource = resource
        self._on_object = on_object
        self._waits: list[_Wait] = []

    async def __aenter__(self) -> Self:
        async with self._api.session.get(self._path()) as answer:
            answer.raise_for_status()
            page = orjson.loads(await answer.read())
        for obj in page["items"]:
            self._seen(obj)
        self._task = asyncio.create_task(self._follow(page["metadata"]["resourceVersion"]))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def all(self, names: Iterable[str], want: Want, what: str, limit_seconds: float) -> dict[str, float]:
        """When (monotonic seconds) the object of each name, None for none, was first as wanted.

        Raises TimeoutError with an example.
        """
        wait = _Wait(want, set(names))
        for name in list(wait.missing):
            wait.look(name, self.objects.get(name))
        self._waits.append(wait)
        over = asyncio.create_task(wait.over.wait())
        try:
            await asyncio.wait({over, self._task}, timeout=limit_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            self._waits.remove(wait)
        if not wait.missing:
            return wait.met_at
        if self._task.done():
            self._task.result()
        example = min(wait.missing)
        last = orjson.dumps(self.objects.get(example)).decode()
        raise TimeoutError(f"{what}: {len(wait.missing)} not after {limit_seconds:.0f} s; {example} is {last}")

    def _path(self, **query: str) -> str:
        return f"{self._resource.path(self._api.namespace)}?{urlencode(query)}"

    async def _follow(self, version: str) -> None:
        while True:
            path = self._path(watch="1", allowWatchBookmarks="true", resourceVersion=version)
            async with self._api.session.get(path) as answer:
                answer.raise_for_status()
                async for line in answer.content:
                    event = orjson.loads(line)
                    kind, obj = event["type"], event["object"]
                    if kind == "ERROR":
                        raise RuntimeError(f"watch of {self._resource.plural}: {obj}")
                    version = obj["metadata"]["resourceVersion"]
                    if kind == "DELETED":
                        self.objects.pop(obj["metadata"]["name"], None)
                        self._look(obj["metadata"]["name"], None)
                    elif kind != "BOOKMARK":
                        self._seen(obj)

    def _seen(self, obj: Object) -> None:
        obj["metadata"].pop("managedFields", None)
        self.objects[obj["metadata"]["name"]] = obj
        self._on_object(obj)
        self._look(obj["metadata"]["name"], obj)

    def _look(self, name: str, obj: Object | None) -> None:
        for wait in self._waits:
            wait.look(name, obj)
