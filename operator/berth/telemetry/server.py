"""/livez, /readyz, /metrics, and /scaling for KEDA."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from berth.telemetry.metrics import Metrics


def create_app(
    metrics: Metrics,
    unready: Callable[[], str | None],
    stuck: Callable[[], str | None],
    demand: Callable[[str, str], dict[str, float] | None],
) -> web.Application:
    """demand: what the load of an endpoint asks for, by namespace and name, None when it is not known.

    unready: why this process cannot reconcile yet, None when it can.  stuck: why it never will again, else None.

    /livez does not fail because the API server is away: a restart would not bring it back.
    """

    async def livez(_: web.Request) -> web.Response:
        return _verdict(stuck())

    async def readyz(_: web.Request) -> web.Response:
        return _verdict(unready())

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def scaling(request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        if (found := demand(namespace, name)) is None:
            # An autoscaler that gets an error leaves the number as it is; a zero would scale down.
            return web.json_response({"error": f"the load of {namespace}/{name} is not known"}, status=503)
        return web.json_response(found)

    app = web.Application()
    app.add_routes(
        [
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/metrics", scrape),
            web.get("/scaling/{namespace}/{name}", scaling),
        ]
    )
    return app


def _verdict(problem: str | None) -> web.Response:
    return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)
