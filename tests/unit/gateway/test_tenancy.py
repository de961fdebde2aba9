"""Every way of naming another tenant's model, in front of played pods: none of them reaches the other's."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.node import tenancy
from tests.node.tenancy import OURS, Tenants, Way
from tests.unit.gateway.rig import KEY, PlayedPod, endpoint, running, secret, talking

TENANTS = Tenants(
    key=KEY,
    ours="ours-7b",
    our_namespace="team-a",
    our_object="llama",
    theirs="theirs-7b",
    their_namespace="team-b",
    their_object="falcon",
)
WAYS = tenancy.ways(TENANTS)
OTHER_KEY = "k-of-team-b"


async def said(port: int, data: bytes) -> tuple[list[int], str]:
    async with talking(port) as client:
        await client.send(data)
        text = await asyncio.wait_for(client.reader.read(), 20)
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) [A-Z]", text)], text.decode()


def test_no_two_ways_are_the_same() -> None:
    assert len({way.what for way in WAYS}) == len({way.data for way in WAYS}) == len(WAYS)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.what)
async def test_the_other_tenant_is_never_reached(way: Way) -> None:
    async with PlayedPod() as ours, PlayedPod() as theirs, running() as rig:
        rig.serve("llama", ours, model={"source": "file:///m", "servedNames": [TENANTS.ours]})
        rig.serve("falcon", theirs, namespace="team-b", model={"source": "file:///m", "servedNames": [TENANTS.theirs]})
        statuses, text = await said(rig.port, way.data)
        assert tenancy.went_wrong(way, TENANTS, statuses, text) is None, (statuses, text)
        assert theirs.asked == []
        assert theirs.connections == 0
        if way.expected == OURS:
            assert len(ours.asked) == 1


async def test_a_refused_name_is_answered_like_one_that_nobody_has() -> None:
    async with PlayedPod() as theirs, running() as rig:
        rig.serve("falcon", theirs, namespace="team-b", model={"source": "file:///m", "servedNames": [TENANTS.theirs]})
        for way in WAYS:
            if way.expected != OURS and TENANTS.theirs.encode() in way.data:
                other = way.data.replace(b"theirs-7b", b"nobody-7b")
                refused, unknown = [await said(rig.port, data) for data in (way.data, other)]
                assert refused[0] == unknown[0], way.what
                assert refused[1].replace("theirs-7b", "nobody-7b") == unknown[1], way.what


async def test_the_same_requests_with_its_own_key_reach_it() -> None:
    """Else that nobody reaches it would show nothing."""
    reached = set()
    async with PlayedPod() as theirs, running() as rig:
        rig.access.put_secret(secret("team-b", OTHER_KEY, namespaces="team-b"))
        rig.serve("falcon", theirs, namespace="team-b", model={"source": "file:///m", "servedNames": [TENANTS.theirs]})
        for way in tenancy.ways(TENANTS._replace(key=OTHER_KEY)):
            before = len(theirs.asked)
            await said(rig.port, way.data)
            if len(theirs.asked) > before:
                reached.add(way.what)
    assert {"body, served name", "body, namespace/name", "LLMEngine, query", "chunked", "a form's field"} <= reached
    assert {"AlephAlpha, body", "ScaleEGP v2, vendor/name", "AlephAlpha, tokenizer's path", "HTTP/1.0"} <= reached
    assert len(reached) >= 30


async def test_a_grant_of_one_teams_model_is_none_of_anothers_when_it_is_gone() -> None:
    async with PlayedPod() as theirs, running() as rig, rig.connect() as client:
        rig.serve("llama", theirs, namespace="team-a")
        rig.table.put_endpoint(endpoint("llama", "team-b"))
        rig.access.put_secret(secret("all", OTHER_KEY, namespaces="*", models="team-b/llama"))
        for _ in range(2):
            for path in ("/v1/completions", "/egp/v4/completions"):
                for model in ("team-a/llama", "llama", "vendor/llama"):
                    await client.post({"model": model, "prompt": "p"}, path, OTHER_KEY)
                    assert (await client.answer())[0] == 404
            rig.table.drop_endpoint("team-b", "llama")
        await client.post({"model": "team-b/llama", "prompt": "p"}, "/egp/v4/completions", OTHER_KEY)
        assert (await client.answer())[0] == 404
        assert theirs.asked == []


@pytest.mark.parametrize("named", ["authorization", "x-api-key", "Authorization, X-API-Key"])
async def test_nothing_beside_a_key_becomes_one(named: str) -> None:
    async with PlayedPod() as pod, running() as rig, rig.connect() as client:
        rig.serve("m", pod)
        made_up = "x-api-key: made-up\r\n"
        await client.post({"model": "m", "prompt": "p"}, head=f"{made_up}Connection: {named}\r\n")
        assert (await client.answer())[0] == 200
        await client.post({"model": "m", "prompt": "p"}, head=made_up, key="")
        assert (await client.answer())[0] == 401


@pytest.mark.parametrize("key", ["", "sk-another", f"{KEY}x", TENANTS.their_namespace])
async def test_without_a_key_nothing_is_told(key: str) -> None:
    async with PlayedPod() as ours, PlayedPod() as theirs, running() as rig:
        rig.serve("llama", ours, model={"source": "file:///m", "servedNames": [TENANTS.ours]})
        rig.serve("falcon", theirs, namespace="team-b", model={"source": "file:///m", "servedNames": [TENANTS.theirs]})
        for way in tenancy.ways(TENANTS._replace(key=key)):
            statuses, text = await said(rig.port, way.data)
            assert statuses, way.what
            assert set(statuses) <= {400, 401, 501, 505}, (way.what, text)
        assert ours.asked == theirs.asked == []
