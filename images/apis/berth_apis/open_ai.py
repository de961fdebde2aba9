"""OpenAI: the engine's own API, which passes untouched. Here is only the shape of its errors."""

from __future__ import annotations

from berth_apis.http import Answer, Failure, Request, answer, retry_after

NAME = "OpenAI"

_TYPES = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 503: "ServiceUnavailableError"}


def below(path: str) -> str | None:
    """Every path that no other API claims."""
    return path


def failure(failure: Failure, request: Request) -> Answer:
    """{"error": {"message", "type", "param", "code"}}."""
    kind = _TYPES.get(failure.status, "InternalServerError" if failure.status >= 500 else "BadRequestError")
    error = {"message": failure.message, "type": kind, "param": None, "code": failure.status}
    return answer({"error": error}, failure.status, retry_after(failure))
