"""URLs of images, as vLLM's API server fetches them with Berth's guard in the way; no model is needed for it.

Inputs: what an endpoint allows, and URLs of a server on this machine, however it is called. Outputs: the image, or the
error of the client, and whether the server was asked at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.apis.images import RED, SIDE_PIXELS, data_url
from tests.contracts.launcher.launched import PAYLOAD
from tests.proxy import Proxy

INSIDE, PUBLIC = "127.0.0.1", "127.0.0.2"
"""The latter passes for public here."""
SEEN = {"size": [SIDE_PIXELS, SIDE_PIXELS]}


class Pictures:
    """A server of images. asked: the paths."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        handler = type("Handler", (_Handler,), {"pictures": self})
        self.server = ThreadingHTTPServer(("", 0), handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, host: str, path: str = "1.png") -> str:
        return f"http://{host}:{self.server.server_address[1]}/{path}"


class _Handler(BaseHTTPRequestHandler):
    pictures: Pictures

    def do_GET(self) -> None:
        self.pictures.asked.append(self.path)
        host = self.path.rpartition("/to/")[2]
        self.send_response(302 if "/to/" in self.path else 200)
        self.send_header("Content-Length", str(len(RED)))
        if "/to/" in self.path:
            self.send_header("Location", self.pictures.url(host))
        self.end_headers()
        self.wfile.write(RED)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[Pictures]:
    pictures = Pictures()
    yield pictures
    pictures.server.shutdown()
    pictures.server.server_close()


@pytest.fixture
def pictures(running: Pictures) -> Pictures:
    running.asked.clear()
    return running


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with Proxy() as proxy:
        yield proxy


Fetch = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def fetch(proxy: Proxy) -> Iterator[Fetch]:
    """What came of a URL, in words of fetch_media.py. The process has a proxy and tries once."""
    python = os.environ.get("BERTH_VLLM_PYTHON")
    assert python, "set BERTH_VLLM_PYTHON to the Python of an environment with vLLM"
    script = Path(__file__).with_name("fetch_media.py")
    proxied = {"http_proxy": proxy.url, "no_proxy": "", "NO_PROXY": ""}
    env = {**os.environ, **proxied, "VLLM_MEDIA_FETCH_MAX_RETRIES": "1", "VLLM_CONFIGURE_LOGGING": "0"}
    with subprocess.Popen(
        [python, script, PAYLOAD], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout

        def fetch(url: str, **case: Any) -> dict[str, Any]:
            assert process.stdin and process.stdout
            process.stdin.write(json.dumps({"url": url, "public": [PUBLIC], **case}) + "\n")
            process.stdin.flush()
            found: dict[str, Any] = json.loads(process.stdout.readline())
            return found

        yield fetch
        process.stdin.close()


def test_vllm_by_itself_fetches_from_anywhere(fetch: Fetch, pictures: Pictures, proxy: Proxy) -> None:
    """What the tests below would see without the guard."""
    assert fetch(pictures.url(INSIDE), guard=False) == SEEN
    assert pictures.asked == ["/1.png"]
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("host", [INSIDE, PUBLIC, "localhost"])
@pytest.mark.parametrize("domains", [None, []], ids=["absent", "empty"])
def test_nothing_is_fetched_that_is_not_allowed(
    domains: list[str] | None, host: str, fetch: Fetch, pictures: Pictures
) -> None:
    found = fetch(pictures.url(host), domains=domains)
    assert "allowed-media-domains in spec.server.args" in found["error"]
    assert pictures.asked == []


def test_what_is_allowed_and_public_is_fetched_without_a_proxy(fetch: Fetch, pictures: Pictures, proxy: Proxy) -> None:
    proxy.requests.clear()
    assert fetch(pictures.url(PUBLIC), domains=[PUBLIC]) == SEEN
    assert pictures.asked == ["/1.png"]
    assert proxy.requests == []
    assert "allowed domains" in fetch(pictures.url("localhost"), domains=[PUBLIC])["error"]


NOT_PUBLIC = "leads to an address that is not public"


@pytest.mark.parametrize(
    ("host", "error"),
    [
        *((host, NOT_PUBLIC) for host in ("localhost", INSIDE, "0x7f000001", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]")),
        *((host, "Invalid URL") for host in ("127.1", "2130706433", "0")),
    ],
)
def test_no_name_of_this_machine_leads_to_it(
    host: str, error: str, fetch: Fetch, pictures: Pictures, proxy: Proxy
) -> None:
    proxy.requests.clear()
    found = fetch(pictures.url(host), domains=[host, host.strip("[]")])
    assert found["type"] in ("VLLMValidationError", "VLLMUnprocessableEntityError"), "not a 4xx"
    assert error in found["error"]
    assert (pictures.asked, proxy.requests) == ([], [])


@pytest.mark.parametrize(
    ("target", "redirects", "outcome", "asked"),
    [
        (PUBLIC, None, "VLLM_MEDIA_URL_ALLOW_REDIRECTS", 1),
        (PUBLIC, "0", "VLLM_MEDIA_URL_ALLOW_REDIRECTS", 1),
        (PUBLIC, "1", SEEN, 2),
        (INSIDE, None, "VLLM_MEDIA_URL_ALLOW_REDIRECTS", 1),
        (INSIDE, "1", NOT_PUBLIC, 1),
        ("localhost", "1", NOT_PUBLIC, 1),
    ],
)
def test_a_redirect_leads_nowhere_else(
    target: str, redirects: str | None, outcome: Any, asked: int, fetch: Fetch, pictures: Pictures
) -> None:
    case = {"redirects": redirects} if redirects else {}
    found = fetch(pictures.url(PUBLIC, f"to/{target}"), domains=[PUBLIC], **case)
    assert found == outcome or outcome in found["error"]
    assert len(pictures.asked) == asked


@pytest.mark.parametrize("url", [data_url(RED), "data:image/png;base64,@@", "file:///etc/passwd"])
def test_what_needs_no_network(url: str, fetch: Fetch) -> None:
    found = fetch(url)
    if url == data_url(RED):
        assert found == SEEN
    else:
        assert "base64" in found["error"] or "--allowed-local-media-path" in found["error"]


def test_without_a_guard_nothing_is_fetched_at_all(fetch: Fetch, pictures: Pictures) -> None:
    """An aiohttp that cannot tell the address that it connects to."""
    found = fetch(pictures.url(PUBLIC), domains=[PUBLIC], aiohttp=False)
    assert "allowed-media-domains" in found["error"]
    assert pictures.asked == []
    assert fetch(data_url(RED), domains=[PUBLIC], aiohttp=False) == SEEN
