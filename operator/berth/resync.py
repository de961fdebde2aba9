"""Complete lists: the first one, before which nothing is done, and those that repair what a watch may have missed."""

import asyncio
import random
from collections.abc import Sequence
from functools import partial

import structlog

from berth import errors
from berth.kube.cache import Cache, trim
from berth.kube.client import Client
from berth.kube.resources import OPTIONAL, WATCHED, Resource
from berth.telemetry.metrics import Metrics
from berth.workqueue import WorkQueue

FIRST_LIST_RETRY_SECONDS = 2.0

log = structlog.get_logger()


async def refresh(
    client: Client, cache: Cache, queue: WorkQueue, resources: Sequence[Resource] = WATCHED
) -> dict[Resource, str]:
    """List these kinds into the cache and enqueue the endpoints for which that was news.

    Returns the resourceVersion of each list.
    """
    versions = {}
    for resource in resources:
        try:
            objects, versions[resource] = await client.list(
                resource, labels=resource.selector, keep=partial(trim, resource)
            )
        except errors.NotFound:
            if resource not in OPTIONAL:
                raise
            cache.no_kind(resource)
            versions[resource] = ""
            continue
        for key in cache.replace(resource, objects, versions[resource]):
            queue.add(key)
    return versions


async def first_refresh(client: Client, cache: Cache, queue: WorkQueue) -> dict[Resource, str]:
    """Until it succeeds once, nothing is reconciled: a cache with holes would look like missing children."""
    said = ""
    while True:
        try:
            return await refresh(client, cache, queue)
        except (errors.ApiError, errors.Unreachable) as error:
            if isinstance(error, errors.NotFound):
                told = "the ModelEndpoint CRD is not installed: install the chart, or apply crds/; waiting for it"
            elif isinstance(error, errors.Forbidden):
                told = f"a permission is missing, the chart's ClusterRole has it: {error.message}"
            else:
                told = str(error)
            if told != said:
                log.error("first_list_failed", error=told)
                said = told
            await asyncio.sleep(FIRST_LIST_RETRY_SECONDS)


async def resync(client: Client, cache: Cache, queue: WorkQueue, metrics: Metrics, every_seconds: float) -> None:
    """Compare everything known with a fresh list and look at every endpoint, again and again."""
    while True:
        await asyncio.sleep(every_seconds * random.uniform(0.8, 1.2))  # noqa: S311
        try:
            await refresh(client, cache, queue)
            metrics.resyncs.labels("ok").inc()
        except (errors.ApiError, errors.Unreachable) as error:
            metrics.resyncs.labels("error").inc()
            log.warning("resync_failed", error=str(error))
            continue
        for key in cache.endpoints():
            queue.add(key)
