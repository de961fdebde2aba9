"""Runs calls of a client library, in the environment that has it, and tells what each came to.

    python -P play.py MODULE...      reads one JSON string a line, a Python expression over the names of the modules

and writes one JSON line for each: {"kind": "returned", "value"} or {"kind": "yielded", "items"} or {"kind": "raised",
"type", "bases", "message"} with "items_before_error". Objects are dicts with their class's name under `__class__`.
Awaitables are awaited, iterators are read to their end; `within` is for clients that want to be closed.
"""

import asyncio
import contextlib
import dataclasses
import enum
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any


@dataclasses.dataclass
class Within:
    """A call of an asynchronous client that is open for as long as it takes."""

    client: AbstractAsyncContextManager[Any]
    call: Callable[[Any], Any]


def main(modules: list[str]) -> None:
    results = sys.stdout
    names: dict[str, Any] = {"within": Within, "os": os}
    with contextlib.redirect_stdout(sys.stderr):
        for module in modules:
            names.update(vars(importlib.import_module(module)))
        for line in sys.stdin:
            print(json.dumps(asyncio.run(outcome(json.loads(line), names))), file=results, flush=True)


async def outcome(call: str, names: dict[str, Any]) -> dict[str, Any]:
    items: list[Any] = []
    try:
        value = await finished(eval(call, names), items)
        if value is items:
            return {"kind": "yielded", "items": [plain(item) for item in items]}
        return {"kind": "returned", "value": plain(value)}
    except Exception as error:
        return raised(error) | ({"items_before_error": [plain(item) for item in items]} if items else {})


async def finished(value: Any, items: list[Any]) -> Any:
    """What a call came to; `items` itself when it was a stream: filled one by one, because an error may follow."""
    if isinstance(value, Within):
        async with value.client as client:
            return await finished(value.call(client), items)
    if inspect.isawaitable(value):
        value = await value
    if hasattr(value, "__aiter__"):
        async for item in value:
            items.append(item)
        return items
    if hasattr(value, "__next__"):
        for item in value:
            items.append(item)
        return items
    return value


def raised(error: Exception) -> dict[str, Any]:
    kind = type(error)
    try:
        message = str(error)
    except Exception as second:
        message = f"(str() of the exception itself fails: {type(second).__name__}: {second})"
    return {
        "kind": "raised",
        "type": f"{kind.__module__}.{kind.__qualname__}",
        "bases": [base.__name__ for base in kind.__mro__[1:-1]],
        "message": message,
    }


def plain(value: Any) -> Any:
    """As JSON. Fields of pydantic's objects have no class of their own, those of dataclasses do."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    name = {"__class__": type(value).__name__}
    if dataclasses.is_dataclass(value):
        return name | {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return name | {key: plain(item) for key, item in value._asdict().items()}
    if hasattr(value, "model_dump"):
        return name | {key: plain(item) for key, item in value.model_dump().items()}
    if hasattr(value, "dict") and hasattr(value, "__fields__"):
        return name | {key: plain(item) for key, item in value.dict().items()}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return repr(value)


if __name__ == "__main__":
    main(sys.argv[1:])
