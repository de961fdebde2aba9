"""What the gateways hold for endpoints, and what they have served: told by each of them the moment it changes."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
import orjson
import structlog

from berth.decide.look import Told

Object = dict[str, Any]
Ask = Callable[[str, int | None], Awaitable["Answer | None"]]

PAUSE_SECONDS = 0.25
"""Between two answers of a gateway: of two hundred clients who come at once, a few answers tell."""
AGAIN_SECONDS = 1.0
SILENT_SECONDS = 20.0
"""A gateway answers within 10 s, also when nothing changes."""
NEW_SECONDS = 5.0
"""So long a gateway that has just become ready may take for its first answer."""
_TIMEOUT = aiohttp.ClientTimeout(total=15, sock_connect=2)

log = structlog.get_logger()


class Answer(NamedTuple):
    """version: changes with what is held.  endpoints: by uid, numbers named held, in_flight and requests."""

    version: int
    endpoints: Mapping[str, Mapping[str, float]]


@dataclass
class _Gateway:
    ready: bool
    since: float
    answer: Answer | None = None
    failures: int = 0


class Held:
    """ask: the answer of the gateway at `host:port` once its version is not this one, None without an answer.

    changed: told the uid of each endpoint of which more or fewer requests are held.  clock: monotonic seconds.
    """

    def __init__(self, ask: Ask, changed: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._changed = changed
        self._clock = clock
        self._began = clock()
        self._gateways: dict[str, _Gateway] = {}
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._moved = asyncio.Event()

    def follow(self, told_at: Mapping[str, bool]) -> None:
        """Ask these from now on, and no others. told_at: whether each is ready, which those that leave are not."""
        now = self._clock()
        for gone in self._gateways.keys() - told_at.keys():
            left = self._gateways.pop(gone)
            for uid, told in left.answer.endpoints.items() if left.answer else ():
                if told.get("held"):
                    self._changed(uid)
        for at, ready in told_at.items():
            self._gateways.setdefault(at, _Gateway(ready, now)).ready = ready
        self._moved.set()

    async def run(self) -> None:
        """Ask for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                for gone in self._polls.keys() - self._gateways.keys():
                    self._polls.pop(gone).cancel()
                for new in self._gateways.keys() - self._polls.keys():
                    self._polls[new] = group.create_task(self._poll(new))
                await self._moved.wait()
                self._moved.clear()

    async def _poll(self, at: str) -> None:
        version: int | None = None
        while True:
            answer = await self._ask(at, version)
            gateway = self._gateways.get(at)
            if gateway is None:
                return
            version = answer.version if answer is not None else None
            if answer is not None:
                self._take(gateway, answer)
                gateway.failures = 0
            else:
                gateway.failures += 1
                if gateway.failures == 3:
                    log.warning("gateway_silent", gateway=at, mend="let the operator's pods reach this port")
            await asyncio.sleep(AGAIN_SECONDS if answer is None else PAUSE_SECONDS)

    def _take(self, gateway: _Gateway, answer: Answer) -> None:
        before = gateway.answer.endpoints if gateway.answer else {}
        gateway.answer, gateway.since = answer, self._clock()
        for uid in before.keys() | answer.endpoints.keys():
            if _number(before, uid, "held") != _number(answer.endpoints, uid, "held"):
                self._changed(uid)

    def told(self, uid: str) -> Told:
        """What is known of one endpoint."""
        answers = {
            at: each.answer.endpoints
            for at, each in self._gateways.items()
            if each.answer is not None and not self._is_silent(each)
        }
        return Told(
            held=sum(_number(found, uid, "held") for found in answers.values()),
            flying=any(_number(found, uid, "in_flight") for found in answers.values()),
            counters={at: _number(found, uid, "requests") for at, found in answers.items()},
            problem=self._problem(),
        )

    def begins(self) -> bool:
        """Whether nothing can be known yet, as this process has only begun to ask."""
        answered = any(each.answer is not None for each in self._gateways.values())
        return not answered and self._clock() - self._began < SILENT_SECONDS

    def _problem(self) -> str:
        ready = {at: each for at, each in self._gateways.items() if each.ready}
        if not ready:
            return "no pod of the gateway is ready"
        silent = [at for at, each in ready.items() if self._is_silent(each)]
        text = "does not tell what it holds: let the operator's pods reach this port"
        return f"the gateway at {min(silent)} {text}" if silent else ""

    def _is_silent(self, gateway: _Gateway) -> bool:
        patience = NEW_SECONDS if gateway.answer is None else SILENT_SECONDS
        return self._clock() - gateway.since > patience


def _number(endpoints: Mapping[str, Mapping[str, float]], uid: str, name: str) -> float:
    return endpoints.get(uid, {}).get(name, 0.0)


async def ask(session: aiohttp.ClientSession, at: str, version: int | None) -> Answer | None:
    """GET /demand of the gateway at `host:port`, protocol version 1; None when it does not answer so."""
    query = "" if version is None else f"?after={version}"
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError):
        url = f"http://{at}/demand{query}"
        async with session.get(url, timeout=_TIMEOUT, allow_redirects=False) as answer:
            if answer.status == 200:
                return read(orjson.loads(await answer.read()))
    return None


def read(body: Any) -> Answer | None:
    """What Berth uses of an answer, each field of its type."""
    if not isinstance(body, dict) or body.get("v") != 1:
        return None
    version, endpoints = body.get("version"), body.get("endpoints")
    if not isinstance(version, int) or not isinstance(endpoints, dict):
        return None
    return Answer(version, {uid: _numbers(told) for uid, told in endpoints.items()})


def _numbers(told: Any) -> dict[str, float]:
    names = ("held", "in_flight", "requests")
    return {name: told[name] for name in names if _is_amount(told.get(name))} if isinstance(told, dict) else {}


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < 2**63
