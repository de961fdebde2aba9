"""What an API besides the engine's own costs: the second half of `make bench`, written to docs/benchmarks-apis.md.

On an engine that replays, in this process: CPU of a request and of a chunk of a stream beyond what the engine's own API
costs there, and memory of open streams. On real vLLM: how long a completion takes, by how long it takes through vLLM's
own API, asked in turns. BENCH_ROUNDS: how many turns.  Exit code 1 when a bound does not hold.
"""

import asyncio
import http.client
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from berth.cli.markdown import table
from berth_apis.http import Serving
from berth_server.dialects import Dialects
from local import model
from local.errors import LocalError
from local.progress import say, step
from tests.contracts.launcher.launched import CPU, EAGER, START_SECONDS, Launched

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks-apis.md"
BEGIN, END = "<!-- results: begin, written by make bench -->", "<!-- results: end -->"
ALL = ("LLMEngine", "ScaleEGP", "AlephAlpha", "OpenAI")
NAME = "tiny"

MOST_MS_PER_REQUEST = 0.5
MOST_MS_PER_CHUNK = 0.1
CHUNKS = 200
STREAMS = 500
TOKENS = 16

App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """One way to ask for the same completion. own: how vLLM itself is asked for it."""

    name: str
    path: str
    body: dict[str, Any]
    own: dict[str, Any]
    query: str = ""

    def at(self, engine: bool) -> tuple[str, str, bytes]:
        """Path, query and body, for this API or for the engine's own."""
        if engine:
            return "/v1/completions", "", json.dumps(self.own).encode()
        return self.path, self.query, json.dumps(self.body).encode()


