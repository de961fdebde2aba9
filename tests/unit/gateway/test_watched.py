"""Objects of the cluster become endpoints, pods and keys; and what the gateway asks the API server for.

In: an API server of a few lines.  Out: Table and Access, the real ones.
"""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from berth_gateway import cluster
from berth_gateway.access import Access
from berth_gateway.cluster import Api
from berth_gateway.connection import Connection
from berth_gateway.settings import Settings
from berth_gateway.table import Table
from berth_gateway.watched import Watched
from tests.unit.gateway.api_server import ApiServer, Failure

Object = dict[str, Any]

ENDPOINTS = "/apis/berth.dev/v1alpha1/modelendpoints"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
SECRETS = "/api/v1/namespaces/berth-system/secrets"
CREATED = "2026-11-22T00:00:00Z"


def endpoint(name: str) -> Object:
    return {
        "metadata": {"name": name, "namespace": "team", "creationTimestamp": CREATED},
        "spec": {"model": {"source": "hf://org/model"}},
    }


def pods_of(name: str, address: str) -> Object:
    labels = {
        "kubernetes.io/service-name": name,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    return {
        "metadata": {"name": f"{name}-x1", "namespace": "team", "labels": labels, "creationTimestamp": CREATED},
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": 8000}],
    }


def keys(name: str, key: str, **data: str) -> Object:
    given = {"sha256": hashlib.sha256(key.encode()).hexdigest(), "namespaces": "*", **data}
    return {
        "metadata": {"name": name, "namespace": "berth-system", "creationTimestamp": CREATED},
        "data": {field: base64.b64encode(text.encode()).decode() for field, text in given.items()},
    }


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    for name in ("FIRST_DELAY_SECONDS", "MAX_DELAY_SECONDS", "FORBIDDEN_SECONDS"):
        monkeypatch.setattr(cluster, name, 0.01)
    async with ApiServer() as running:
        yield running


@contextlib.asynccontextmanager
async def followed(server: ApiServer, table: Table, access: Access, **settings: Any) -> AsyncIterator[Watched]:
    api = Api(Connection(server.url, None, str))
    watched = Watched(api, Settings(**settings), table, access)
    running = asyncio.create_task(watched.run())
    try:
        yield watched
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await api.close()


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_endpoints_pods_and_keys_are_as_in_the_cluster(server: ApiServer) -> None:
    server.put(ENDPOINTS, endpoint("llama"))
    server.put(SLICES, pods_of("llama", "10.0.0.5"))
    server.put(SECRETS, keys("team-keys", "sesame"))
    table, access = Table(), Access()
    async with followed(server, table, access) as watched:
        async with asyncio.timeout(20):
            await watched.synced()
        assert watched.missing() == []
        found = table.find("llama")
        assert found is not None
        assert [pod.host for pod in found.ready] == ["10.0.0.5"]
        caller = access.caller([(b"x-api-key", b"sesame")])
        assert caller is not None
        assert caller.owner == "team-keys"

        server.put(SLICES, pods_of("llama", "10.0.0.6"))
        await until(lambda: [pod.host for pod in found.ready] == ["10.0.0.6"])
        server.delete(SLICES, "team", "llama-x1")
        await until(lambda: not found.ready)
        server.delete(SECRETS, "berth-system", "team-keys")
        await until(lambda: access.caller([(b"x-api-key", b"sesame")]) is None)
        server.delete(ENDPOINTS, "team", "llama")
        await until(lambda: table.find("llama") is None)
    labels = {request.path: request.labels for request in server.asked}
    assert labels == {
        ENDPOINTS: "",
        SLICES: "app.kubernetes.io/managed-by=berth",
        SECRETS: "berth.dev/gateway-key=true",
    }


async def test_namespaces_are_asked_for_one_by_one_and_keys_stay_in_the_own_one(server: ApiServer) -> None:
    async with followed(server, Table(), Access(), namespaces=("a", "b"), namespace="berth-system") as watched:
        async with asyncio.timeout(20):
            await watched.synced()
    assert {request.path for request in server.asked} == {
        f"/apis/{kind}" for namespace in "ab" for kind in (
            f"berth.dev/v1alpha1/namespaces/{namespace}/modelendpoints",
            f"discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
        )
    } | {SECRETS}  # fmt: skip


async def test_an_open_gateway_reads_no_secrets(server: ApiServer) -> None:
    async with followed(server, Table(), Access(open=True), auth="Open") as watched:
        async with asyncio.timeout(20):
            await watched.synced()
    assert {request.path for request in server.asked} == {ENDPOINTS, SLICES}


async def test_what_was_not_listed_yet_is_named(server: ApiServer) -> None:
    server.always[SECRETS] = Failure(403)
    async with followed(server, Table(), Access()) as watched:
        assert watched.missing() == ["modelendpoints.berth.dev", "endpointslices.discovery.k8s.io", "secrets"]
        await until(lambda: watched.missing() == ["secrets"])
        del server.always[SECRETS]
        await until(lambda: watched.missing() == [])


async def test_what_is_wrong_with_a_secret_is_said_once_and_again_when_it_changes(server: ApiServer) -> None:
    server.put(SECRETS, keys("wrong", "sesame", namespaces=""))
    with capture_logs() as logs:
        table, access = Table(), Access()
        async with followed(server, table, access) as watched:
            async with asyncio.timeout(20):
                await watched.synced()
            server.put(SECRETS, keys("right", "open"))
            await until(lambda: access.caller([(b"x-api-key", b"open")]))
            server.put(SECRETS, keys("wrong", "sesame", owner="two words"))
            await until(lambda: "owner" in access.problems["wrong"])
            server.put(SECRETS, keys("wrong", "sesame"))
            await until(lambda: not access.problems)
    said = [entry for entry in logs if entry["event"] == "key_unusable"]
    assert [entry["secret"] for entry in said] == ["wrong", "wrong"]
    assert "namespaces must list" in said[0]["problem"]
    assert "owner must be" in said[1]["problem"]
