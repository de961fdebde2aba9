"""Loads images as vLLM's API server does for a request, without a model; run by the Python that has vLLM.

    python fetch_media.py PAYLOAD        reads one JSON object a line

{"url", "domains", "public", "redirects", "guard", "aiohttp"} and writes one for each: {"size"} or {"error", "type"}.
domains: what the endpoint allows.  public: addresses that are to pass for public.  redirects: what the endpoint sets
for them.  guard: false to do without.  aiohttp: false for one that takes no socket factory.
"""

import asyncio
import json
import os
import sys
from types import SimpleNamespace
from typing import Any
from unittest import mock

import aiohttp
from vllm import envs
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY, MediaConnector

sys.path.insert(0, sys.argv[1])
from berth_server import media

REAL = media.is_public


def old_connector(**options: Any) -> Any:
    raise TypeError(f"TCPConnector() got unexpected arguments {list(options)}")


async def outcome(url: str, domains: list[str] | None = None, **case: Any) -> dict[str, Any]:
    config = SimpleNamespace(allowed_media_domains=domains, allowed_local_media_path="")
    public = case.get("public", [])
    media.is_public = lambda address: address in public or REAL(address)
    MEDIA_CONNECTOR_REGISTRY.register("http")(MediaConnector)
    os.environ.pop(media.REDIRECTS_VARIABLE, None)
    if "redirects" in case:
        os.environ[media.REDIRECTS_VARIABLE] = case["redirects"]
    if case.get("guard", True):
        with mock.patch.object(
            aiohttp, "TCPConnector", aiohttp.TCPConnector if case.get("aiohttp", True) else old_connector
        ):
            await media.guard(config)
    # As in vLLM's chat_utils.
    connector = MEDIA_CONNECTOR_REGISTRY.load(
        envs.VLLM_MEDIA_CONNECTOR,
        media_io_kwargs=None,
        allowed_local_media_path=config.allowed_local_media_path,
        allowed_media_domains=config.allowed_media_domains,
    )
    try:
        image = await connector.fetch_image_async(url)
    except Exception as error:
        return {"error": str(error), "type": type(error).__name__}
    return {"size": getattr(image, "media", image).size}


async def main() -> None:
    for line in sys.stdin:
        print(json.dumps(await outcome(**json.loads(line))), file=results, flush=True)


if __name__ == "__main__":
    results, sys.stdout = sys.stdout, sys.stderr
    asyncio.run(main())
