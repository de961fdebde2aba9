"""Aleph Alpha's prompts: texts, token ids and images, alone or mixed, as what the engine reads."""

from __future__ import annotations

import base64
import re
from collections.abc import Generator
from typing import Any

from berth_apis import engine
from berth_apis.fields import PASSES, REFUSES, TRANSLATES, Parameter, read
from berth_apis.http import Call, Object, Reply, refused

NO_CONTROL = "Attention control is not available with this server. Leave it out."
NO_CROP = "This server does not crop images. Crop it before, and leave x, y and size out."

_COMMON = (
    Parameter("type", "a string", TRANSLATES, "`text`, `token_ids` or `image`", required=True),
    Parameter("controls", "a list", REFUSES, "400 unless empty or missing"),
)

_ITEMS = {
    "text": (
        *_COMMON,
        Parameter("data", "a string", TRANSLATES, "one text passes; of several items each is tokenized", required=True),
    ),
    "token_ids": (
        *_COMMON,
        Parameter("data", "a list of token ids", PASSES, "joined with those of the other items", required=True),
    ),
    "image": (
        *_COMMON,
        Parameter("data", "a string", TRANSLATES, "base64 of a file; part of a chat message", required=True),
        Parameter("x", "an integer", REFUSES, "400: crop before"),
        Parameter("y", "an integer", REFUSES, "400: crop before"),
        Parameter("size", "an integer", REFUSES, "400: crop before"),
    ),
}

PARAMETERS = {f"prompt[] of type {kind}: ": parameters for kind, parameters in _ITEMS.items()}

ATTENTION = (
    Parameter("contextual_control_threshold", "a number", REFUSES, "400: no attention control"),
    Parameter("control_log_additive", "true or false", REFUSES, "400 unless true: no attention control"),
)

_MEDIA_TYPES = (
    ("png", rb"\x89PNG\r\n\x1a\n"),
    ("jpeg", rb"\xff\xd8\xff"),
    ("gif", rb"GIF8[79]a"),
    ("webp", rb"RIFF.{4}WEBP"),
    ("bmp", rb"BM"),
)


def items_of(prompt: Any) -> list[Object]:
    """The items of a prompt that say anything: `type` and `data`, that of an image as a URL. Raises Refused."""
    if isinstance(prompt, str):
        prompt = [{"type": "text", "data": prompt}]
    found = [_item(item, f"prompt[{number}]") for number, item in enumerate(prompt)]
    return [item for item in found if item["data"]]


def _item(item: Any, where: str) -> Object:
    if not isinstance(item, dict):
        raise refused(f"{where} must be an object with a type and data.")
    kind = item.get("type")
    if not isinstance(kind, str) or kind not in _ITEMS:
        raise refused(f"{where}.type must be text, token_ids or image.")
    values = read(_ITEMS[kind], item, f"{where}.")
    if values.get("controls"):
        raise refused(f"{where}.controls: {NO_CONTROL}")
    if kind != "image":
        return {"type": kind, "data": values["data"]}
    if values.keys() & {"x", "y", "size"}:
        raise refused(f"{where}: {NO_CROP}")
    return {"type": kind, "data": _url(values["data"], where)}


def _url(data: str, where: str) -> str:
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError as error:
        raise refused(f"{where}.data must be the base64 of an image file: {error}.") from error
    for name, start in _MEDIA_TYPES:
        if re.match(start, content, re.DOTALL):
            return f"data:image/{name};base64,{data}"
    raise refused(f"{where}.data must be the base64 of a PNG, JPEG, GIF, WebP or BMP file.")


def has_image(items: list[Object]) -> bool:
    """Whether only a chat can take them."""
    return any(item["type"] == "image" for item in items)


def messages(items: list[Object]) -> list[Object]:
    """One message of the user with the texts and images in their order. Raises Refused."""
    if any(item["type"] == "token_ids" for item in items):
        raise refused("prompt: token ids and images cannot be in one prompt. Use texts and images.")
    parts = [
        {"type": "text", "text": item["data"]}
        if item["type"] == "text"
        else {"type": "image_url", "image_url": {"url": item["data"]}}
        for item in items
    ]
    return [{"role": "user", "content": parts}]


def for_engine(items: list[Object], model: str, context_tokens: int) -> Generator[Call, Reply, str | list[int]]:
    """The text or the token ids of a prompt without images; to be used with `yield from`. Raises Refused."""
    if len(items) == 1 and items[0]["type"] == "text":
        return str(items[0]["data"])
    return (yield from token_ids(items, model, context_tokens))


def token_ids(items: list[Object], model: str, context_tokens: int) -> Generator[Call, Reply, list[int]]:
    """The token ids of a prompt without images, that of an empty one included. Raises Refused."""
    if len(items) > context_tokens:
        raise refused(f"prompt: {len(items)} items are more than the {context_tokens} tokens of the model's context.")
    if not items:
        found = yield from engine.tokenized("", model)
        if not found:
            raise refused("prompt: this model has no token for the beginning of a text, so the prompt needs something.")
        return found
    found = []
    for number, item in enumerate(items):
        if item["type"] == "token_ids":
            found += item["data"]
        else:
            found += yield from engine.tokenized(item["data"], model, special=number == 0)
    return found
