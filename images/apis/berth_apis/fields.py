"""Parameters of requests and fields of answers as tables, from which both the checks and docs/apis.md are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from berth_apis.http import Object, refused

PASSES = "passes"
TRANSLATES = "translates"
EMULATES = "emulates"
IGNORES = "accepts, no effect"
REFUSES = "refuses"


@dataclass(frozen=True)
class Parameter:
    """A key of a request body. kind: one of KINDS.  does: PASSES and so on.  how: a sentence for the docs."""

    name: str
    kind: str
    does: str
    how: str
    required: bool = False
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Field:
    """A key of an answer. how: where it comes from, for the docs."""

    name: str
    how: str


_MOST = 1e300
_MOST_TOKEN_ID = 2**31 - 1


def _integer(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


def _number(value: Any) -> bool:
    # No float is as large as some of JSON's integers.
    return isinstance(value, int | float) and not isinstance(value, bool) and -_MOST <= value <= _MOST


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _token_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= _MOST_TOKEN_ID for item in value)


KINDS: dict[str, Callable[[Any], bool]] = {
    "a string": lambda value: isinstance(value, str),
    "an integer": _integer,
    "a number": _number,
    "true or false": lambda value: isinstance(value, bool),
    "a list": lambda value: isinstance(value, list),
    "a list of strings": _strings,
    "a list of token ids": _token_ids,
    "an object": lambda value: isinstance(value, dict),
    "a string or a list": lambda value: isinstance(value, str | list),
    "an object or a string": lambda value: isinstance(value, dict | str),
    "anything": lambda value: True,
}


def read(parameters: Iterable[Parameter], body: Object, where: str = "") -> Object:
    """The values of a body by name, without those that are null. Raises Refused, naming the parameter.

    An unknown key is refused unless its value is empty (false, 0, "", …): a newer client may send the off-state of
    something that this version does not know, but nothing that is asked for is silently dropped.
    """
    known = {parameter.name: parameter for parameter in parameters}
    values = {}
    for name, value in body.items():
        if value is None:
            continue
        parameter = known.get(name)
        if parameter is None:
            if value:
                raise refused(f"{where}{name[:100]}: Berth does not know this parameter. Remove it.")
            continue
        values[name] = _checked(parameter, value, where)
    for parameter in known.values():
        if parameter.required and parameter.name not in values:
            raise refused(f"{where}{parameter.name} is missing. It must be {parameter.kind}.")
    return values


def _checked(parameter: Parameter, value: Any, where: str) -> Any:
    name = where + parameter.name
    if not KINDS[parameter.kind](value):
        raise refused(f"{name} must be {parameter.kind}, not {_kind_of(value)}.")
    if parameter.kind in ("an integer", "a number"):
        if not parameter.low <= value <= parameter.high:
            raise refused(f"{name} must be {_range(parameter)}, not {value}.")
        return int(value) if parameter.kind == "an integer" else value
    return value


def _range(parameter: Parameter) -> str:
    if parameter.high == math.inf:
        return f"at least {parameter.low:g}"
    return f"between {parameter.low:g} and {parameter.high:g}"


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    names: dict[type, str] = {str: "a string", list: "this list", dict: "an object"}
    return names.get(type(value), "this number")
