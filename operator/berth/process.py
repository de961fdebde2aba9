"""The running operator: watches, election, workers, resync and HTTP port, started and stopped in the right order."""

import asyncio
import contextlib
import datetime
import gc
import os
import platform
import signal
import time
import uuid
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
import structlog
from aiohttp import web

from berth import errors, held
from berth.api import names
from berth.api.names import Key
from berth.decide.ports import Ports
from berth.kube import permissions
from berth.kube.cache import Cache
from berth.kube.client import Client
from berth.kube.connection import connect
from berth.kube.gateways import Gateways
from berth.kube.launchers import Launchers, fetch_load, fetch_progress
from berth.kube.lease import RENEWED_FOR, Lease
from berth.kube.lookups import Lookups
from berth.kube.reflector import Reflector, take
from berth.kube.resources import CHILDREN, ENDPOINTS, PODS, SLICES
from berth.loads import AT_ONCE, Loads
from berth.reconcile import Reconciler
from berth.replicas import Replicas
from berth.resync import first_refresh, refresh, resync
from berth.scaler import Scaler
from berth.settings import Settings
from berth.telemetry.metrics import Metrics
from berth.telemetry.server import create_app
from berth.triggers import EndpointWatch, Event
from berth.workers import Workers
from berth.workqueue import WorkQueue
from berth.zero import Zero

log = structlog.get_logger()

STOP_SECONDS = 10.0
WATCH_STOP_SECONDS = 3.0
PERMISSIONS_AGAIN_SECONDS = 15.0
SILENT_SECONDS = 60.0
BURST_SECONDS = 0.5
# After the first object of a relist, long enough for the rest of it to arrive.
RELIST_SECONDS = 2.0
GC_THRESHOLD = 20_000


class PortTaken(Exception):
    """The HTTP port cannot be listened on; the message says what to do."""


