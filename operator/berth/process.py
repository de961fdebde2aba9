"""The running operator: workers, resync, kopf and the HTTP port, started and stopped in the right order."""

import asyncio
import contextlib
import datetime
import gc
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterable
from functools import partial

import aiohttp
import kopf
import structlog
from aiohttp import web
from kopf._core.engines.peering import Identity

from berth import errors
from berth.kube.cache import Cache
from berth.kube.client import Client
from berth.kube.connection import connect
from berth.kube.lookups import Lookups, fetch_progress
from berth.kube.resources import ENDPOINTS, WATCHED
from berth.reconcile import Reconciler
from berth.settings import Settings
from berth.telemetry.metrics import Metrics
from berth.telemetry.server import create_app
from berth.triggers import registry
from berth.triggers import settings as kopf_settings
from berth.workqueue import WorkQueue

log = structlog.get_logger()

STOP_SECONDS = 10.0
FIRST_LIST_RETRY_SECONDS = 2.0
STUCK_PASS_SECONDS = 600.0


class PortTaken(Exception):
    """The HTTP port cannot be listened on; the message says what to do."""


def utc_now() -> str:
    """Time of day as the API wants it: RFC 3339, seconds."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def work(
    queue: WorkQueue, reconciler: Reconciler, metrics: Metrics, synced: asyncio.Event, busy_since: dict[object, float]
) -> None:
    """One worker: passes, one after the other, for ever, once caches are synced. The only place that catches all."""
    await synced.wait()
    while True:
        key = await queue.get()
        started = busy_since[key] = time.monotonic()
        with structlog.contextvars.bound_contextvars(endpoint=str(key)):
            try:
                again = await reconciler.reconcile(key)
            except (errors.ApiError, errors.Unreachable) as error:
                wish = getattr(error, "retry_after_seconds", None) or 0.0
                delay = queue.retry(key, wish)
                metrics.reconciles.labels("retry").inc()
                log.warning("reconcile_postponed", error=str(error), delay_seconds=round(delay, 2))
            except Exception:
                queue.retry(key)
                metrics.reconciles.labels("error").inc()
                log.exception("reconcile_failed")
            else:
                queue.forget(key)
                metrics.reconciles.labels("ok").inc()
                if again is not None:
                    queue.add_after(key, again)
            finally:
                metrics.reconcile_seconds.observe(time.monotonic() - started)
                del busy_since[key]
                queue.done(key)


async def refresh(client: Client, cache: Cache, queue: WorkQueue) -> None:
    """List everything that is watched into the cache and enqueue every endpoint: repairs whatever a watch missed."""
    for resource in WATCHED:
        objects, listed_at = await client.list(resource, labels=resource.selector)
        for key in cache.replace(resource, objects, listed_at):
            queue.add(key)
    for key in cache.endpoints():
        queue.add(key)


async def _first_refresh(client: Client, cache: Cache, queue: WorkQueue) -> None:
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


async def _resync(client: Client, cache: Cache, queue: WorkQueue, metrics: Metrics, every_seconds: float) -> None:
    while True:
        await asyncio.sleep(every_seconds * random.uniform(0.8, 1.2))  # noqa: S311
        try:
            await refresh(client, cache, queue)
            metrics.resyncs.labels("ok").inc()
        except (errors.ApiError, errors.Unreachable) as error:
            metrics.resyncs.labels("error").inc()
            log.warning("resync_failed", error=str(error))


@contextlib.asynccontextmanager
async def _serving(app: web.Application, port: int) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, None, port)
    try:
        await site.start()
    except OSError as error:
        raise PortTaken(f"port {port} cannot be used: {error.strerror}; set BERTH_HTTP_PORT to a free one") from error
    log.info("listening", port=runner.addresses[0][1])
    try:
        yield
    finally:
        await runner.cleanup()


async def run(settings: Settings, kubeconfig: str | None) -> None:
    """Run the operator until it is told to stop (SIGTERM, SIGINT: kopf takes them)."""
    metrics, cache, queue = Metrics(), Cache(), WorkQueue()
    credentials = partial(connect, kubeconfig, dict(os.environ))
    client = Client(credentials, time.monotonic, metrics.count_call)
    metrics.watch(lambda: len(queue), lambda: cache.count(ENDPOINTS))
    busy_since: dict[object, float] = {}
    synced = asyncio.Event()
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64, force_close=True))
    reconciler = Reconciler(
        client=client,
        cache=cache,
        lookups=Lookups(client, time.monotonic),
        platform=settings.platform(),
        fetch_progress=partial(fetch_progress, session),
        clock=time.monotonic,
        now=utc_now,
    )

    async def keep_synced() -> None:
        await _first_refresh(client, cache, queue)
        gc.collect()
        gc.freeze()
        synced.set()
        log.info("started", endpoints=cache.count(ENDPOINTS))
        await _resync(client, cache, queue, metrics, settings.resync_seconds)

    def stuck() -> str | None:
        oldest = min(busy_since.values(), default=None)
        age = time.monotonic() - oldest if oldest is not None else 0.0
        return f"a pass has been running for {age:.0f} s" if age > STUCK_PASS_SECONDS else None

    handlers, config = registry(cache, queue), kopf_settings()
    handlers_login(handlers, credentials)
    # Before kopf: it waits for, and then cancels, every task that was created after it when it stops.
    tasks = [asyncio.create_task(keep_synced())]
    tasks += [
        asyncio.create_task(work(queue, reconciler, metrics, synced, busy_since)) for _ in range(settings.workers)
    ]
    for task in tasks:
        # They never end by themselves. kopf's own stop flag would hold its exit up for 5 s.
        task.add_done_callback(lambda done: None if done.cancelled() else signal.raise_signal(signal.SIGTERM))
    app = create_app(metrics, lambda: None if synced.is_set() else "the first list of objects is not done yet", stuck)
    try:
        async with _serving(app, settings.http_port):
            # Named, as kopf would look our uid up in passwd, where a container's uid need not be.
            identity = Identity("berth")
            await kopf.operator(
                registry=handlers, settings=config, identity=identity, standalone=True, clusterwide=True
            )
    finally:
        await _finish(busy_since)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await session.close()
        await client.close()
        log.info("stopped")
    for crash in ended:
        if isinstance(crash, Exception):
            raise crash


async def _finish(busy: Iterable[object]) -> None:
    """Let running passes end, within STOP_SECONDS."""
    deadline = time.monotonic() + STOP_SECONDS
    while list(busy) and time.monotonic() < deadline:  # noqa: ASYNC110 - the process ends here
        await asyncio.sleep(0.05)


def handlers_login(found: kopf.OperatorRegistry, credentials: partial[kopf.ConnectionInfo]) -> None:
    """Give kopf the credentials that our own client uses."""

    @kopf.on.login(registry=found)
    async def login(**_: object) -> kopf.ConnectionInfo:
        return credentials()
