"""The served model's `tokenizer.json`: some clients want it, and it names the special tokens."""

from __future__ import annotations

import json
import os
from typing import Any

PATH = "/berth/tokenizer"


def file_of(args: Any) -> str | None:
    """Where it lies, by vLLM's arguments; None when the tokenizer is of another kind, or not on this disk."""
    path = os.path.join(args.tokenizer or args.model, "tokenizer.json")
    return path if os.path.isfile(path) else None


def special_tokens(path: str | None) -> tuple[str, ...]:
    """What the special tokens read as in a text. Empty when they are not known."""
    if path is None:
        return ()
    try:
        with open(path, encoding="utf-8") as file:
            added = json.load(file).get("added_tokens") or ()
    except (OSError, ValueError):
        return ()
    return tuple(token["content"] for token in added if token.get("special") and token.get("content"))


def attach(app: Any, where: Any) -> None:
    """Adds GET /berth/tokenizer. where: asked for the file at each request."""
    from starlette.responses import FileResponse, JSONResponse

    async def tokenizer() -> Any:
        path = where()
        if path is None:
            return JSONResponse({"error": "The model has no tokenizer.json: its tokenizer is of another kind."}, 404)
        return FileResponse(path, media_type="application/json")

    app.add_api_route(PATH, tokenizer, methods=["GET"], include_in_schema=False, response_model=None)
