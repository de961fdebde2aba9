"""The admin port: probes, metrics, and the demand that the operator asks for, over real HTTP.

In: Table, Holds and Counts, the real ones.  Time is the test's.
"""

import asyncio
import contextlib
import platform
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from berth_gateway import admin
from berth_gateway.admin import Demand, create_app
from berth_gateway.counts import Counts, GatewayCollector
from berth_gateway.holding import Holds, Limits
from berth_gateway.table import Endpoint, Table

STARTED = 1_700_000_000_000


class Gateway:
    """What stands behind the admin port."""

    def __init__(self) -> None:
        self.now = 100.0
        self.table = Table()
        self.holds = Holds(Limits())
        self.counts = Counts()
        self.problem: str | None = None
        self.demand = Demand(self.table, self.holds, lambda: self.now, STARTED)
        self.registry = CollectorRegistry()
        self.registry.register(GatewayCollector(self.counts, self.table.endpoints, lambda: 0))

    def endpoint(self, name: str) -> Endpoint:
        meta = {"name": name, "namespace": "team", "uid": f"uid-{name}", "creationTimestamp": "2026-11-22T00:00:00Z"}
        return self.table.put_endpoint({"metadata": meta, "spec": {"model": {"source": f"hf://org/{name}"}}})

    def pods(self, name: str) -> None:
        labels = {
            "kubernetes.io/service-name": name,
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        }
        self.table.put_slice(
            {
                "metadata": {"name": f"{name}-1", "namespace": "team", "labels": labels},
                "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}],
                "ports": [{"name": "http", "port": 8000}],
            }
        )


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
async def url(gateway: Gateway) -> AsyncIterator[str]:
    runner = web.AppRunner(create_app(gateway.demand, gateway.registry, lambda: gateway.problem), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def demand(url: str, after: int | None = None) -> Any:
    async with aiohttp.ClientSession() as session:
        query = "" if after is None else f"?after={after}"
        async with session.get(f"{url}/demand{query}") as answer:
            return await answer.json()


async def waiting(gateway: Gateway, count: int) -> None:
    async with asyncio.timeout(20):
        while len(gateway.demand._waiting) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_it_is_ready_when_there_is_no_reason_against_it_and_alive_all_the_same(
    gateway: Gateway, url: str
) -> None:
    assert await get(f"{url}/readyz") == (200, "ok\n")
    gateway.problem = "not listed yet: secrets"
    assert await get(f"{url}/readyz") == (503, "not listed yet: secrets\n")
    assert await get(f"{url}/livez") == (200, "ok\n")


async def test_metrics_are_those_of_the_collector(gateway: Gateway, url: str) -> None:
    gateway.counts.ended(gateway.endpoint("llama"), "me", "OpenAI", 200)
    status, text = await get(f"{url}/metrics")
    assert status == 200
    assert (
        'berth_gateway_requests_total{api="OpenAI",code="200",endpoint="llama",namespace="team",owner="me"} 1.0' in text
    )


async def test_the_demand_is_of_those_that_something_was_asked_of(gateway: Gateway, url: str) -> None:
    held, busy, done = gateway.endpoint("held"), gateway.endpoint("busy"), gateway.endpoint("done")
    gateway.endpoint("idle")
    gateway.holds.add(held, "first", 10, now=90.0)
    gateway.holds.add(held, "second", 10, now=95.5)
    gateway.pods("busy")
    for pod, number in zip(busy.pods.values(), (2, 3), strict=True):
        pod.in_flight = number
    done.requests = 7
    assert await demand(url) == {
        "v": 1,
        "version": STARTED + 2,
        "pod": platform.node(),
        "endpoints": {
            "uid-held": {"held": 2, "in_flight": 0, "requests": 0, "since_seconds": 10.0},
            "uid-busy": {"held": 0, "in_flight": 5, "requests": 0, "since_seconds": None},
            "uid-done": {"held": 0, "in_flight": 0, "requests": 7, "since_seconds": None},
        },
    }


async def test_an_endpoint_that_held_and_holds_no_more_has_no_oldest(gateway: Gateway, url: str) -> None:
    held = gateway.endpoint("held")
    gateway.holds.add(held, "first", 10, now=90.0)
    gateway.holds.release(held, 1)
    held.requests = 1
    assert (await demand(url))["endpoints"]["uid-held"] == {
        "held": 0, "in_flight": 0, "requests": 1, "since_seconds": None
    }  # fmt: skip


async def test_who_knows_the_version_waits_for_a_change_and_all_who_wait_are_told(
    gateway: Gateway, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "DEMAND_SECONDS", 600.0)
    endpoint = gateway.endpoint("held")
    asked = [asyncio.create_task(demand(url, STARTED)) for _ in range(3)]
    await waiting(gateway, 3)
    assert not any(task.done() for task in asked)
    gateway.holds.add(endpoint, "first", 10, now=100.0)
    async with asyncio.timeout(20):
        for task in asked:
            assert (await task)["endpoints"]["uid-held"]["held"] == 1
    await waiting(gateway, 0)


@pytest.mark.parametrize("after", [None, STARTED - 1, STARTED + 1], ids=["nothing", "older", "of another process"])
async def test_who_knows_another_version_is_answered_at_once(gateway: Gateway, url: str, after: int | None) -> None:
    async with asyncio.timeout(admin.DEMAND_SECONDS / 2):
        assert (await demand(url, after))["version"] == STARTED


async def test_without_a_change_the_same_is_told_in_the_end(
    gateway: Gateway, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "DEMAND_SECONDS", 0.01)
    gateway.endpoint("done").requests = 7
    told = await demand(url, STARTED)
    assert told["version"] == STARTED
    assert told["endpoints"]["uid-done"]["requests"] == 7


async def test_who_left_is_not_waited_for(gateway: Gateway, url: str) -> None:
    asking = asyncio.create_task(demand(url, STARTED))
    await waiting(gateway, 1)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    gateway.holds.add(gateway.endpoint("held"), "first", 10, now=100.0)
    await waiting(gateway, 0)


async def test_a_version_that_is_no_number_is_refused(url: str) -> None:
    status, text = await get(f"{url}/demand?after=-1")
    assert status == 400
    assert "must be a version" in text
