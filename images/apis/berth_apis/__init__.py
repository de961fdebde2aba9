"""The completion APIs that Berth speaks besides the engine's own, as pure functions from requests to requests.

An API is one module with the same few names: NAME, below, ROUTES, failure, and PARAMETERS (by where they are in a
body), ANSWER and OPERATIONS for the docs. The first one that claims a path has it.
"""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType

from berth_apis import aleph_alpha, llm_engine, open_ai, scale_egp
from berth_apis.http import Answer, Handler, Operation, Refused, Request, Routes, Serving, Streaming, refused

DIALECTS: tuple[ModuleType, ...] = (
    llm_engine,
    scale_egp,
    aleph_alpha,
    open_ai,
)


def claimant(path: str, enabled: Collection[str]) -> tuple[ModuleType, str]:
    """The API whose path this is, and the path below its prefix. An API that is not enabled claims nothing."""
    for dialect in DIALECTS:
        rest = dialect.below(path) if dialect.NAME in enabled or dialect is open_ai else None
        if rest is not None:
            return dialect, rest
    raise AssertionError("OpenAI claims every path")


def operate(dialect: ModuleType, request: Request, serving: Serving) -> Operation:
    """The operation that a request asks for. Whatever is wrong with it is an answer in that API's shape."""
    try:
        result = _handler(dialect, request)(request, serving)
        if isinstance(result, Answer | Streaming):
            return result
        found: Answer | Streaming = yield from result
        return found
    except Refused as refusal:
        answer: Answer = dialect.failure(refusal.failure, request)
        return answer


def _handler(dialect: ModuleType, request: Request) -> Handler:
    routes: Routes = dialect.ROUTES
    for method, path, handler in routes:
        if method in (request.method, "*") and path.fullmatch(request.path):
            return handler
    raise refused(f"{dialect.NAME} has no {request.method} {request.path[:200]} here.", 404, "NOT_FOUND")
