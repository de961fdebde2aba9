"""Media that a request names by URL. vLLM fetches any, from anywhere: to whoever may ask, a way into the network.

Here nothing is fetched unless the endpoint allows domains (vLLM's `--allowed-media-domains`), and then from public
addresses alone. What counts is the address that is connected to, whatever name or redirect led there. No proxy is
used: it would look names up out of sight. `data:` URLs always work.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from typing import Any

NONE_ALLOWED = ["none: set allowed-media-domains in spec.server.args, or send a data: URL"]
"""Stands where vLLM has its allowed domains, and in the error that its clients get. No host has spaces in its name."""
NOT_PUBLIC = (
    "The URL leads to an address that is not public; media are fetched from public ones alone. Use a data: URL."
)
REDIRECTED = (
    "The URL is redirected, which is not followed: use the one that it leads to, or set VLLM_MEDIA_URL_ALLOW_REDIRECTS"
    " in spec.server.env."
)
ONLY_ASYNCHRONOUS = "Media are not fetched this way. Use a data: URL."

REDIRECTS_VARIABLE = "VLLM_MEDIA_URL_ALLOW_REDIRECTS"
"""vLLM's own, which follows redirects when it is absent: those leave the allowed domains."""

_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Where Azure and Oracle serve their machines, at addresses that look public (the latter to some Pythons).
_PLATFORMS = (ipaddress.ip_network("168.63.129.16/32"), ipaddress.ip_network("192.0.0.0/24"))

log = logging.getLogger("berth")


class Refused(RuntimeError):
    """A URL that is not fetched. aiohttp hands on this kind of error, and vLLM does not try again after it."""


def is_public(text: str) -> bool:
    """Whether this IP address is one of the internet's, and leads to no other by way of a tunnel or a translation."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and not any(address in each for each in _PLATFORMS)
    if address in _NAT64:
        return is_public(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
    return address in _UNICAST and address.is_global and address.sixtofour is None


def public_socket(found: tuple[Any, ...]) -> socket.socket:
    """aiohttp's socket factory: the socket for an address, which it connects to next. Raises Refused."""
    family, kind, protocol, _, address = found
    if not is_public(str(address[0])):
        raise Refused(NOT_PUBLIC)
    return socket.socket(family, kind, protocol)


async def _no_redirect(response: Any) -> None:
    if 300 <= response.status < 400:
        raise Refused(REDIRECTED)


async def guard(model_config: Any) -> None:
    """Puts this module in vLLM's way to media, in this process. If that fails, no URL is fetched at all.

    model_config: vLLM's; of it, requests read the allowed domains and the path of local files.
    """
    try:
        await _replace_connector()
    except Exception:
        log.exception("No media will be fetched from URLs: this vLLM's way to them could not be guarded.")
        model_config.allowed_media_domains = NONE_ALLOWED
        model_config.allowed_local_media_path = ""
    if not model_config.allowed_media_domains:
        model_config.allowed_media_domains = NONE_ALLOWED


async def _replace_connector() -> None:
    """Raises unless what vLLM loads media with from now on is seen to refuse this very machine."""
    from vllm import envs
    from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY

    name = envs.VLLM_MEDIA_CONNECTOR
    MEDIA_CONNECTOR_REGISTRY.register(name)(_connector_class())
    connector = MEDIA_CONNECTOR_REGISTRY.load(name, allowed_media_domains=["127.0.0.1"])
    try:
        await connector.fetch_image_async("http://127.0.0.1:1/")
    except Exception as error:
        if isinstance(error.__cause__, Refused):
            return
        raise
    finally:
        await connector.connection.close()
    raise RuntimeError("An address that is not public was connected to.")


def _connector_class() -> Any:
    """vLLM's own, on a guarded connection. What it refuses is the client's fault, and told as that."""
    import aiohttp
    from vllm.connections import HTTPConnection
    from vllm.exceptions import VLLMValidationError
    from vllm.multimodal.media import MediaConnector

    class Connection(HTTPConnection):  # type: ignore[misc]
        _session: aiohttp.ClientSession | None = None

        def get_sync_client(self) -> Any:
            raise Refused(ONLY_ASYNCHRONOUS)

        async def get_async_client(self) -> Any:
            if self._session is None:
                connector = aiohttp.TCPConnector(socket_factory=public_socket)
                self._session = aiohttp.ClientSession(connector=connector, raise_for_status=_no_redirect)
            return self._session

        async def close(self) -> None:
            """Until the next use: a session that is left open is logged at the end."""
            if self._session is not None:
                await self._session.close()
                self._session = None

        async def get_async_response(self, url: str, *, allow_redirects: bool = True, **options: Any) -> Any:
            followed = allow_redirects and REDIRECTS_VARIABLE in os.environ
            return await super().get_async_response(url, allow_redirects=followed, **options)

    connection = Connection()

    class Connector(MediaConnector):  # type: ignore[misc]
        def __init__(
            self,
            media_io_kwargs: Any = None,
            *,
            allowed_local_media_path: str = "",
            allowed_media_domains: list[str] | None = None,
        ) -> None:
            super().__init__(
                media_io_kwargs,
                connection,
                allowed_local_media_path=allowed_local_media_path,
                allowed_media_domains=allowed_media_domains or NONE_ALLOWED,
            )

        async def load_from_url_async(self, url: str, *args: Any, **options: Any) -> Any:
            try:
                return await super().load_from_url_async(url, *args, **options)
            except RuntimeError as error:
                # Also vLLM's own, of which it would make a 5xx: a file where none may be read, data not in base64.
                raise VLLMValidationError(str(error)) from error

    return Connector
