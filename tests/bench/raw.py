"""What the API server takes: the writes of new endpoints without an operator. A process of its own.

`python -m tests.bench.raw ADMIN_KUBECONFIG OPERATOR_KUBECONFIG NAMESPACE COUNT`: makes COUNT endpoints as the scenario
does, and for each, as soon as it is there, writes what the first pass of the operator writes: its children and one
status, one after the other, with the operator's client and as many endpoints at once as it has workers.
Then it times the decisions of a pass about endpoints that are as they should be. Prints one JSON line.
"""

import asyncio
import json
import resource as usage
import sys
import time
from typing import Any

from berth.api.spec import Endpoint
from berth.decide.observed import Observed, child_id
from berth.decide.parse import parse
from berth.decide.plan import make_plan
from berth.decide.summarize import summarize
from berth.desired.children import children
from berth.desired.platform import Platform
from berth.kube.client import Client
from berth.kube.connection import connect
from berth.kube.resources import BY_KIND, ENDPOINTS
from berth.settings import Settings
from tests.bench.cluster import Api, Mirror, each
from tests.bench.objects import endpoint, endpoint_names

Object = dict[str, Any]

REQUESTS_PER_ENDPOINT = 5  # the endpoint itself, three children, one status
DECISIONS = 100
NOW = "2026-01-02T03:04:05Z"


async def write(admin: str, operator: str, namespace: str, count: int) -> dict[str, float]:
    """Seconds until the last child and until the last status; CPU seconds of a request, and of a pass's decisions."""
    settings = Settings()
    platform, info = settings.platform(), connect(operator, {})
    client = Client(lambda: info, time.monotonic)
    made: asyncio.Queue[Object] = asyncio.Queue()
    children_at = [0.0]
    applied: list[tuple[Object, list[Object]]] = []

    async def work() -> None:
        while True:
            obj = await made.get()
            meta = obj["metadata"]
            manifests, status = rendered(obj, platform)
            live = [await client.apply(BY_KIND[manifest["kind"]], manifest) for manifest in manifests]
            applied.append((obj, live))
            children_at[0] = time.monotonic()
            await client.write_status(ENDPOINTS, namespace, meta["name"], meta["uid"], status)
            made.task_done()

    async with Api(admin, namespace) as api:
        workers = [asyncio.create_task(work()) for _ in range(settings.workers)]
        names, known = endpoint_names(count), set[str]()

        def on_endpoint(obj: Object) -> None:
            name = obj["metadata"]["name"]
            if name not in known:
                known.add(name)
                made.put_nowait(obj)

        async with Mirror(api, ENDPOINTS, on_endpoint) as mirror:
            started, cpu = time.monotonic(), _cpu_seconds()
            await each(names, lambda name: api.create(ENDPOINTS, endpoint(namespace, name)))
            await mirror.all(names, lambda obj: obj is not None, "endpoints", 600)
            over = asyncio.create_task(made.join())
            await asyncio.wait({over, *workers}, return_when=asyncio.FIRST_COMPLETED)
            for worker in workers:
                if worker.done():
                    worker.result()
            ended, used = time.monotonic(), _cpu_seconds() - cpu
        for worker in workers:
            worker.cancel()
        await client.close()
    return {
        "children_seconds": children_at[0] - started,
        "seconds": ended - started,
        "cpu_seconds_per_request": used / count / REQUESTS_PER_ENDPOINT,
        "cpu_seconds_per_decision": decisions(applied[:DECISIONS], platform),
    }


def decisions(applied: list[tuple[Object, list[Object]]], platform: Platform) -> float:
    """CPU seconds of parse, plan and status of one endpoint whose children are as they should be; the best of five."""
    taken = []
    for _ in range(5):
        cpu = _cpu_seconds()
        for obj, live in applied:
            ep = parse(obj)
            assert isinstance(ep, Endpoint), ep
            seen = Observed(endpoint=obj, children={child_id(child): child for child in live})
            assert not make_plan(ep, seen, platform).apply
            summarize(ep, seen, None, platform, NOW)
        taken.append((_cpu_seconds() - cpu) / len(applied))
    return min(taken)


def rendered(obj: Object, platform: Platform) -> tuple[list[Object], Object]:
    """Children and first status of an endpoint, as the operator makes them."""
    ep = parse(obj)
    assert isinstance(ep, Endpoint), ep
    return children(ep, platform), summarize(ep, Observed(endpoint=obj), None, platform, NOW)


def _cpu_seconds() -> float:
    used = usage.getrusage(usage.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    admin, operator, namespace, count = sys.argv[1:5]
    print(json.dumps(asyncio.run(write(admin, operator, namespace, int(count)))))
