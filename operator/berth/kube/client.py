"""Requests to the API server: dicts in, dicts out, one bounded pool of connections."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
import kopf
import orjson

from berth import errors
from berth.api import names
from berth.kube.resources import Resource

Object = dict[str, Any]

CONNECTIONS = 64
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
TOKEN_LIFE_SECONDS = 60.0
PAGE = 500


class Client:
    """The API server as Berth uses it.

    connect: gives the present credentials; called again every minute and after a 401, as tokens are rotated.
    clock: monotonic seconds.  on_call: told (verb, resource plural, HTTP status, 0 when there was no answer).
    Methods raise the errors of `berth.errors`.
    """

    def __init__(
        self,
        connect: Callable[[], kopf.ConnectionInfo],
        clock: Callable[[], float],
        on_call: Callable[[str, str, int], None] = lambda verb, plural, status: None,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._on_call = on_call
        self._info = connect()
        self._info_at = clock()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._info.as_ssl_context()), timeout=TIMEOUT
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
        self, resource: Resource, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> tuple[list[Object], str]:
        """All objects and the resourceVersion of the collection; items have their `kind` filled in."""
        items: list[Object] = []
        query = {"limit": str(PAGE)}
        query |= {"labelSelector": labels} if labels else {}
        query |= {"fieldSelector": fields} if fields else {}
        while True:
            page = await self._call("list", resource, "GET", f"{resource.path(namespace)}?{urlencode(query)}")
            for item in page.get("items") or []:
                items.append({**item, "apiVersion": resource.api_version, "kind": resource.kind})
            token = page["metadata"].get("continue")
            if not token:
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = token

    async def apply(self, resource: Resource, manifest: Object) -> Object:
        """Server-side apply of the complete intent; takes over fields that others hold."""
        meta = manifest["metadata"]
        query = urlencode({"fieldManager": names.FIELD_MANAGER, "force": "true"})
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

    async def _once(
        self, verb: str, resource: Resource, method: str, path: str, body: Any, content_type: str
    ) -> Object:
        if self._clock() - self._info_at > TOKEN_LIFE_SECONDS:
            self._info, self._info_at = self._connect(), self._clock()
        headers = {"Accept": "application/json", "User-Agent": "berth", **self._info.as_http_headers()}
        if content_type:
            headers["Content-Type"] = content_type
        data = orjson.dumps(body) if body is not None else None
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
