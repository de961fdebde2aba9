"""What the gateway has done, as plain numbers, and how /metrics tells it.

A request costs a few additions to integers; series are made of them when they are asked for.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Set
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from berth_gateway.table import Endpoint


class Described(NamedTuple):
    """A metric. name: as /metrics has it.  kind: counter, gauge or histogram."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


REQUESTS = Described(
    "berth_gateway_requests_total", "counter", ("namespace", "endpoint", "owner", "api", "code"),
    "Requests that have ended, by endpoint (empty: none was found), owner of the caller's key, API and HTTP status"
    " (0: the client left before an answer began).",
)  # fmt: skip
TOKENS = Described(
    "berth_gateway_tokens_total", "counter", ("namespace", "endpoint", "owner", "kind"),
    "Tokens as answers tell them, by kind: prompt, completion. A stream that tells no usage counts none.",
)  # fmt: skip
FIRST_BYTE = Described(
    "berth_gateway_first_byte_seconds", "histogram", ("namespace", "endpoint"),
    "Seconds from a whole request to the first byte of its answer from a pod, the time held included.",
)  # fmt: skip
IN_FLIGHT = Described(
    "berth_gateway_in_flight", "gauge", ("namespace", "endpoint"), "Requests that pods of the endpoint are answering."
)
HELD = Described(
    "berth_gateway_held", "gauge", ("namespace", "endpoint"), "Requests that wait for a ready pod of the endpoint."
)
RETRIES = Described(
    "berth_gateway_retries_total", "counter", ("reason",),
    "Requests sent to another pod, by reason: connect (no connection), drain (the pod shuts down and refused).",
)  # fmt: skip
REFUSALS = Described(
    "berth_gateway_refusals_total", "counter", ("reason",), "Requests that the gateway itself refused, by reason."
)
EJECTIONS = Described(
    "berth_gateway_ejections_total", "counter", (), "Times that a pod was left out for a while because it failed."
)
LOG_LINES_LOST = Described(
    "berth_gateway_log_lines_lost_total", "counter", (),
    "Lines of the access log that were dropped because nobody read them fast enough.",
)  # fmt: skip

METRICS = (REQUESTS, TOKENS, FIRST_BYTE, IN_FLIGHT, HELD, RETRIES, REFUSALS, EJECTIONS, LOG_LINES_LOST)
"""All of them: what /metrics serves and the reference page lists."""

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)
"""Upper bounds of the histogram, in seconds."""


