"""Requests at a steady rate by clients with pooled connections, every answer held against the known one.

Each client sends on a timetable, whether or not its earlier requests are answered, or always has the same number in
flight. Half of the requests are streamed, and no client does what a user of its library would not get by default:
httpx and requests try again never, aiohttp only idempotent methods, which POST is not. Time limits and the number of
threads are the exception: a request that waits for a sleeping endpoint to wake shall not be ended by its own client.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import aiohttp
import httpx
import requests

from local.model import PAGE

PROMPT_WORDS = 12
# Where in the page a prompt begins, in words, and how many tokens follow.
QUESTIONS = ((0, 8), (36, 24), (72, 160), (110, 8), (150, 48), (200, 16))
TIMEOUT_SECONDS = 120.0
# Three at once keep three connections in a pool, so that every pod has some.
AT_ONCE, EVERY_SECONDS = 3, 1.5
# Of `requests`, which needs one for each request that waits.
MOST_THREADS = 512
PAUSE_LOOK_SECONDS = 0.05
# Who asks this seldom meets connections that a server is about to close as idle: vLLM by default does after 5 s.
SELDOM_SECONDS = 5.0

Read = Callable[[], Awaitable[bytes]]
Post = Callable[[dict[str, Any]], AbstractAsyncContextManager[tuple[int, Read]]]
"""Sends a body; the status once it is there, and what reads the rest."""
Pool = Callable[[], AbstractAsyncContextManager[Post]]
ERRORS = (httpx.HTTPError, aiohttp.ClientError, requests.RequestException, TimeoutError)


@dataclass(frozen=True)
class Answer:
    """scenario: what was going on when the request was sent. problem: None, or `failed: …` or `cut off: …`.

    seconds: until the whole answer was there.
    """

    scenario: str
    client: str
    problem: str | None
    seconds: float = 0.0


def question(model: str, number: int) -> tuple[dict[str, Any], str]:
    """The body of the n-th request, and the page from where its answer begins."""
    first, tokens = QUESTIONS[number % len(QUESTIONS)]
    prompt = " ".join(PAGE.split(" ")[first : first + PROMPT_WORDS])
    # An odd cycle of prompts and an even one of streaming would stream the same prompts for ever.
    stream = (number + number // len(QUESTIONS)) % 2 == 1
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body, PAGE[PAGE.index(prompt) + len(prompt) :]


def problem(body: dict[str, Any], page: str, status: int, text: str) -> str | None:
    """What is wrong with an answer: `failed: …` when it is an error, `cut off: …` when it is not whole and true."""
    if status != 200:
        return f"failed: {status} {text[:200]}"
    if not body.get("stream"):
        events = [json.loads(text)]
    else:
        data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        if not data or data[-1] != "[DONE]":
            return f"cut off: the stream ends with {data[-1:]}"
        events = [json.loads(item) for item in data[:-1]]
    if any("error" in event for event in events):
        return f"failed: {events[-1]}"
    choices = [choice for event in events for choice in event["choices"]]
    said, reason = "".join(choice["text"] for choice in choices), choices[-1]["finish_reason"]
    tokens = events[-1]["usage"]["completion_tokens"]
    if reason != "length" or tokens != body["max_tokens"]:
        return f"cut off: finish_reason {reason} after {tokens} of {body['max_tokens']} tokens"
    if not said or not page.startswith(said):
        return f"cut off: not the page's text: {said!r}"
    return None


def timetable(seconds: float, now: Callable[[], float] = time.monotonic) -> Iterator[tuple[int, float]]:
    """Numbers and moments, so many seconds apart; what was missed, as in a pause, is not made up for."""
    moment = now()
    for tick in itertools.count():
        yield tick, moment
        moment = max(moment + seconds, now())


class Load:
    """Clients for as long as the context lasts: of each library one that asks often, and one seldom.

    at_once: requests that each of the first sends together; 0 for the others alone.  always: requests that further ones
    of each library have in flight.  url: of the server, without a path.  scenario: set it to name what is going on from
    now on.  key: sent as Bearer.  fresh: every request has a connection of its own, instead of one from a pool.
    way: is put behind the clients' names.  waiting: how many requests have no answer yet.
    """

    def __init__(
        self,
        url: str,
        model: str,
        at_once: int = AT_ONCE,
        always: int = 0,
        *,
        every_seconds: float = EVERY_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
        key: str = "",
        fresh: bool = False,
        way: str = "",
    ) -> None:
        self.scenario = "start"
        self.answers: list[Answer] = []
        self.waiting = 0
        self._url = f"{url}/v1/completions"
        self._model = model
        self._at_once = at_once
        self._always = always
        self._every_seconds = every_seconds
        self._timeout_seconds = timeout_seconds
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._fresh = fresh
        self._way = f", {way}" if way else ""
        self._sending = threading.Event()
        self._sending.set()
        self._generation = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for the answers to what has been sent."""
        self._stop.set()
        self._thread.join()

    def renew(self) -> None:
        """Each client goes on with a new pool; the old one's connections are to the pods that were there."""
        self._generation += 1

    def pause(self) -> None:
        """Sends nothing more until `resume`; pools stay, and what has been sent is still answered."""
        self._sending.clear()

    def resume(self) -> None:
        """Goes on, on the connections that are left from before."""
        self._sending.set()

    def problems(self) -> list[Answer]:
        """Everything that was not a whole and true answer."""
        return [answer for answer in list(self.answers) if answer.problem]

    async def _run(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(MOST_THREADS))
        libraries: dict[str, Pool] = {"httpx": self._httpx, "aiohttp": self._aiohttp, "requests": self._requests}
        pools = {
            f"{name}{self._way}": partial(_anew, pool) if self._fresh else pool for name, pool in libraries.items()
        }
        often = (self._client(name, pool, self._at_once, self._every_seconds) for name, pool in pools.items())
        seldom = (self._client(f"{name}, seldom", pool, 1, SELDOM_SECONDS) for name, pool in pools.items())
        always = (self._busy(f"{name}, busy", pool) for name, pool in pools.items() for _ in range(self._always))
        await asyncio.gather(*often, *seldom, *always)

    @asynccontextmanager
    async def _httpx(self) -> AsyncIterator[Post]:
        timeout = self._timeout_seconds
        # Without `verify=False` each new client reads all authorities, which takes longer than its request, and plain
        # HTTP asks none of them.
        async with httpx.AsyncClient(headers=self._headers, timeout=timeout, trust_env=False, verify=False) as client:

            @asynccontextmanager
            async def post(body: dict[str, Any]) -> AsyncIterator[tuple[int, Read]]:
                async with client.stream("POST", self._url, json=body) as response:
                    yield response.status_code, response.aread

            yield post

    @asynccontextmanager
    async def _aiohttp(self) -> AsyncIterator[Post]:
        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        async with aiohttp.ClientSession(headers=self._headers, timeout=timeout, trust_env=False) as session:

            @asynccontextmanager
            async def post(body: dict[str, Any]) -> AsyncIterator[tuple[int, Read]]:
                async with session.post(self._url, json=body) as response:
                    yield response.status, response.read

            yield post

    @asynccontextmanager
    async def _requests(self) -> AsyncIterator[Post]:
        with requests.Session() as session:
            session.trust_env = False
            session.headers.update(self._headers)

            @asynccontextmanager
            async def post(body: dict[str, Any]) -> AsyncIterator[tuple[int, Read]]:
                sending = partial(session.post, self._url, json=body, stream=True, timeout=self._timeout_seconds)
                with await asyncio.to_thread(sending) as response:
                    yield response.status_code, partial(asyncio.to_thread, lambda: response.content)

            yield post

    async def _client(self, name: str, pool: Pool, at_once: int, seconds: float) -> None:
        """So many requests each so many seconds until the end."""
        ticks = timetable(seconds)
        while not self._stop.is_set():
            await self._use(name, pool, at_once, ticks)

    async def _busy(self, name: str, pool: Pool) -> None:
        """One request after the other until the end."""
        numbers = itertools.count()
        while not self._stop.is_set():
            generation = self._generation
            async with pool() as post:
                while generation == self._generation and await self._going_on_at(0.0):
                    await self._ask(name, next(numbers), post)

    async def _use(self, name: str, pool: Pool, at_once: int, ticks: Iterator[tuple[int, float]]) -> None:
        """Sends on one pool for as long as it is to be kept, and closes it when everything is answered."""
        generation = self._generation
        async with pool() as post, asyncio.TaskGroup() as asking:
            for tick, moment in ticks:
                if not await self._going_on_at(moment):
                    break
                for number in range(tick * at_once, (tick + 1) * at_once):
                    asking.create_task(self._ask(name, number, post))
                if generation != self._generation:
                    break

    async def _going_on_at(self, moment: float) -> bool:
        """Waits for the moment, and for the end of a pause; false when the load has ended before."""
        while not self._stop.is_set():
            left = moment - time.monotonic() if self._sending.is_set() else PAUSE_LOOK_SECONDS
            if left <= 0:
                return True
            await asyncio.sleep(min(left, 0.5))
        return False

    async def _ask(self, name: str, number: int, post: Post) -> None:
        scenario = self.scenario
        body, page = question(self._model, number)
        kind, began = "failed", time.monotonic()
        self.waiting += 1
        try:
            async with post(body) as (status, read):
                kind = "cut off"
                wrong = problem(body, page, status, (await read()).decode())
        except ERRORS as error:
            wrong = f"{kind}: {type(error).__name__}: {error}"
        self.answers.append(Answer(scenario, name, wrong, time.monotonic() - began))
        self.waiting -= 1


@asynccontextmanager
async def _anew(pool: Pool) -> AsyncIterator[Post]:
    """A pool for every request."""

    @asynccontextmanager
    async def post(body: dict[str, Any]) -> AsyncIterator[tuple[int, Read]]:
        async with pool() as once, once(body) as answer:
            yield answer

    yield post


def table(answers: Iterable[Answer]) -> str:
    """Requests, failures and cut-off answers by scenario and client, as Markdown."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for answer in answers:
        counted = counts.setdefault((answer.scenario, answer.client), Counter())
        counted["requests"] += 1
        counted[(answer.problem or "fine").partition(":")[0]] += 1
    rows = ["| scenario | client | requests | failed | cut off |", "|---|---|---|---|---|"]
    for (scenario, client), counted in counts.items():
        rows.append(f"| {scenario} | {client} | {counted['requests']} | {counted['failed']} | {counted['cut off']} |")
    return "\n".join(rows)