def utc_now(timespec: str = "seconds") -> str:
    """Time of day as the API wants it: RFC 3339."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def utc_in(seconds: float) -> str:
    """Time of day in a while, as the API wants it."""
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


class Operator:
    """One process of the operator. Created in a running event loop; `run` ends when `stop` is set or a part fails."""

    def __init__(self, settings: Settings, kubeconfig: str | None) -> None:
        self._settings = settings
        self._metrics, self._queue = Metrics(), WorkQueue()
        serves = settings.platform().gateway_serves
        self._cache = Cache(on_holder=self._queue.add, serves=serves)
        credentials = partial(connect, kubeconfig, dict(os.environ))
        count = self._metrics.count_call
        self._namespace = credentials().default_namespace or "default"
        # Not fenced, and a pool of its own: a renewal must not wait behind the writes that it permits.
        patience = aiohttp.ClientTimeout(total=settings.lease_seconds * RENEWED_FOR / 2)
        self._election = Client(credentials, time.monotonic, count, timeout=patience)
        self._lease = Lease(
            client=self._election,
            namespace=self._namespace,
            identity=f"{platform.node()}_{uuid.uuid4().hex[:8]}",
            duration_seconds=settings.lease_seconds,
            clock=time.monotonic,
            now=partial(utc_now, "microseconds"),
            on_leading=self._look_at_all,
        )
        self._client = Client(credentials, time.monotonic, count, may_write=self._lease.may_write)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64, force_close=True))
        # Not that of /progress: pods that start and do not answer would keep those that serve waiting.
        self._load_session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE, force_close=True))
        self._gateway_session = aiohttp.ClientSession()
        self._gateways = Gateways(settings.gateway_service)
        self._held = held.Held(partial(held.ask, self._gateway_session), self._held_changed, time.monotonic)
        loads = Loads(partial(fetch_load, self._load_session), time.monotonic)
        self._scaler = Scaler(loads, self._held, self._cache, self._queue.add, time.monotonic, utc_in, serves)
        lookups = Lookups(self._client, time.monotonic)
        ports = Ports(settings.endpoint_ports())
        reconciler = Reconciler(
            client=self._client,
            cache=self._cache,
            lookups=lookups,
            platform=settings.platform(),
            launchers=Launchers(partial(fetch_progress, self._session), time.monotonic),
            replicas=Replicas(self._client, self._cache, lookups, self._scaler, time.monotonic, utc_now),
            zero=Zero(self._cache, self._gateways, self._scaler, ports, time.monotonic, self._queue.add),
            clock=time.monotonic,
            now=utc_now,
        )
        self._workers = Workers(self._queue, reconciler, self._metrics, self._lease.leading)
        self._endpoints = EndpointWatch(credentials, asyncio.get_running_loop(), self._take)
        self._synced = False
        self._permissions_missing: list[str] = []
        self._relisted = asyncio.Event()
        self._metrics.watch(
            queue_depth=lambda: len(self._queue),
            endpoints=lambda: self._cache.count(ENDPOINTS),
            leading=self._lease.leading.is_set,
            demands=lambda: ((key.namespace, key.name, *found) for key, found in self._scaler.demands()),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. Raises what ended a part that must never end."""
        app = create_app(self._metrics, self._unready, self._workers.stuck, self._demand)
        self._workers.start(self._settings.workers)
        parts = [asyncio.create_task(self._permissions()), asyncio.create_task(self._follow())]
        told = asyncio.create_task(stop.wait())
        try:
            async with _serving(app, self._settings.http_port):
                done, _ = await asyncio.wait({told, *parts, *self._workers.tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # The election goes on until the last pass is over: what it writes is still ours to write.
            await self._workers.stop(STOP_SECONDS)
            for part in (told, *parts):
                part.cancel()
            await asyncio.gather(told, *parts, return_exceptions=True)
            await self._lease.release()
            await asyncio.to_thread(self._endpoints.stop, WATCH_STOP_SECONDS)
            await self._session.close()
            await self._load_session.close()
            await self._gateway_session.close()
            await self._client.close()
            await self._election.close()
            log.info("stopped")
        for part in done - {told}:
            part.result()

    def _demand(self, namespace: str, name: str) -> dict[str, float] | None:
        found = self._scaler.demand(Key(namespace, name))
        if found is None:
            return None
        replicas = found.in_flight / found.target
        return {"replicas": replicas, "demand": found.in_flight, "targetPerReplica": found.target}

    async def _follow(self) -> None:
        """All that goes on for ever once the first list is there; a standby keeps its cache as warm as the leader."""
        versions = await first_refresh(self._client, self._cache, self._queue)
        gc.collect()
        gc.freeze()
        # Events bring many objects and hardly a cycle: to look for one every 700 objects takes a twentieth of the CPU.
        gc.set_threshold(GC_THRESHOLD, 20, 20)
        self._synced = True
        self._endpoints.start()
        log.info("started", endpoints=self._cache.count(ENDPOINTS))
        async with asyncio.TaskGroup() as group:
            for resource in (*CHILDREN, PODS):
                wake = self._wake_sleeper if resource is SLICES else self._wake
                reflector = Reflector(self._client, resource, self._cache, wake)
                group.create_task(reflector.run(versions[resource]))
            group.create_task(
                resync(self._client, self._cache, self._queue, self._metrics, self._settings.resync_seconds)
            )
            group.create_task(self._list_after_relists())
            if self._gateways.service:
                gateways = Reflector(self._client, self._gateways.resource, self._gateways.cache, self._gateway_moved)
                group.create_task(gateways.run(""))
            group.create_task(self._held.run())
            group.create_task(self._scaler.run())
            group.create_task(self._lease.run())

    def _take(self, event: Event) -> None:
        """An event of an endpoint; its type is None when kopf has listed them."""
        take(self._cache, ENDPOINTS, event["type"], event["object"], self._queue.add)
        if event["type"] is None:
            self._relisted.set()

    def _wake(self, key: Key) -> None:
        """News of a child or a pod: they come in bursts, of which one pass tells all."""
        self._queue.add_after(key, BURST_SECONDS)

    def _wake_sleeper(self, key: Key) -> None:
        """News of a slice: which pods take requests matters where the gateway takes them else, and at once."""
        if self._uses_gateway(key):
            self._queue.add(key)

    def _gateway_moved(self, _: Key) -> None:
        """News of the gateway's pods."""
        self._held.follow(self._gateways.told_at())
        for key in filter(self._uses_gateway, self._cache.endpoints()):
            self._queue.add(key)

    def _uses_gateway(self, key: Key) -> bool:
        endpoint = self._cache.get(ENDPOINTS, key.namespace, key.name) or {"spec": {}}
        sleeps = (endpoint["spec"].get("scaling") or {}).get("min") == 0
        return sleeps or self._cache.get(SLICES, key.namespace, names.gateway_slice(key.name)) is not None

    def _held_changed(self, uid: str) -> None:
        self._scaler.held_changed(uid)

    async def _list_after_relists(self) -> None:
        """A relist of kopf is silent about what was deleted in the gap: list once more."""
        while True:
            await self._relisted.wait()
            await asyncio.sleep(RELIST_SECONDS)
            self._relisted.clear()
            with contextlib.suppress(errors.ApiError, errors.Unreachable):  # the next resync does the same
                await refresh(self._client, self._cache, self._queue, [ENDPOINTS])

    def _look_at_all(self) -> None:
        for key in self._cache.endpoints():
            self._queue.add(key)

    async def _permissions(self) -> None:
        """Say each missing permission once; look again while there are any, as roles may come after the operator."""
        said: list[str] = []
        while True:
            with contextlib.suppress(errors.ApiError, errors.Unreachable):
                self._permissions_missing = await permissions.missing(self._election, self._namespace)
                for permission in [item for item in self._permissions_missing if item not in said]:
                    log.error(
                        "permission_missing", permission=permission, mend="install the chart's roles and bindings"
                    )
                if said and not self._permissions_missing:
                    log.info("permissions_complete")
                said = self._permissions_missing
                if not said:
                    break
            await asyncio.sleep(PERMISSIONS_AGAIN_SECONDS)
        await asyncio.Event().wait()

    def _unready(self) -> str | None:
        if self._permissions_missing:
            return f"permissions are missing: {', '.join(self._permissions_missing)}"
        if not self._synced:
            return "the first list of objects is not done yet"
        silent = time.monotonic() - self._lease.answered_at
        if silent > SILENT_SECONDS:
            return f"the API server has not answered about the Lease for {silent:.0f} s"
        return None


@contextlib.asynccontextmanager
async def _serving(app: web.Application, port: int) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    # Any free port is for trying things out, and one on every address would be two different ones.
    site = web.TCPSite(runner, None if port else "127.0.0.1", port)
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
    """Run the operator until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Operator(settings, kubeconfig).run(stop)
