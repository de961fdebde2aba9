"""What the API server holds of one kind: a list, then a watch from there, again and again.

Each watch is a task of its own, and nothing that happens to it ends it or another one. What it has delivered stays
until the API server says otherwise: while nobody answers, the gateway serves what it knew.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp
import orjson
import structlog

from berth_gateway.connection import Connection

Object = dict[str, Any]
Name = tuple[str, str]

TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
# The API server sends a bookmark every minute: a stream that is silent for longer is dead.
SILENT_SECONDS = 70.0
TOKEN_SECONDS = 60.0
PAGE = 500
FIRST_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 12.0
# Permissions and kinds come by somebody's hand.
FORBIDDEN_SECONDS = 30.0
NO_KIND_SECONDS = 5.0
# A restart of the API server is over by then.
WORTH_TELLING = (3, 30)

log = structlog.get_logger()


class Kind(NamedTuple):
    """A kind of which objects are watched: group ("" for core), version, plural, and the labels that they must have."""

    group: str
    version: str
    plural: str
    labels: str = ""

    @property
    def name(self) -> str:
        """As permissions spell it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str) -> str:
        """URL path of the collection; namespace "": of all namespaces."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" if namespace else f"{root}/{self.plural}"


class ApiError(Exception):
    """The API server answered with an error. verb: list or watch.  retry_after_seconds: its wish, 0 for none."""

    def __init__(self, verb: str, status: int, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(f"{status}: {message}")
        self.verb = verb
        self.status = status
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class Unreachable(Exception):
    """No answer from the API server: connection, TLS or timeout."""


class Api:
    """The API server, to be listed and watched. Created in a running event loop. clock: monotonic seconds."""

    def __init__(self, connection: Connection, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._token, self._token_at = "", float("-inf")
        connector = aiohttp.TCPConnector(limit=0, ssl=connection.tls or True)
        self._session = aiohttp.ClientSession(connector=connector, timeout=TIMEOUT)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def pages(self, kind: Kind, namespace: str) -> AsyncIterator[tuple[list[Object], str]]:
        """Objects, page by page, each with the resourceVersion of the whole list. Raises ApiError, Unreachable."""
        query = {"limit": str(PAGE)} | _selected(kind)
        while True:
            url = f"{self._connection.server}{kind.path(namespace)}?{urlencode(query)}"
            try:
                async with self._session.get(url, headers=self._headers()) as answer:
                    await self._check("list", answer)
                    page = orjson.loads(await answer.read())
            except (TimeoutError, aiohttp.ClientError, OSError, orjson.JSONDecodeError) as error:
                raise Unreachable(f"list of {kind.name}: {error!r}") from error
            meta = page["metadata"]
            yield page.get("items") or [], meta["resourceVersion"]
            if not meta.get("continue"):
                return
            query["continue"] = meta["continue"]

    async def watch(self, kind: Kind, namespace: str, version: str) -> AsyncIterator[Object]:
        """Events after `version`, bookmarks included, until the API server ends the stream.

        Raises ApiError, also for an event of type ERROR, and Unreachable.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version} | _selected(kind)
        url = f"{self._connection.server}{kind.path(namespace)}?{urlencode(query)}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT.sock_connect, sock_read=SILENT_SECONDS)
        rest = b""
        try:
            async with self._session.get(url, headers=self._headers(), timeout=timeout) as answer:
                await self._check("watch", answer)
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = orjson.loads(line)
                        if event["type"] == "ERROR":
                            # Whatever its code: this version is not to be had again.
                            raise _api_error("watch", 410, event["object"])
                        yield event
        except (TimeoutError, aiohttp.ClientError, OSError, orjson.JSONDecodeError) as error:
            raise Unreachable(f"watch of {kind.name}: {error!r}") from error

    def _headers(self) -> dict[str, str]:
        if self._clock() - self._token_at > TOKEN_SECONDS:
            try:
                self._token, self._token_at = self._connection.token(), self._clock()
            except OSError as error:  # a file that is being replaced: what is known serves until the next look
                log.warning("token_unreadable", error=repr(error))
        headers = {"Accept": "application/json", "User-Agent": "berth-gateway"}
        return headers | ({"Authorization": f"Bearer {self._token}"} if self._token else {})

    async def _check(self, verb: str, answer: aiohttp.ClientResponse) -> None:
        if answer.status == 401:
            self._token_at = float("-inf")
        if answer.status >= 400:
            raw = await answer.read()
            try:
                body = orjson.loads(raw)
            except orjson.JSONDecodeError:
                body = raw.decode(errors="replace")
            raise _api_error(verb, answer.status, body, answer.headers.get("Retry-After", ""))


def _selected(kind: Kind) -> dict[str, str]:
    return {"labelSelector": kind.labels} if kind.labels else {}


