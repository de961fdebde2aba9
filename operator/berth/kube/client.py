"""Requests to the API server: dicts in, dicts out, one bounded pool of connections."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
import kopf
import orjson

from berth import errors
from berth.api import names
from berth.kube.connection import NoConnection
from berth.kube.resources import Resource

Object = dict[str, Any]

CONNECTIONS = 64
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
TOKEN_LIFE_SECONDS = 60.0
WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=70)
PAGE = 250


class Client:
    """The API server as Berth uses it.

    connect: gives the present credentials; called again every minute and after a 401, as tokens are rotated.
    clock: monotonic seconds.  on_call: told (verb, resource plural, HTTP status, 0 when there was no answer).
    may_write: asked right before each write is sent; when it says no, NotLeading is raised instead.
    Methods raise the errors of `berth.errors`.
    """

    def __init__(
        self,
        connect: Callable[[], kopf.ConnectionInfo],
        clock: Callable[[], float],
        on_call: Callable[[str, str, int], None] = lambda verb, plural, status: None,
        may_write: Callable[[], bool] = lambda: True,
        timeout: aiohttp.ClientTimeout = TIMEOUT,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._on_call = on_call
        self._may_write = may_write
        self._info = connect()
        self._info_at = clock()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._info.as_ssl_context()), timeout=timeout
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            return await self._call("get", resource, "GET", resource.path(namespace, name))
        except errors.NotFound:
            return None

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        keep: Callable[[Object], Object] = lambda obj: obj,
    ) -> tuple[list[Object], str]:
        """All objects and the resourceVersion of the collection; items have their `kind` filled in.

        keep: what is kept of each object, page by page: a thousand whole ones would be most of Berth's memory.
        """
        items: list[Object] = []
        query = {"limit": str(PAGE)}
        query |= {"labelSelector": labels} if labels else {}
        query |= {"fieldSelector": fields} if fields else {}
        while True:
            page = await self._call("list", resource, "GET", f"{resource.path(namespace)}?{urlencode(query)}")
            for item in page.get("items") or []:
                items.append(keep({**item, "apiVersion": resource.api_version, "kind": resource.kind}))
            token = page["metadata"].get("continue")
            if not token:
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = token

    async def watch(self, resource: Resource, version: str, labels: str = "") -> AsyncIterator[Object]:
        """Events after `version`, bookmarks included, until the API server ends the stream.

        The server sends a bookmark every minute; a connection that is silent for longer is dead: Unreachable.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        query |= {"labelSelector": labels} if labels else {}
        path = f"{resource.path()}?{urlencode(query)}"
        headers = self._headers()
        rest = b""
        try:
            async with self._session.get(self._info.server + path, headers=headers, timeout=WATCH_TIMEOUT) as answer:
                self._on_call("watch", resource.plural, answer.status)
                if answer.status == 401:
                    self._info_at = float("-inf")
                if answer.status >= 400:
                    raise errors.api_error(answer.status, _decode(await answer.read()), None)
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield orjson.loads(line)
        except (TimeoutError, aiohttp.ClientError, OSError, orjson.JSONDecodeError) as error:
            self._on_call("watch", resource.plural, 0)
            raise errors.Unreachable(f"watch of {resource.plural}: {error!r}") from error

    async def apply(self, resource: Resource, manifest: Object, manager: str = names.FIELD_MANAGER) -> Object:
        """Server-side apply of the complete intent of a field manager; takes over fields that others hold."""
        meta = manifest["metadata"]
        query = urlencode({"fieldManager": manager, "force": "true"})
        path = f"{resource.path(meta['namespace'], meta['name'])}?{query}"
        return await self._call("apply", resource, "PATCH", path, manifest, "application/apply-patch+yaml")

    async def write_status(self, resource: Resource, namespace: str, name: str, uid: str, status: Object) -> Object:
        """Replace the status of the object with this uid. Raises Invalid when the name now belongs to another object.

        A JSON patch, as merge-patch and apply on /status ignore a wrong uid and land on a re-created object.
        """
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        path = f"{resource.path(namespace, name, 'status')}?{urlencode({'fieldManager': names.FIELD_MANAGER})}"
        return await self._call("status", resource, "PATCH", path, patch, "application/json-patch+json")

    async def annotate(
        self, resource: Resource, namespace: str, name: str, uid: str, annotations: dict[str, str | None]
    ) -> Object | None:
        """Set annotations of the object with this uid, or remove those that are None; None when it is gone."""
        patch = {"metadata": {"uid": uid, "annotations": annotations}}
        path = f"{resource.path(namespace, name)}?{urlencode({'fieldManager': names.FIELD_MANAGER})}"
        try:
            return await self._call("annotate", resource, "PATCH", path, patch, "application/merge-patch+json")
        except (errors.NotFound, errors.Conflict):
            return None

    async def create(self, resource: Resource, manifest: Object) -> Object:
        """Create the object. Raises Conflict when it exists."""
        path = resource.path(manifest["metadata"].get("namespace", ""))
        return await self._call("create", resource, "POST", path, manifest, "application/json")

    async def update(self, resource: Resource, manifest: Object) -> Object:
        """Replace the object. Raises Conflict when its resourceVersion is not that of `manifest` any more."""
        meta = manifest["metadata"]
        path = resource.path(meta["namespace"], meta["name"])
        return await self._call("update", resource, "PUT", path, manifest, "application/json")

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Delete the object if it still has this uid; nothing happens when it is gone."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._call("delete", resource, "DELETE", resource.path(namespace, name), options, "application/json")
        except errors.NotFound:
            return

    async def _call(
        self, verb: str, resource: Resource, method: str, path: str, body: Any = None, content_type: str = ""
    ) -> Object:
        try:
            return await self._once(verb, resource, method, path, body, content_type)
        except errors.Unauthorized:
            self._info_at = float("-inf")
            return await self._once(verb, resource, method, path, body, content_type)

    def _headers(self) -> dict[str, str]:
        if self._clock() - self._info_at > TOKEN_LIFE_SECONDS:
            self._info_at = self._clock()
            # A file that is being replaced: what is known serves until the next look.
            with contextlib.suppress(NoConnection):
                self._info = self._connect()
        return {"Accept": "application/json", "User-Agent": "berth", **self._info.as_http_headers()}

    async def _once(
        self, verb: str, resource: Resource, method: str, path: str, body: Any, content_type: str
    ) -> Object:
        headers = self._headers()
        if content_type:
            headers["Content-Type"] = content_type
        data = orjson.dumps(body) if body is not None else None
        if method != "GET" and not self._may_write():
            raise errors.NotLeading(f"{method} {path.split('?')[0]}: not sent, another operator may be leading")
        try:
            async with self._session.request(method, self._info.server + path, data=data, headers=headers) as answer:
                raw = await answer.read()
                status, retry_after = answer.status, answer.headers.get("Retry-After")
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._on_call(verb, resource.plural, 0)
            raise errors.Unreachable(f"{method} {path.split('?')[0]}: {error!r}") from error
        self._on_call(verb, resource.plural, status)
        decoded = _decode(raw)
        if status >= 400:
            raise errors.api_error(status, decoded, retry_after)
        return decoded if isinstance(decoded, dict) else {}


def _decode(raw: bytes) -> Any:
    try:
        return orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError:
        return raw.decode(errors="replace")
