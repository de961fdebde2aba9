"""What can go wrong between Berth and the API server.

ApiError                  the API server answered with an error
├── NotFound              404
├── Conflict              409
├── Invalid               400, 422, and the 500 of an unknown field in an apply: the manifest is wrong
├── Forbidden             403, and the 500 of an admission webhook that does not answer
│   └── NamespaceTerminating
├── Unauthorized          401
├── Gone                  410: a watch or a page of a list has expired, only a new list helps
└── Busy                  429 and 5xx: try again later
Unreachable               no answer: connection, TLS or timeout
NotLeading                a write that was not sent: the Lease is not, or no longer, ours
"""

from typing import Any


class ApiError(Exception):
    """The API server answered with an error. `message` is its own text, `retry_after_seconds` its wish or None."""

    def __init__(self, status: int, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class NotFound(ApiError):
    """The object, or the kind itself, does not exist."""


class Conflict(ApiError):
    """The object changed in between, or another field manager owns a field."""


class Invalid(ApiError):
    """The API server refuses the manifest whatever the moment: retrying without a change is useless."""


class Forbidden(ApiError):
    """Berth lacks a permission, or a policy or quota refuses."""


class NamespaceTerminating(Forbidden):
    """Nothing can be created any more: the namespace is going away, and its objects with it."""


class Unauthorized(ApiError):
    """The token is not valid any more."""


class Gone(ApiError):
    """A watch or a page of a list has expired: only a new list helps."""


class Busy(ApiError):
    """The API server cannot answer now."""


class Unreachable(Exception):
    """No answer from the API server."""


class NotLeading(Exception):
    """The Lease may belong to another operator: the write was not sent."""


# An apply with a field that the kind does not have comes back as a plain 500 with one of these texts.
_TYPED_PATCH = ("failed to create typed patch object", "field not declared in schema")
_SEVERAL = "errors:\n"

_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: Busy,
}


def api_error(status: int, body: Any, retry_after: str | None = None) -> ApiError:
    """The typed error for an answer: HTTP status, decoded `Status` object or text, Retry-After header."""
    message = _message(body) if isinstance(body, dict) else str(body)
    delay = float(retry_after) if retry_after and retry_after.isdigit() else None
    if status == 403:
        causes = (body.get("details") or {}).get("causes") or [] if isinstance(body, dict) else []
        terminating = any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
        return (NamespaceTerminating if terminating else Forbidden)(status, message, delay)
    if status == 500 and "failed calling webhook" in message:
        return Forbidden(status, message, delay)
    if status == 500 and any(text in message for text in _TYPED_PATCH):
        return Invalid(status, message, delay)
    kind = _BY_STATUS.get(status, Busy if status >= 500 else ApiError)
    return kind(status, message, delay)


def _message(status: dict[str, Any]) -> str:
    """The API server's text. Of several causes it tells them in any order, each time in another: here always in one.

    Status holds the message, and is written whenever it changes.
    """
    message = str(status.get("message", status))
    if _SEVERAL in message:  # of a typed patch, one a line
        head, _, lines = message.partition(_SEVERAL)
        return head + _SEVERAL + "\n".join(sorted(lines.splitlines()))
    causes = (status.get("details") or {}).get("causes") or []
    if len(causes) > 1 and " is invalid: [" in message:
        told = {f"{cause.get('field')}: {cause.get('message')}" for cause in causes}
        return f"{message.partition('[')[0]}[{', '.join(sorted(told))}]"
    return message