def cases(stream: bool) -> list[Case]:
    """The same completion in each API."""
    prompt = model.PAGE[:60]
    usage = {"include_usage": True}
    own = {"model": NAME, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
    llm = {"prompt": prompt, "max_new_tokens": TOKENS, "temperature": 0}
    egp = {"model": NAME, "prompt": prompt, "model_parameters": {"temperature": 0, "max_tokens": TOKENS}}
    aleph = {"model": NAME, "prompt": [{"type": "text", "data": prompt, "controls": []}], "maximum_tokens": TOKENS}
    if stream:
        own |= {"stream": True, "stream_options": usage}
        egp |= {"stream": True}
        aleph |= {"stream": True}
    kind = "stream" if stream else "sync"
    counts = {"stream_options": usage | {"continuous_usage_stats": True}} if stream else {}
    return [
        Case("LLMEngine", f"/v1/llm/completions-{kind}", llm, own | counts, f"model_endpoint_name={NAME}"),
        Case("ScaleEGP", "/egp/v4/completions", egp, own),
        Case("AlephAlpha", "/aleph-alpha/complete", aleph, own),
    ]


def recorded(chunks: int) -> tuple[bytes, list[bytes]]:
    """An answer of vLLM and the chunks of a stream, as vLLM 0.32 writes them."""
    choice = {"index": 0, "text": " word", "logprobs": None, "finish_reason": None, "stop_reason": None}
    counts = {"prompt_tokens": 12, "total_tokens": 12 + chunks, "completion_tokens": chunks}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": NAME}
    whole = head | {"choices": [choice | {"finish_reason": "length"}], "usage": counts}
    events: list[dict[str, Any]] = [head | {"choices": [choice], "usage": counts} for _ in range(chunks - 1)]
    events += [whole, head | {"choices": [], "usage": counts}]
    lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
    return json.dumps(whole).encode(), [*lines, b"data: [DONE]\n\n"]


class Replay:
    """An ASGI app that answers as vLLM does. gate: where STREAMS streams wait for each other half way, twice."""

    def __init__(self, gate: asyncio.Barrier | None = None) -> None:
        self._whole, self._events = recorded(CHUNKS)
        self._models = json.dumps({"data": [{"id": NAME, "max_model_len": 2048}]}).encode()
        self._gate = gate

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        data = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/v1/models":
            await send({"type": "http.response.body", "body": self._models})
        elif b'"stream"' not in data:
            await send({"type": "http.response.body", "body": self._whole})
        else:
            for number, event in enumerate(self._events):
                if self._gate and number == CHUNKS // 2:
                    await self._gate.wait()
                    await self._gate.wait()
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def translated(app: App) -> App:
    """An engine's app with Berth's APIs in front."""
    return Dialects(app, ALL, Serving((), time.time))


async def ask(app: App, path: str, query: str, data: bytes) -> None:
    """One request of a client that stays."""
    sent = [{"type": "http.request", "body": data, "more_body": False}]
    status = 0

    async def receive() -> Any:
        return sent.pop() if sent else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {"type": "http", "method": "POST", "path": path, "query_string": query.encode(), "headers": []}
    await app(scope, receive, send)
    if status != 200:
        raise RuntimeError(f"{path}: status {status}")


async def cpu_ms(app: App, case: Case, engine: bool, times: int) -> float:
    """CPU of one request."""
    path, query, data = case.at(engine)
    begun = time.process_time()
    for _ in range(times):
        await ask(app, path, query, data)
    return (time.process_time() - begun) / times * 1000


async def beyond_ms(case: Case, rounds: int, times: int) -> float:
    """CPU of one request beyond the engine's own API, the median of rounds in turns."""
    app = Replay()
    around = translated(app)
    await ask(around, *case.at(engine=False))
    found = [await cpu_ms(around, case, False, times) - await cpu_ms(app, case, True, times) for _ in range(rounds)]
    return statistics.median(found)


async def open_streams_kb(case: Case) -> float:
    """Memory that Python holds for one of STREAMS open streams, beyond the engine's own API."""

    async def held(engine: bool) -> int:
        gate = asyncio.Barrier(STREAMS + 1)
        app = Replay(gate)
        asked = app if engine else translated(app)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        tasks = [asyncio.create_task(ask(asked, *case.at(engine))) for _ in range(STREAMS)]
        await gate.wait()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        await gate.wait()
        await asyncio.gather(*tasks)
        return after - before

    return (await held(engine=False) - await held(engine=True)) / STREAMS / 1024


def in_process(rounds: int) -> list[list[str]]:
    """Rows of the first table."""
    rows = []
    for plain, stream in zip(cases(stream=False), cases(stream=True), strict=True):
        request = asyncio.run(beyond_ms(plain, rounds, 200))
        chunk = asyncio.run(beyond_ms(stream, rounds, 10)) / CHUNKS
        rows.append([plain.name, f"{request:.3f}", f"{chunk:.4f}", f"{asyncio.run(open_streams_kb(stream)):.1f}"])
    return rows


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval, by resampling 2,000 times."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return statistics.median(ratios), medians[50], medians[1949]


def on_vllm(rounds: int) -> list[list[str]]:
    """Rows of the second table: each API by vLLM's own, asked in turns on one connection each."""
    vllm = subprocess.run([sys.executable, "-m", "local", "vllm"], check=True, capture_output=True, text=True, cwd=ROOT)
    python, weights = Path(vllm.stdout.strip()), model.ensure()
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        where, source = Path(directory), f"file://{weights}"
        with Launched(where, python.parent, source, weights, flags=EAGER, env=CPU, python=python) as launched:
            launched.until_ready(START_SECONDS)
            for kind, chosen in (("whole", cases(stream=False)), ("stream", cases(stream=True))):
                for case in chosen:
                    median, low, high = interval(in_turns(launched.port, case, rounds))
                    rows.append([case.name, kind, f"{median:.3f}", f"{low:.3f} … {high:.3f}"])
    return rows


def in_turns(port: int, case: Case, rounds: int) -> list[float]:
    """How long the API took by how long vLLM's own took, for each pair of requests."""
    ways = [(engine, http.client.HTTPConnection("127.0.0.1", port, timeout=60)) for engine in (True, False)]
    ratios = []
    for number in range(rounds + 5):
        took = {}
        # Who is first changes from pair to pair.
        for engine, connection in ways if number % 2 else reversed(ways):
            path, query, data = case.at(engine)
            begun = time.perf_counter()
            connection.request("POST", f"{path}?{query}", data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            took[engine] = time.perf_counter() - begun
            if answer.status != 200:
                raise RuntimeError(f"{path}: status {answer.status}")
        ratios.append(took[False] / took[True])
    return ratios[5:]  # the first ones pay for what is loaded late


def render(cpu: list[list[str]], real: list[list[str]], rounds: int) -> str:
    """What stands between the markers of the page."""
    first = ["API", "CPU ms per request", "CPU ms per chunk", f"KiB per open stream, of {STREAMS}"]
    second = ["API", "answer", "time by vLLM's own API", "95 % interval"]
    where = f"Measured on {os.cpu_count()} cores, Python {platform.python_version()}, {rounds} turns."
    limits = ["*bound*", f"≤ {MOST_MS_PER_REQUEST}", f"≤ {MOST_MS_PER_CHUNK}", ""]
    return "\n\n".join([where, table(first, [*cpu, limits]), table(second, real)])


def main() -> int:
    """Returns the exit code."""
    rounds = int(os.environ.get("BENCH_ROUNDS", "200"))
    with step("CPU and memory of each API on an engine that replays"):
        cpu = in_process(max(5, rounds // 20))
    with step("each API by vLLM's own on real vLLM"):
        real = on_vllm(rounds)
    head, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{render(cpu, real, rounds)}\n\n{END}{rest.split(END)[1]}")
    broken = [row for row in cpu if float(row[1]) > MOST_MS_PER_REQUEST or float(row[2]) > MOST_MS_PER_CHUNK]
    for name, request, chunk, _ in broken:
        say(f"does not hold: {name}: {request} ms per request, {chunk} ms per chunk")
    say(f"written: {PAGE.relative_to(ROOT)}")
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (LocalError, RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
