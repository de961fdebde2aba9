"""What the launchers of starting pods answer, asked seldom enough that progress alone writes status seldom."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import orjson

from berth.api import names
from berth.api.names import Key

Object = dict[str, Any]
FetchProgress = Callable[[str], Awaitable[Object | None]]

PROGRESS_SECONDS = 10.0
_TIMEOUT = aiohttp.ClientTimeout(total=2, sock_connect=1)
_MAX_BYTES = 65536
_MAX_MESSAGE = 200
LOAD = ("running", "waiting", "deferred", "max_num_seqs", "kv_cache_tokens", "requests", "tokens")
_WORD = re.compile(r"[\w.+-]{1,64}")


class Launchers:
    """Asks launchers. fetch: answer of the one at a pod IP, None without one.  clock: monotonic seconds."""

    def __init__(self, fetch: FetchProgress, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._answers: dict[Key, tuple[float, dict[str, Object]]] = {}

    async def ask(self, pods: Sequence[Object]) -> dict[str, Object]:
        """Answers by pod name, of running pods."""
        at = {pod["metadata"]["name"]: ip for pod in pods if (ip := _address(pod))}
        answers = await asyncio.gather(*map(self._fetch, at.values()))
        return {name: answer for name, answer in zip(at, answers, strict=True) if answer is not None}

    async def progress(self, key: Key, pods: Sequence[Object]) -> dict[str, Object]:
        """Answers of an endpoint's starting pods by pod name, as of at most PROGRESS_SECONDS ago.

        All are asked together. A pass that an event brings in between sees the same answers, so what progress alone
        changes in status is written once in that time; a pod that is new since then has no answer yet.
        """
        if not any(map(_address, pods)):
            self.forget(key)
            return {}
        if self.due_seconds(key) <= 0:
            answers = await self.ask(pods)
            self._answers[key] = self._clock(), answers
        _, answers = self._answers[key]
        return {name: answers[name] for pod in pods if (name := pod["metadata"]["name"]) in answers}

    def due_seconds(self, key: Key) -> float:
        """Seconds until they will be asked again; 0 when nobody has been asked."""
        asked_at, _ = self._answers.get(key, (float("-inf"), {}))
        return max(0.0, asked_at + PROGRESS_SECONDS - self._clock())

    def forget(self, key: Key) -> None:
        """No pod of this endpoint is starting."""
        self._answers.pop(key, None)


def _address(pod: Object) -> str | None:
    ip: str | None = pod["status"].get("podIP")
    return ip if pod["status"].get("phase") == "Running" else None


async def fetch_progress(session: aiohttp.ClientSession, pod_ip: str) -> Object | None:
    """The launcher's /progress at a pod, protocol version 1; None when it does not answer so."""
    return read_progress(await _fetch(session, pod_ip, "progress"))


async def fetch_load(session: aiohttp.ClientSession, pod_ip: str) -> Object | None:
    """The launcher's /load at a pod, protocol version 1; None when it does not answer so."""
    return read_load(await _fetch(session, pod_ip, "load"))


async def _fetch(session: aiohttp.ClientSession, pod_ip: str, path: str) -> Any:
    host = f"[{pod_ip}]" if ":" in pod_ip else pod_ip
    try:
        url = f"http://{host}:{names.LAUNCHER_PORT}/{path}"
        async with session.get(url, timeout=_TIMEOUT, allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            return orjson.loads(await answer.content.read(_MAX_BYTES))
    except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError):
        return None


def read_progress(told: Any) -> Object | None:
    """What Berth uses of a launcher's answer, each field of its type: whoever owns the pod can answer anything."""
    if not isinstance(told, dict) or told.get("v") != 1:
        return None
    engine = told.get("engine")
    version = engine.get("version") if isinstance(engine, dict) else None
    message = told.get("message")
    return {
        "phase": _word(told.get("phase")) or "unknown",
        **{name: _amount(told.get(name)) for name in ("bytes", "total", "bytes_per_second", "seconds_left")},
        "revision": _word(told.get("revision")),
        "engine": {"version": _word(version)},
        "message": " ".join(message.split())[:_MAX_MESSAGE] if isinstance(message, str) else "",
    }


def read_load(told: Any) -> Object | None:
    """What Berth uses of a launcher's answer about its load: numbers, or null."""
    if not isinstance(told, dict) or told.get("v") != 1:
        return None
    return {name: _amount(told.get(name)) for name in LOAD}


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _amount(value: Any) -> float | None:
    return value if isinstance(value, int | float) and 0 <= value < 2**63 else None
