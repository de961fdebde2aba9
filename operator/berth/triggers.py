"""kopf as event source: handlers that update the cache and enqueue a key, nothing else.

Change handlers, timers, daemons, indices, peering and kopf's finalizers and annotations are not used: they write to
the user's object or lose events (docs/adr/0001-kopf-as-event-source.md).
"""

import random
from collections.abc import Iterator
from typing import Any

import kopf

from berth.api import names
from berth.kube.cache import Cache, endpoint_key
from berth.kube.resources import WATCHED, Resource
from berth.workqueue import WorkQueue


class _NoDiff(kopf.DiffBaseStorage):
    """Only event handlers are registered: there is nothing to compare with, and copying objects for it costs most."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """Event handlers have no progress to store on objects."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


class _Backoffs:
    """Delays between attempts, without an end: kopf gives up, and the process with it, when they run out."""

    def __iter__(self) -> Iterator[float]:
        delay = 0.5
        while True:
            yield delay * random.uniform(0.8, 1.2)  # noqa: S311
            delay = min(delay * 2, 12.0)


def settings() -> kopf.OperatorSettings:
    """kopf's settings, each for a measured reason."""
    found = kopf.OperatorSettings()
    found.persistence.diffbase_storage = _NoDiff()
    found.persistence.progress_storage = _NoProgress()
    # An operator with event handlers only strips this finalizer from objects: it must be nobody's.
    found.persistence.finalizer = f"unused.{names.GROUP}"
    found.networking.error_backoffs = _Backoffs()
    found.networking.request_timeout = 30
    found.networking.connect_timeout = 5
    found.watching.chunk_size = 500
    found.posting.enabled = False
    found.process.ultimate_exiting_timeout = 25
    for resource in WATCHED:
        if resource.selector:
            found.watching.label_selectors[resource.group, resource.version, resource.plural] = resource.selector
    return found


def registry(cache: Cache, queue: WorkQueue) -> kopf.OperatorRegistry:
    """Handlers for everything that is watched."""
    found = kopf.OperatorRegistry()
    for resource in WATCHED:
        _register(found, resource, cache, queue)
    return found


def _register(found: kopf.OperatorRegistry, resource: Resource, cache: Cache, queue: WorkQueue) -> None:
    @kopf.on.event(resource.group, resource.version, resource.plural, registry=found)
    async def wake(event: Any, **_: Any) -> None:
        """A failure here is logged and lost, and a returned value would land in status: only enqueue."""
        obj = dict(event["object"])
        obj["kind"] = resource.kind
        known = cache.get(resource, obj["metadata"]["namespace"], obj["metadata"]["name"])
        news = cache.drop(resource, obj) if event["type"] == "DELETED" else cache.put(resource, obj)
        if news and (key := endpoint_key(obj) or (endpoint_key(known) if known else None)):
            queue.add(key)
