"""What Berth adds inside vLLM's API server, through the entry point group `vllm.endpoint_plugins`."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import berth_server
from berth_server import protocol

APIS = ("OpenAI",)
"""The completion APIs this server speaks. OpenAI's is vLLM's own."""

# The launcher asks these every second.
_POLLED = ("/health", "/metrics", "/berth/info")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class CloseWhileDraining:
    """Says `Connection: close` on every response while draining.

    Clients with pooled connections would go on using them until the process is gone, and lose requests then.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._flag = protocol.draining_flag(protocol.runtime_directory())

    def _draining(self) -> bool:
        # One stat per response; a flag in memory would miss vLLM's other API server processes.
        return os.path.exists(self._flag)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._draining():
                headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"]
                message["headers"] = [*headers, (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_closing)


def not_our_polling(record: logging.LogRecord) -> bool:
    """Filter for uvicorn's access log: leaves out what the launcher asks, and nothing else."""
    args = record.args
    if not isinstance(args, tuple) or len(args) != 5:
        return True
    client, path = str(args[0]), str(args[2])
    return not (path in _POLLED and client.startswith(("127.0.0.1:", "::1:")))


class BerthPlugin:
    """The endpoint plugin; vLLM calls this class without arguments."""

    name = "berth"
    required_tasks = None

    def __init__(self) -> None:
        self._app: Any = None
        self._info: dict[str, Any] = {}

    def attach_router(self, app: Any) -> None:
        """Adds GET /berth/info."""
        self._app = app

        async def info() -> dict[str, Any]:
            return self._info

        app.add_api_route("/berth/info", info, methods=["GET"], include_in_schema=False)

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Runs once all of vLLM's middleware is in place: ours goes outside of it, so that refusals close too."""
        from vllm import __version__ as vllm_version

        names = args.served_model_name or [args.model]
        self._info.update(berth=berth_server.__version__, vllm=vllm_version, apis=list(APIS), model=names[0])
        if self._app.middleware_stack is None:
            self._app.add_middleware(CloseWhileDraining)
        else:
            # Some releases of vLLM have built the stack by now, and Starlette then takes no more.
            self._app.middleware_stack = CloseWhileDraining(self._app.middleware_stack)
        logging.getLogger("uvicorn.access").addFilter(not_our_polling)
