"""What the dialects read and answer: HTTP as values, without any input or output."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

JSON = "application/json"
EVENT_STREAM = "text/event-stream"

Object = dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """Why a request is not answered as asked. status: of HTTP.  message: for a person.  code: the word of some APIs."""

    status: int
    message: str
    retry_after_seconds: int | None = None
    code: str = ""


class Refused(Exception):
    """Ends an operation with a failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def refused(message: str, status: int = 400, code: str = "") -> Refused:
    """The exception for a request that cannot be served as it is."""
    return Refused(Failure(status, message, code=code))


@dataclass(frozen=True)
class Request:
    """A client's request. path: below the API's own prefix, with a leading slash.  headers: names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def object(self) -> Object:
        """The body as a JSON object. Raises Refused."""
        try:
            found = json.loads(self.body.decode(), parse_constant=_no_constant, parse_int=_integer, parse_float=_float)
            if _SURROGATE.search(self.body):
                json.dumps(found, ensure_ascii=False).encode()
        except (UnicodeDecodeError, UnicodeEncodeError) as error:
            raise refused(f"The body has what is no Unicode text: {error.reason}.") from error
        except (ValueError, RecursionError) as error:
            raise refused(f"The body is not JSON: {error}.") from error
        if not isinstance(found, dict):
            raise refused(f"The body must be a JSON object, not {type(found).__name__}.")
        return found


# Half of a character by itself, on which vLLM fails with a 500, is written as one that is whole begins or ends.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


def _integer(word: str) -> int:
    if len(word) > _MOST_DIGITS:
        raise ValueError(f"{word[:_MOST_DIGITS]}… is too large a number")
    return int(word)


def _float(word: str) -> float:
    value = float(word)
    if math.isinf(value):
        raise ValueError(f"{word[:_MOST_DIGITS]} is too large a number")
    return value


# Of 64 bits with a sign; on more vLLM fails with a 500.
_MOST_DIGITS = 20


@dataclass(frozen=True)
class Answer:
    """What the client gets, whole."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Call:
    """A question to the engine, in the OpenAI API that it speaks."""

    method: str
    path: str
    json: Object | None = None


@dataclass(frozen=True)
class Reply:
    """The engine's answer to a Call."""

    status: int
    body: bytes


class Translator(Protocol):
    """Turns the events of one streamed answer of the engine into bytes for the client."""

    def chunk(self, chunk: Object) -> bytes:
        """One event of the engine."""

    def end(self) -> bytes:
        """The engine has said all."""

    def failure(self, failure: Failure) -> bytes:
        """It went wrong after the client was told 200."""


@dataclass(frozen=True)
class Streaming:
    """An answer whose rest is a stream of the engine."""

    call: Call
    translator: Translator


def uncounted(account: str, prompt_tokens: int, completion_tokens: int) -> None:
    """Usage that nobody wants to know."""


@dataclass(frozen=True)
class Serving:
    """What is served. models: the entries of the engine's /v1/models.  clock: seconds since 1970.

    count: told the account (may be empty), prompt tokens and completion tokens of each completion, where APIs have
    accounts.  special_tokens: what the model's special tokens read as.  images: whether the model takes them.
    """

    models: tuple[Object, ...]
    clock: Callable[[], float]
    require_account: bool = False
    count: Callable[[str, int, int], None] = uncounted
    special_tokens: tuple[str, ...] = ()
    images: bool = False

    def model(self, name: str) -> Object | None:
        """The model with this served name."""
        return next((model for model in self.models if model["id"] == name), None)

    def context_tokens(self, name: str) -> int:
        """The longest context of a model, prompt and completion together. Raises Refused when it is not served."""
        model = self.model(name)
        if model is None:
            raise refused(f"The model {name[:100]!r} is not served here.", 404, "UNKNOWN_MODEL")
        own = model.get("max_model_len")  # an adapter has its base model's
        return int(own or max(model.get("max_model_len") or 0 for model in self.models))


Result = Answer | Streaming

Operation = Generator[Call, Reply, Result]
"""One call of an API that asks the engine: yields Calls, is sent Replies, returns the result. Raises Refused."""

Handler = Callable[[Request, Serving], Result | Operation]

Routes = tuple[tuple[str, re.Pattern[str], Handler], ...]
"""The calls of an API: method, or * for any, path below the prefix, and what answers it. The first that fits does."""


def dump(value: Any) -> bytes:
    """JSON on one line and in ASCII: some clients take U+2028 and its like for line ends."""
    return json.dumps(value, separators=(",", ":")).encode()


def event(value: Any) -> bytes:
    """An event of a stream."""
    return b"data: " + dump(value) + b"\n\n"


def answer(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """A JSON answer."""
    return Answer(status, dump(value), headers=headers)


def retry_after(failure: Failure) -> tuple[tuple[str, str], ...]:
    """The headers that a failure brings along."""
    return (("Retry-After", str(failure.retry_after_seconds)),) if failure.retry_after_seconds is not None else ()
