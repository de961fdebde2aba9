"""The running gateway: watches, relay and admin port, started and stopped in the right order."""

import asyncio
import contextlib
import gc
import os
import select
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from berth_gateway.access import Access
from berth_gateway.admin import Demand, create_app
from berth_gateway.cluster import Api
from berth_gateway.connection import connect
from berth_gateway.counts import Counts, GatewayCollector
from berth_gateway.holding import Holds, Limits
from berth_gateway.log import AccessLog
from berth_gateway.relay import Relay
from berth_gateway.settings import Settings
from berth_gateway.table import Table
from berth_gateway.watched import Watched

log = structlog.get_logger()

STDOUT = 1
GC_THRESHOLD = 20_000


class PortTaken(Exception):
    """A port cannot be listened on; the message says what to do."""


class Gateway:
    """One process of the gateway. Created in a running event loop; `run` ends after `stop`, or when a part fails."""

    def __init__(self, settings: Settings, api: Api, access_log: AccessLog) -> None:
        self._settings = settings
        self._api = api
        self._table = Table()
        access = Access(open=settings.auth == "Open")
        limits = Limits(
            per_endpoint=settings.hold_per_endpoint,
            in_all=settings.hold_in_all,
            bytes_per_endpoint=settings.hold_bytes_per_endpoint,
            bytes_in_all=settings.hold_bytes_in_all,
            seconds=settings.hold_seconds,
        )
        holds, counts = Holds(limits), Counts()
        self._demand = Demand(self._table, holds, time.monotonic, started=int(time.time() * 1000))
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(GatewayCollector(counts, self._table.endpoints, lambda: access_log.lost))
        self._relay = Relay(self._table, access, holds, counts, access_log, settings, time.monotonic, time.time)
        self._watched = Watched(api, settings, self._table, access)
        self._state = "starting"

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` and what follows it. Raises what ended a part that must never end, and PortTaken."""
        following = asyncio.create_task(self._watched.run())
        serving = asyncio.create_task(self._serve(stop))
        try:
            async with _answering(create_app(self._demand, self._registry, self._unready), self._settings.admin_port):
                await asyncio.wait({following, serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in (serving, following):
                part.cancel()
            await asyncio.gather(serving, following, return_exceptions=True)
            await self._relay.close()
            await self._api.close()
        for part in (serving, following):
            if not part.cancelled():
                part.result()
        log.info("stopped")

    async def _serve(self, stop: asyncio.Event) -> None:
        """From the first lists to the last answer."""
        told = asyncio.create_task(stop.wait())
        synced = asyncio.create_task(self._watched.synced())
        try:
            await asyncio.wait({told, synced}, return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                await self._listen()
                await told
                await self._leave()
        finally:
            told.cancel()
            synced.cancel()

    async def _listen(self) -> None:
        # Not before the lists are there: a model that is not known yet would be answered as one that does not exist.
        settings = self._settings
        try:
            await self._relay.listen()
        except OSError as error:
            last = settings.first_endpoint_port + settings.endpoint_ports - 1
            raise PortTaken(
                f"one of the ports {settings.port}, {settings.first_endpoint_port} to {last} cannot be used:"
                f" {error.strerror}; set BERTH_GATEWAY_PORT or BERTH_GATEWAY_FIRST_ENDPOINT_PORT to free ones"
            ) from error
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 20)
        self._state = "ready"
        log.info("listening", port=self._relay.ports[0], endpoints=sum(1 for _ in self._table.endpoints()))

    async def _leave(self) -> None:
        """Serve on until everybody knows that this gateway leaves, then finish what is under way."""
        self._state = "leaving"
        self._relay.closing = True
        log.info("leaving", in_flight=self._relay.in_flight)
        await asyncio.sleep(self._settings.further_seconds)
        self._relay.stop_accepting()
        self._relay.close_idle()
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._relay.finished()
        except TimeoutError:
            log.warning("requests_cut", in_flight=self._relay.in_flight, drain_seconds=self._settings.drain_seconds)

    def _unready(self) -> str | None:
        if self._state == "leaving":
            return "told to end: send no more requests"
        if missing := self._watched.missing():
            return f"not listed yet: {', '.join(missing)}"
        return None if self._state == "ready" else "the ports are not open yet"


@contextlib.asynccontextmanager
async def _answering(app: web.Application, port: int) -> AsyncIterator[None]:
    # Who waits at /demand when the process ends need not be waited for.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    # Any free port is for trying things out, and one on every address would be two different ones.
    site = web.TCPSite(runner, None if port else "127.0.0.1", port)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise PortTaken(
            f"port {port} cannot be used: {error.strerror}; set BERTH_GATEWAY_ADMIN_PORT to a free one"
        ) from error
    log.info("admin_listening", port=runner.addresses[0][1])
    try:
        yield
    finally:
        await runner.cleanup()


def writer(descriptor: int) -> Callable[[bytes], int]:
    """Writes as much as goes without waiting, for AccessLog; raises BlockingIOError when that is nothing.

    The descriptor stays as it is: made non-blocking, it would be so for everybody who shares the terminal or pipe.
    """
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)

    def write(data: bytes) -> int:
        done = 0
        # A pipe that can be written to takes so many bytes without waiting.
        while done < len(data) and poller.poll(0):
            done += os.write(descriptor, data[done : done + select.PIPE_BUF])
        if not done:
            raise BlockingIOError
        return done

    return write


async def run(settings: Settings, kubeconfig: str | None, environ: Mapping[str, str]) -> None:
    """Run the gateway until SIGTERM or SIGINT. Raises NoConnection, PortTaken."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    api = Api(connect(kubeconfig, environ))
    await Gateway(settings, api, AccessLog(writer(STDOUT))).run(stop)
