"""What Berth adds inside vLLM's API server, through the entry point group `vllm.endpoint_plugins`."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

import berth_apis
import berth_server
from berth_apis.http import Serving
from berth_server import keys, media, tokenizer
from berth_server.accounts import Accounts
from berth_server.closing import CloseWhileDraining, close_idle
from berth_server.dialects import Dialects

ALL_APIS = tuple(dialect.NAME for dialect in berth_apis.DIALECTS)
"""The completion APIs this server can speak. OpenAI's is vLLM's own."""

APIS_VARIABLE = "BERTH_APIS"
"""Those that it shall speak, with commas; all when it is absent."""
ACCOUNT_VARIABLE = "BERTH_REQUIRE_ACCOUNT"
"""Set: requests need an account, where an API has accounts."""

# The launcher asks these every second.
_POLLED = ("/health", "/metrics", "/berth/info")


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
        self._tokenizer_file: str | None = None
        self._closing: asyncio.Task[None] | None = None

    def attach_router(self, app: Any) -> None:
        """Adds GET /berth/info and /berth/tokenizer."""
        self._app = app

        async def info() -> dict[str, Any]:
            return self._info

        app.add_api_route("/berth/info", info, methods=["GET"], include_in_schema=False)
        tokenizer.attach(app, lambda: self._tokenizer_file)

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Runs once all of vLLM's middleware is in place: ours goes outside of it, so that refusals close too."""
        from vllm import __version__ as vllm_version

        names = args.served_model_name or [args.model]
        apis = tuple(os.environ.get(APIS_VARIABLE, ",".join(ALL_APIS)).split(","))
        self._info.update(berth=berth_server.__version__, vllm=vllm_version, apis=list(apis), model=names[0])
        self._info["max_num_seqs"] = engine_client.vllm_config.scheduler_config.max_num_seqs
        self._tokenizer_file = tokenizer.file_of(args)
        await media.guard(engine_client.model_config)
        serving = Serving(
            models=(),
            clock=time.time,
            require_account=bool(os.environ.get(ACCOUNT_VARIABLE)),
            count=Accounts().count,
            special_tokens=tokenizer.special_tokens(self._tokenizer_file),
            images=engine_client.model_config.is_multimodal_model,
        )
        dialects = {
            "enabled": apis,
            "serving": serving,
            "launcher_key": os.environ.get(keys.LAUNCHER_VARIABLE, ""),
        }
        inside_out = [(Dialects, dialects), *keys.layer(os.environ, apis), (CloseWhileDraining, {})]
        for middleware, options in inside_out:
            if self._app.middleware_stack is None:
                self._app.add_middleware(middleware, **options)
            else:
                # Some releases of vLLM have built the stack by now, and Starlette then takes no more.
                self._app.middleware_stack = middleware(self._app.middleware_stack, **options)
        logging.getLogger("uvicorn.access").addFilter(not_our_polling)
        self._closing = asyncio.create_task(close_idle(state))
