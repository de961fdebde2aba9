"""The plugin's middleware and log filter, without vLLM."""

import logging
from pathlib import Path
from typing import Any

import pytest

from berth_server import plugin


async def respond(scope: Any, receive: Any, send: Any) -> None:
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"Connection", b"keep-alive"), (b"x", b"y")]}
    )
    await send({"type": "http.response.body", "body": b"z"})


async def sent(app: plugin.Application, kind: str = "http") -> list[Any]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing to receive")

    await app({"type": kind}, receive, send)
    return messages


async def test_closes_connections_only_while_the_flag_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("berth_server.protocol.runtime_directory", lambda: str(tmp_path))
    app = plugin.CloseWhileDraining(respond)
    before = await sent(app)
    assert before[0]["headers"] == [(b"Connection", b"keep-alive"), (b"x", b"y")]
    (tmp_path / "draining").touch()
    during = await sent(app)
    assert during[0]["headers"] == [(b"x", b"y"), (b"connection", b"close")]
    assert during[1] == before[1]
    assert (await sent(app, kind="websocket"))[0]["headers"] == [(b"Connection", b"keep-alive"), (b"x", b"y")]


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
