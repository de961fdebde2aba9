"""Keeps the cache equal to what the API server has of one kind: a list, then a watch from there, again when it expires.

Written for children and pods, of which a hundred endpoints make thousands of events; ModelEndpoints come through kopf
(docs/adr/0005-reflector-for-children.md).
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from berth import errors
from berth.api.names import Key
from berth.kube.cache import Cache, trim
from berth.kube.client import Client
from berth.kube.resources import OPTIONAL, Resource

Object = dict[str, Any]

FIRST_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 12.0
NO_KIND_SECONDS = 60.0

log = structlog.get_logger()


class Reflector:
    """The watch of one kind. wake: told each endpoint for which something is news."""

    def __init__(self, client: Client, resource: Resource, cache: Cache, wake: Callable[[Key], None]) -> None:
        self._client = client
        self._resource = resource
        self._cache = cache
        self._wake = wake

    async def run(self, version: str) -> None:
        """Follow the changes after the list of this resourceVersion, for ever."""
        failures = 0
        while True:
            failures += 1  # until it is heard of: a stream that ends at once must not be asked for at once again
            wish = 0.0
            try:
                version = version or await self._list()
                async for event in self._client.watch(self._resource, version, self._resource.selector):
                    version = self._take(event)
                    failures = 0
            except errors.Unreachable as error:
                self._tell(error, failures)
            except errors.NotFound as error:
                version = ""
                if self._resource in OPTIONAL:
                    self._cache.no_kind(self._resource)
                    failures, wish = 0, NO_KIND_SECONDS
                else:
                    self._tell(error, failures)
            except errors.ApiError as error:
                wish = error.retry_after_seconds or 0.0
                if not isinstance(error, errors.Busy | errors.Unauthorized):
                    # Expired, or the kind was away: what happened meanwhile is only in a new list.
                    version = ""
                self._tell(error, failures)
            delay = min(FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 10), MAX_DELAY_SECONDS) if failures else 0.0
            await asyncio.sleep(max(delay * random.uniform(0.8, 1.2), wish))  # noqa: S311

    def _tell(self, error: Exception, failures: int) -> None:
        if failures in (3, 30):
            log.warning("watch_interrupted", resource=self._resource.plural, error=str(error))

    async def _list(self) -> str:
        objects, version = await self._client.list(
            self._resource, labels=self._resource.selector, keep=partial(trim, self._resource)
        )
        for key in self._cache.replace(self._resource, objects, version):
            self._wake(key)
        return version

    def _take(self, event: Object) -> str:
        """Take in one event; returns the resourceVersion to go on from. Raises ApiError for an error event."""
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            # Whatever its code, this version is not to be had again: not Busy, which would ask for it once more.
            raise errors.ApiError(int(obj.get("code") or 500), str(obj.get("message", obj)))
        if kind != "BOOKMARK":
            take(self._cache, self._resource, kind, obj, self._wake)
        return str(obj["metadata"]["resourceVersion"])


def take(cache: Cache, resource: Resource, event_type: str | None, obj: Object, wake: Callable[[Key], None]) -> None:
    """Put an object of a watch event into the cache, or take it out; wake its endpoint when that was news."""
    obj = {**obj, "kind": resource.kind}
    known = cache.get(resource, obj["metadata"]["namespace"], obj["metadata"]["name"])
    news = cache.drop(resource, obj) if event_type == "DELETED" else cache.put(resource, obj)
    if news:
        # An object that has lost the label, or got another one, concerns the endpoint that it belonged to as well.
        for key in {cache.key_of(obj), cache.key_of(known) if known else None} - {None}:
            wake(key)  # type: ignore[arg-type]
