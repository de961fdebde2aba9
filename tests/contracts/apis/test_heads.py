"""The heads of answers of the real server, as the gateway reads them and as the gateway's benchmark plays them."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from berth_gateway import http1
from tests.bench.gateway import programs
from tests.bench.gateway.processes import Cores
from tests.bench.gateway.proxies import Site
from tests.contracts.apis.conftest import NAMES, Endpoint
from tests.contracts.apis.test_requests import VALID

COMPLETION = {"model": NAMES[0], "prompt": "Hello", "max_tokens": 2}
OPEN_AI: list[tuple[str, Any]] = [("/v1/completions", COMPLETION), ("/v1/completions", COMPLETION | {"stream": True})]


def head_of(url: str, key: str, path: str, body: Any) -> bytes:
    """The head of an answer, byte for byte."""
    at = urlsplit(url)
    content = json.dumps(body, separators=(",", ":")).encode()
    lines = (f"POST {path} HTTP/1.1", f"host: {at.netloc}", f"x-api-key: {key}", f"content-length: {len(content)}")
    with socket.create_connection((at.hostname, at.port), timeout=120) as connection:
        connection.sendall("\r\n".join([*lines, "content-type: application/json", "", ""]).encode() + content)
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = connection.recv(65536)
            assert part, answer
            answer += part
    return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


@pytest.mark.parametrize(("path", "body"), [*OPEN_AI, *VALID])
def test_what_the_server_sends_is_read_at_a_glance(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, path: str, body: Any
) -> None:
    head = head_of(endpoint.url, endpoint.key, path, body)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    monkeypatch.delattr(http1, "_read_head")
    found = http1.read_head(head, 0, False)
    assert found is not None
    assert found[1] == len(head)


def constant(head: bytes) -> bytes:
    """A head without what differs from answer to answer."""
    return re.sub(rb"(?<=\r\ndate: )[^\r]*|(?<=\r\ncontent-length: )[0-9]*", b"", head)


@pytest.mark.parametrize(("path", "body"), OPEN_AI, ids=["whole", "streamed"])
def test_the_benchmark_plays_the_heads_of_the_real_server(
    endpoint: Endpoint, tmp_path: Path, path: str, body: Any
) -> None:
    core = min(os.sched_getaffinity(0))
    with Site(programs.built(), Cores(core, core), tmp_path).stub_running() as stub:
        played = head_of(f"http://{stub.targets[0]}", "", path, body | {"events": 1, "gap_ms": 1})
    assert constant(played) == constant(head_of(endpoint.url, endpoint.key, path, body))
