"""/livez, /readyz, /metrics, and /demand for the operator, on a port that no client of a model is given."""

import asyncio
import platform
from collections.abc import Callable
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from berth_gateway.holding import Holds
from berth_gateway.table import Table

DEMAND_SECONDS = 10.0
"""How long /demand waits for a change."""

Object = dict[str, Any]


class Demand:
    """What is asked of endpoints, for who wakes and scales them. clock: monotonic seconds, as in `holds`.

    started: milliseconds since 1970. Versions begin there, so that those of a process that was here before are none of
    this one's.
    """

    def __init__(self, table: Table, holds: Holds, clock: Callable[[], float], started: int) -> None:
        self._table = table
        self._holds = holds
        self._clock = clock
        self._started = started
        self._waiting: set[asyncio.Event] = set()
        holds.on_change = self._changed

    @property
    def version(self) -> int:
        """Grows when what is held changes."""
        return self._started + self._holds.version

    async def after(self, version: int | None, seconds: float) -> Object:
        """The demand, as soon as its version is another one than `version`, at the latest after `seconds`."""
        if version == self.version:
            changed = asyncio.Event()
            self._waiting.add(changed)
            try:
                async with asyncio.timeout(seconds):
                    await changed.wait()
            except TimeoutError:
                pass
            finally:
                self._waiting.discard(changed)
        return self.now()

    def now(self) -> Object:
        """Of each endpoint that anything was asked of: requests held, in flight and ended since the start."""
        now, endpoints = self._clock(), {}
        for endpoint in self._table.endpoints():
            in_flight = sum(pod.in_flight for pod in endpoint.pods.values())
            held = endpoint.held
            if not held and not in_flight and not endpoint.requests:
                continue
            since = held.since if held else None
            endpoints[endpoint.uid] = {
                "held": len(held or ()),
                "in_flight": in_flight,
                "requests": endpoint.requests,
                "since_seconds": None if since is None else round(now - since, 3),
            }
        return {"v": 1, "version": self.version, "pod": platform.node(), "endpoints": endpoints}

    def _changed(self) -> None:
        for changed in self._waiting:
            changed.set()


def create_app(demand: Demand, registry: CollectorRegistry, unready: Callable[[], str | None]) -> web.Application:
    """unready: why no request should be sent here, None when they may be.

    /livez says that the event loop turns. It does not fail because the API server is away: a restart would forget what
    is known.
    """

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        problem = unready()
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def tell_demand(request: web.Request) -> web.Response:
        after = request.query.get("after", "")
        if after and not (after.isascii() and after.isdigit()):
            return web.json_response({"error": f"after={after}: must be a version that /demand told"}, status=400)
        return web.json_response(await demand.after(int(after) if after else None, DEMAND_SECONDS))

    app = web.Application()
    app.add_routes(
        [
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/metrics", scrape),
            web.get("/demand", tell_demand),
        ]
    )
    return app
