"""/livez, /readyz and /metrics."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from berth.telemetry.metrics import Metrics


def create_app(metrics: Metrics, unready: Callable[[], str | None], stuck: Callable[[], str | None]) -> web.Application:
    """unready: why this process cannot reconcile yet, None when it can.  stuck: why it never will again, else None.

    /livez does not fail because the API server is away: a restart would not bring it back.
    """

    async def livez(_: web.Request) -> web.Response:
        return _verdict(stuck())

    async def readyz(_: web.Request) -> web.Response:
        return _verdict(unready())

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    return app


def _verdict(problem: str | None) -> web.Response:
    return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)