def _api_error(verb: str, status: int, body: Any, retry_after: str = "") -> ApiError:
    message = str(body.get("message", body)) if isinstance(body, dict) else str(body)
    return ApiError(verb, status, message, float(retry_after) if retry_after.isdigit() else 0.0)


class Watch:
    """The watch of one kind in one namespace, or in all ("").

    put: told each object that is new or has changed.  drop: told namespace and name of each that is gone. An object
    that was deleted and made anew is dropped, then put.
    """

    def __init__(
        self, api: Api, kind: Kind, namespace: str, put: Callable[[Object], object], drop: Callable[[str, str], object]
    ) -> None:
        self.kind = kind
        self.synced = asyncio.Event()
        """Set once the first list was delivered."""
        self._api = api
        self._namespace = namespace
        self._put = put
        self._drop = drop
        self._known: dict[Name, tuple[str, str]] = {}  # uid and resourceVersion
        self._said = ""

    async def run(self) -> None:
        """Follow what happens, for ever. Raises nothing."""
        version, failures = "", 0
        while True:
            failures += 1  # until it is heard of: a stream that ends at once must not be asked for at once again
            at_least = 0.0
            try:
                version = version or await self._list()
                async for event in self._api.watch(self.kind, self._namespace, version):
                    version = self._take(event)
                    self._well(failures)
                    failures = 0
            except Unreachable as error:
                self._interrupted(error, failures)
            except ApiError as error:
                at_least = self._refused(error, failures)
                if error.status not in (401, 403, 429) and error.status < 500:
                    # Expired, or the kind was away: what happened meanwhile is only in a new list.
                    version = ""
            delay = min(FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 10), MAX_DELAY_SECONDS) if failures else 0.0
            await asyncio.sleep(max(delay, at_least) * random.uniform(0.8, 1.2))  # noqa: S311

    async def _list(self) -> str:
        version = ""
        gone = set(self._known)
        async for objects, version in self._api.pages(self.kind, self._namespace):  # noqa: B007
            for obj in objects:
                gone.discard(self._seen(obj))
        for name in gone:
            self._forget(name)
        self.synced.set()
        return version

    def _take(self, event: Object) -> str:
        """Deliver one event; returns the resourceVersion to go on from."""
        kind, obj = event["type"], event["object"]
        if kind == "DELETED":
            self._forget((obj["metadata"]["namespace"], obj["metadata"]["name"]))
        elif kind != "BOOKMARK":
            self._seen(obj)
        return str(obj["metadata"]["resourceVersion"])

    def _seen(self, obj: Object) -> Name:
        meta = obj["metadata"]
        name = (meta["namespace"], meta["name"])
        known, found = self._known.get(name), (meta["uid"], meta["resourceVersion"])
        if known == found:
            return name
        if known and known[0] != found[0]:
            self._forget(name)
        self._known[name] = found
        self._deliver(name, self._put, obj)
        return name

    def _forget(self, name: Name) -> None:
        if self._known.pop(name, None):
            self._deliver(name, self._drop, *name)

    def _deliver(self, name: Name, receive: Callable[..., object], *what: Any) -> None:
        try:
            receive(*what)
        except Exception as error:
            # One object that nobody understands must not hide the others. Not its text: it may be that of a Secret.
            where = error.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            at = f"{where.tb_frame.f_code.co_qualname}:{where.tb_lineno}" if where else ""
            log.error(
                "object_not_understood", kind=self.kind.name, object="/".join(name), error=type(error).__name__, at=at
            )

    def _well(self, failures: int) -> None:
        if self._said or failures > WORTH_TELLING[0]:
            log.info("watch_resumed", kind=self.kind.name)
            self._said = ""

    def _interrupted(self, error: Exception, failures: int) -> None:
        if failures in WORTH_TELLING:
            log.warning("watch_interrupted", kind=self.kind.name, error=str(error))

    def _refused(self, error: ApiError, failures: int) -> float:
        """Say what is to be said of an error; returns the seconds to wait at least."""
        if error.status == 403:
            where = f"in namespace {self._namespace}" if self._namespace else "in all namespaces"
            self._say(
                f"{error.verb} {self.kind.name} {where}",
                "permission_missing",
                mend="install the chart's roles and bindings",
                error=error.message,
            )
            return FORBIDDEN_SECONDS
        if error.status == 404:
            self._say(self.kind.name, "kind_missing", mend="install the chart, or apply crds/")
            return NO_KIND_SECONDS
        self._interrupted(error, failures)
        return error.retry_after_seconds

    def _say(self, what: str, event: str, **details: str) -> None:
        """Once, until it went well again."""
        if what != self._said:
            log.error(event, **{"permission" if event == "permission_missing" else "kind": what}, **details)
        self._said = what