class Counts:
    """Numbers of one process since its start. Labels come from the cluster and its Secrets, so there is an end to them.

    requests: (namespace, endpoint, owner, api, code) -> n.  tokens: (namespace, endpoint, owner) -> of prompts, of
    completions.  first_byte: (namespace, endpoint) -> how many in each of BUCKETS, above them, and the sum.
    """

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str, str, int], int] = {}
        self.tokens: dict[tuple[str, str, str], list[int]] = {}
        self.first_byte: dict[tuple[str, str], list[float]] = {}
        self.retries = {"connect": 0, "drain": 0}
        self.refusals: dict[str, int] = {}
        self.ejections = 0

    def ended(
        self,
        endpoint: Endpoint | None,
        owner: str,
        api: str,
        code: int,
        first_byte_seconds: float | None = None,
        tokens: tuple[int, int] | None = None,
    ) -> None:
        """A request is over. endpoint: None if none was found.  first_byte_seconds: None if no pod answered."""
        namespace, name = ("", "") if endpoint is None else (endpoint.namespace, endpoint.name)
        key = (namespace, name, owner, api, code)
        self.requests[key] = self.requests.get(key, 0) + 1
        if first_byte_seconds is not None:
            buckets = self.first_byte.get((namespace, name))
            if buckets is None:
                buckets = self.first_byte[namespace, name] = [0] * (len(BUCKETS) + 1) + [0.0]
            buckets[bisect_left(BUCKETS, first_byte_seconds)] += 1
            buckets[-1] += first_byte_seconds
        if tokens is not None:
            sums = self.tokens.get((namespace, name, owner))
            if sums is None:
                sums = self.tokens[namespace, name, owner] = [0, 0]
            sums[0] += tokens[0]
            sums[1] += tokens[1]

    def retried(self, reason: str) -> None:
        """A request goes to another pod."""
        self.retries[reason] = self.retries.get(reason, 0) + 1

    def refused(self, reason: str) -> None:
        """A request is refused by the gateway. reason: a word of the code, never of a client."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def ejected(self) -> None:
        """A pod is left out for a while."""
        self.ejections += 1

    def forget(self, known: Set[tuple[str, str]]) -> None:
        """Drop what is of other endpoints than these, by namespace and name: those that are gone."""
        tables: tuple[dict[Any, Any], ...] = (self.requests, self.tokens, self.first_byte)
        for table in tables:
            for key in [key for key in table if key[:2] not in known]:
                del table[key]


class GatewayCollector(Collector):
    """What prometheus_client asks at a scrape. endpoints: all that are known.  lines_lost: of the access log."""

    def __init__(
        self, counts: Counts, endpoints: Callable[[], Iterable[Endpoint]], lines_lost: Callable[[], int]
    ) -> None:
        self._counts = counts
        self._endpoints = endpoints
        self._lines_lost = lines_lost

    def collect(self) -> Iterator[Metric]:
        """The families of METRICS, in its order."""
        counts = self._counts
        requests = _counter(REQUESTS)
        for (namespace, endpoint, owner, api, code), n in counts.requests.items():
            requests.add_metric((namespace, endpoint, owner, api, str(code)), n)
        yield requests
        tokens = _counter(TOKENS)
        for key, (prompt, completion) in counts.tokens.items():
            tokens.add_metric((*key, "prompt"), prompt)
            tokens.add_metric((*key, "completion"), completion)
        yield tokens
        first_byte = HistogramMetricFamily(FIRST_BYTE.name, FIRST_BYTE.help, labels=FIRST_BYTE.labels)
        for pair, values in counts.first_byte.items():
            first_byte.add_metric(pair, _cumulative(values[:-1]), values[-1])
        yield first_byte
        in_flight = GaugeMetricFamily(IN_FLIGHT.name, IN_FLIGHT.help, labels=IN_FLIGHT.labels)
        held = GaugeMetricFamily(HELD.name, HELD.help, labels=HELD.labels)
        known = {("", "")}
        for each in self._endpoints():
            pair = (each.namespace, each.name)
            known.add(pair)
            running = sum([pod.in_flight for pod in each.pods.values()]) if each.pods else 0
            if running or each.held or each.requests:
                in_flight.add_metric(pair, running)
                held.add_metric(pair, len(each.held or ()))
        yield in_flight
        yield held
        for described, reasons in ((RETRIES, counts.retries), (REFUSALS, counts.refusals)):
            family = _counter(described)
            for reason, n in reasons.items():
                family.add_metric((reason,), n)
            yield family
        for described, n in ((EJECTIONS, counts.ejections), (LOG_LINES_LOST, self._lines_lost())):
            family = _counter(described)
            family.add_metric((), n)
            yield family
        counts.forget(known)


def _counter(described: Described) -> CounterMetricFamily:
    return CounterMetricFamily(described.name, described.help, labels=described.labels)


def _cumulative(values: list[float]) -> list[tuple[str, float]]:
    total, found = 0.0, []
    for bound, n in zip((*map(str, BUCKETS), "+Inf"), values, strict=True):
        total += n
        found.append((bound, total))
    return found


MOST_TAIL_BYTES = 4096
"""Of the end of an answer: within it all APIs tell their usage."""

# Quotes inside a text are escaped, so no completion can make up any of these. `usage` of OpenAI, its responses and
# messages; `token_usage` of ScaleEGP. The objects hold numbers, null, and such objects.
_USAGE = re.compile(rb'usage"\s*:\s*(\{(?:[^{}]++|\{[^{}]*+\})*+\})')
# As vLLM writes it.
_PLAIN_USAGE = re.compile(
    rb'usage":\{"prompt_tokens":(\d{1,15}),"total_tokens":\d{1,15},"completion_tokens":(\d{1,15})[,}]'
)
_PROMPT = ("prompt_tokens", "input_tokens", "prompt")
_COMPLETION = ("completion_tokens", "output_tokens", "completion")
_MOST_LOOKS = 4
# LLMEngine, and AlephAlpha, which tells of an evaluation the prompt only. Of several prompts LLMEngine tells none.
_NUMBERS = re.compile(
    rb'"num_prompt_tokens"\s*:\s*(?:(?P<p1>\d{1,15})|null)\s*,\s*"num_completion_tokens"\s*:\s*(?P<c1>\d{1,15})\s*[,}]'
    rb'|"num_tokens_prompt_total"\s*:\s*(?P<p2>\d{1,15})\s*'
    rb'(?:\}|,\s*"num_tokens_generated"\s*:\s*(?P<c2>\d{1,15})\s*[,}])'
)
# From the first of two numbers to the second one, and less than from one answer's to the next one's.
_NUMBERS_BYTES = 80


def tokens_in(tail: bytes) -> tuple[int, int] | None:
    """Prompt and completion tokens that an answer tells, whole or streamed, from its end. None: it tells none."""
    tail = tail[-MOST_TAIL_BYTES:]
    at = len(tail)
    for _ in range(_MOST_LOOKS):
        at = tail.rfind(b'usage"', 0, at)
        if at < 0:
            break
        if plain := _PLAIN_USAGE.match(tail, at):
            return int(plain[1]), int(plain[2])
        if (found := _USAGE.match(tail, at)) and (counts := _usage(found[1])):
            return counts
    at = tail.rfind(b'"num_')
    return None if at < 0 else _numbers(tail, at)


def _usage(data: bytes) -> tuple[int, int] | None:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    prompt, completion = (
        next((found[name] for name in names if type(found.get(name)) is int), None) for names in (_PROMPT, _COMPLETION)
    )
    if prompt is None and completion is None:
        return None
    return max(0, prompt or 0), max(0, completion or 0)


def _numbers(tail: bytes, at: int) -> tuple[int, int] | None:
    last = _NUMBERS.search(tail, max(0, at - _NUMBERS_BYTES))
    if last is None:
        return None
    prompt, completion = last["p1"] or last["p2"], last["c1"] or last["c2"]
    if prompt is not None:
        return int(prompt), int(completion or 0)
    begin = tail.rfind(b'"outputs":[')
    if begin < 0:
        return None
    return 0, sum(int(each["c1"] or 0) for each in _NUMBERS.finditer(tail, begin))
