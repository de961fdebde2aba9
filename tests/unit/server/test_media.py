"""The way to media that a request names by URL: which addresses count as public, and aiohttp held to them."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from berth_server import media

PUBLIC = ["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808"]
NOT_PUBLIC = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *(
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
    ),
    *("::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b:1::808:808", "2002:7f00:1::", "2001:0:7f00:1::"),
    *("2001:db8::1", "localhost", ""),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert media.is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_leads_inside_is_not(address: str) -> None:
    assert not media.is_public(address)


class Resolver(AbstractResolver):
    """Knows one name."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


async def get(url: str, *addresses: str) -> Any:
    connector = aiohttp.TCPConnector(socket_factory=media.public_socket, resolver=Resolver(*addresses))
    async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as response:
        return await response.read()


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("127.0.0.1", []),
        ("[::1]", []),
        ("harbour.example", ["127.0.0.1"]),
        ("harbour.example", ["127.0.0.1", "127.0.0.2"]),
    ],
)
async def test_a_name_does_not_hide_an_address(host: str, addresses: list[str]) -> None:
    with pytest.raises(media.Refused, match="not public"):
        await get(f"http://{host}:1/", *addresses)


async def test_each_hop_of_a_redirect_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here 127.0.0.2 passes for public, and leads to 127.0.0.1."""
    monkeypatch.setattr(media, "is_public", lambda address: address == "127.0.0.2")
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": f"http://127.0.0.1:{request.url.port}/inside"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0)  # all of 127.0.0.0/8
    await site.start()
    try:
        port = runner.addresses[0][1]
        with pytest.raises(media.Refused, match="not public"):
            await get(f"http://127.0.0.2:{port}/outside")
    finally:
        await runner.cleanup()
    assert asked == ["/outside"]


async def test_without_the_guard_nothing_is_fetched() -> None:
    """There is no vLLM here, so that it cannot be put in place."""
    config = SimpleNamespace(allowed_media_domains=["example.org"], allowed_local_media_path="/srv")
    await media.guard(config)
    assert config.allowed_media_domains == media.NONE_ALLOWED
    assert config.allowed_local_media_path == ""
