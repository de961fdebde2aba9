"""Who may ask: every request but those to /health needs a key of the mounted Secret, whatever API or route it is for.

vLLM's own --api-key guards four prefixes and leaves the rest open, so this goes around all of vLLM. Keys are kept and
compared as SHA-256 digests; none is ever in a log, an answer or an error.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import berth_apis
from berth_apis import http
from berth_apis.credentials import digest, matches, presented
from berth_server.closing import Application, Message, Receive, Send
from berth_server.protocol import Failure

DIRECTORY_VARIABLE = "BERTH_KEYS_DIR"
"""Where the Secret is mounted. Set, even if to nothing: keys are needed."""
LAUNCHER_VARIABLE = "BERTH_LAUNCHER_KEY"
"""The launcher's own key, made at each start: it asks whatever becomes of the Secret, and whatever APIs are served."""

OPEN_PATHS = ("/health",)
LOOK_SECONDS = 1.0
# Of a request that is refused: of a larger body the beginning, which no API can read.
_MOST_BODY_BYTES = 1024 * 1024


def read(directory: str) -> frozenset[bytes]:
    """Digests of all keys: each line of each entry of the Secret, without whitespace around it. Raises OSError."""
    try:
        return _read(directory)
    except FileNotFoundError:
        # The kubelet has just put the next version of the Secret in place of the one being read.
        return _read(directory)


def _read(directory: str) -> frozenset[bytes]:
    data = os.path.join(directory, "..data")
    # Behind this link of the kubelet's all entries are of one version.
    current = os.path.realpath(data) if os.path.lexists(data) else directory
    found: set[bytes] = set()
    for name in os.listdir(current):
        with open(os.path.join(current, name), "rb") as file:
            found.update(digest(line.strip()) for line in file.read().splitlines() if line.strip())
    return frozenset(found)


def check(env: Mapping[str, str]) -> None:
    """Raises Failure when keys are needed and there is none: the server would answer nobody."""
    if DIRECTORY_VARIABLE not in env:
        return
    try:
        why = "" if read(env[DIRECTORY_VARIABLE]) else "has no key in it"
    except OSError as error:
        why = f"cannot be read by uid {os.getuid()}: {error.strerror}"
    if why:
        raise Failure("KeysMissing", f"The Secret of spec.server.apiKeySecretRef {why}.")


class Keys:
    """ASGI middleware for HTTP and websockets. Looks at the Secret again every LOOK_SECONDS that it is used.

    directory: of the mounted Secret; unreadable or without a key: nobody is admitted.  own: the launcher's key.
    apis: those that are served, for the shape of a refusal.  now: monotonic seconds.
    """

    def __init__(
        self,
        app: Application,
        directory: str,
        own: str = "",
        apis: Collection[str] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._directory = directory
        self._own = {digest(own.encode())} if own else set()
        self._apis = apis
        self._now = now
        self._looked_at = float("-inf")
        self._digests: frozenset[bytes] | None = None
        self._why = ""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in OPEN_PATHS):
            await self._app(scope, receive, send)
            return
        self._look()
        if matches(presented(scope["headers"]), {*(self._digests or ()), *self._own}):
            await self._app(scope, receive, send)
        elif self._digests:
            message = "A key is needed: send one as x-api-key, as Authorization: Bearer, or as the user name of Basic."
            await self._refuse(scope, receive, send, http.Failure(401, message))
        else:
            await self._refuse(scope, receive, send, http.Failure(503, self._why))

    def _look(self) -> None:
        now = self._now()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            digests, why = read(self._directory), "has no key in it"
        except OSError as error:
            digests, why = frozenset[bytes](), f"cannot be read: {error.strerror}"
        self._why = f"Nobody is admitted: the Secret of spec.server.apiKeySecretRef {why}."
        if digests != self._digests and (self._digests is not None or not digests):
            text = f"The keys have changed: there are {len(digests)} now." if digests else self._why
            print(f"(berth) {text}", file=sys.stderr, flush=True)
        self._digests = digests

    async def _refuse(self, scope: Message, receive: Receive, send: Send, failure: http.Failure) -> None:
        dialect, path = berth_apis.claimant(scope["path"], self._apis)
        kind, body = "http.response", b""
        if scope["type"] == "http":
            body = await _body(receive)
        else:
            await receive()
            kind = "websocket.http.response"
            if kind not in (scope.get("extensions") or {}):
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
                return
        # Without the headers, which may have a key in them.
        answer = dialect.failure(failure, http.Request(scope.get("method", "GET"), path, {}, {}, body))
        more = [("WWW-Authenticate", "Bearer")] if failure.status == 401 else []
        headers = [
            ("content-type", answer.content_type),
            ("content-length", str(len(answer.body))),
            *answer.headers,
            *more,
        ]
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
        await send({"type": f"{kind}.start", "status": answer.status, "headers": encoded})
        await send({"type": f"{kind}.body", "body": answer.body})


async def _body(receive: Receive) -> bytes:
    """A refused request's body: only there some clients say that they want a stream, and how errors reach them."""
    parts, size, more = [], 0, True
    while more and size <= _MOST_BODY_BYTES:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
    return b"".join(parts)


def layer(env: Mapping[str, str], apis: Collection[str]) -> list[tuple[Callable[..., Any], dict[str, Any]]]:
    """The middleware and its options, or nothing where no keys are needed."""
    if DIRECTORY_VARIABLE not in env:
        return []
    return [(Keys, {"directory": env[DIRECTORY_VARIABLE], "own": env.get(LAUNCHER_VARIABLE, ""), "apis": apis})]
