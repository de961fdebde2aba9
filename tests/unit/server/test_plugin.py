"""The plugin's middleware and log filter, without vLLM."""

import logging

import pytest

from berth_server import plugin


@pytest.mark.parametrize(
    ("client", "path", "kept"),
    [
        ("127.0.0.1:4000", "/health", False),
        ("127.0.0.1:4000", "/metrics", False),
        ("127.0.0.1:4000", "/v1/completions", True),
        ("10.0.0.7:4000", "/metrics", True),
    ],
)
def test_the_access_log_leaves_out_the_launchers_polling_alone(client: str, path: str, kept: bool) -> None:
    args = (client, "GET", path, "1.1", 200)
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d', args, None)
    assert plugin.not_our_polling(record) is kept
