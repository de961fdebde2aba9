"""The part of docs/benchmarks-gateway.md between its markers, from results alone. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.gateway.proxies import DIRECT, GATEWAY, GO, NGINX, PROXIES
from tests.bench.gateway.result import Latency, Memory, Ratio, Results, Work, median, ratio

BEGIN, END = "<!-- results: begin, written by make bench-gateway -->", "<!-- results: end -->"
NONE = "–"
KB = 1000

# (must, aim)
REQUEST_BY_NGINX = (3.0, 2.0)
REQUEST_BY_GO = (0.8, 0.5)
EVENT_BY_NGINX = (1.4, 1.2)
EVENT_BY_GO = (0.8, 0.65)
STREAM_KB = (17.0, 10.0)
ADDED_BY_GO = (1.5, 1.1)
# Two runs of one program differ by up to a fifth; the aim is that nothing is seen.
GROWTH = (1.2, 1.1)


@dataclass(frozen=True)
class Bound:
    """What was asked of the gateway, and what became of it. found: in the rounds, too."""

    what: str
    must: float
    aim: float
    found: Ratio
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it holds."""
        return self.found.value <= self.must

    @property
    def verdict(self) -> str:
        """For the table."""
        return "met, and the aim" if self.found.value <= self.aim else "met" if self.met else "**not met**"


def bounds(results: Results) -> list[Bound]:
    """All."""
    found = []
    for other, limits in ((NGINX, REQUEST_BY_NGINX), (GO, REQUEST_BY_GO)):
        found.append(Bound(f"CPU of a request by {other}", *limits, _by(results.plain[GATEWAY], results.plain[other])))
    for streams, events in results.events.items():
        for other, limits in ((NGINX, EVENT_BY_NGINX), (GO, EVENT_BY_GO)):
            what = f"CPU of an event by {other}, {streams:,} streams"
            found.append(Bound(what, *limits, _by(events[GATEWAY], events[other])))
    memory = results.memory[GATEWAY]
    for streams in memory[0].open:
        each = [one.per_stream(streams) / KB for one in memory]
        spread = Ratio(median(each), min(each), max(each))
        found.append(Bound(f"memory of an open stream, of {streams:,}", *STREAM_KB, spread, " KB"))
    added = {name: [one.added[0] for one in results.latency[name]] for name in (GATEWAY, GO)}
    found.append(Bound("added p50 by Go", *ADDED_BY_GO, ratio(added[GATEWAY], added[GO])))
    first, *more = results.endpoints
    for count in more:
        what = f"CPU of a request with {count:,} known endpoints by that with {first:,}"
        found.append(Bound(what, *GROWTH, _by(results.endpoints[count], results.endpoints[first])))
    return found


def _by(ours: Sequence[Work], theirs: Sequence[Work]) -> Ratio:
    return ratio([work.cpu_microseconds for work in ours], [work.cpu_microseconds for work in theirs])


def render(results: Results, machine: str, several: str) -> str:
    """Everything between the markers. several: the table of the simulation."""
    judged = [
        [
            bound.what,
            f"≤ {bound.must:g}{bound.unit}",
            f"≤ {bound.aim:g}{bound.unit}",
            f"{bound.found.value:.3g}{bound.unit}",
            f"{bound.found.least:.3g} … {bound.found.most:.3g}",
            bound.verdict,
        ]
        for bound in bounds(results)
    ]
    parts = [
        machine,
        "### Bounds",
        table(["", "bound", "aim", "found", "in single rounds", ""], judged),
        "### Requests",
        _requests(results),
        "### Streamed events",
        *(_events(streams, found) for streams, found in results.events.items()),
        "### Memory and latency",
        _memory_and_latency(results),
        "### Known endpoints",
        _endpoints(results),
        "### Several gateways",
        several,
    ]
    return "\n\n".join(parts)


def _requests(results: Results) -> str:
    theirs: list[tuple[str, Callable[[Work], float], str]] = [
        ("CPU of a request, µs", lambda work: work.cpu_microseconds, ".1f"),
        ("of it in the kernel", lambda work: work.share_of_kernel, ".0%"),
        ("share of the core", lambda work: work.share_of_core, ".0%"),
    ]
    rows = [
        [what, NONE, *(_spread(cell, results.plain[name], form) for name in PROXIES)] for what, cell, form in theirs
    ]
    rate = [_spread(lambda work: work.rate, results.plain[name], ",.0f") for name in (DIRECT, *PROXIES)]
    others = [_ratios(results.plain, other) for other in (NGINX, GO)]
    return table(["", DIRECT, *PROXIES], [*rows, ["requests a second", *rate], *others])


def _events(streams: int, found: dict[str, list[Work]]) -> str:
    theirs: list[tuple[str, Callable[[Work], float], str]] = [
        ("CPU of an event, µs", lambda work: work.cpu_microseconds, ".1f"),
        ("of it in the kernel", lambda work: work.share_of_kernel, ".0%"),
        ("share of the core", lambda work: work.share_of_core, ".0%"),
    ]
    all_of_them: list[tuple[str, Callable[[Work], float], str]] = [
        ("events per read of the client", lambda work: work.answered / work.reads, ".2f"),
        ("on its way, p50, µs", lambda work: work.microseconds[0], ",.0f"),
        ("on its way, p99, µs", lambda work: work.microseconds[1], ",.0f"),
    ]
    rows = [[what, NONE, *(_spread(cell, found[name], form) for name in PROXIES)] for what, cell, form in theirs]
    rows += [
        [what, *(_spread(cell, found[name], form) for name in (DIRECT, *PROXIES))] for what, cell, form in all_of_them
    ]
    return table([f"{streams:,} streams", DIRECT, *PROXIES], [*rows, *(_ratios(found, other) for other in (NGINX, GO))])


def _ratios(found: dict[str, list[Work]], other: str) -> list[str]:
    """CPU of each by that of another one."""
    return [f"CPU by {other}", NONE, *(f"{_by(found[name], found[other]).value:.2f}" for name in PROXIES)]


def _memory_and_latency(results: Results) -> str:
    def memory(cell: Callable[[Memory], float], form: str) -> list[str]:
        return [NONE, *(f"{median([cell(one) for one in results.memory[name]]):{form}}" for name in PROXIES)]

    def latency(cell: Callable[[Latency], float]) -> list[str]:
        return [f"{median([cell(one) for one in results.latency[name]]):,.0f}" for name in PROXIES]

    def direct(place: int) -> str:
        return f"{median([one.direct[place] for name in PROXIES for one in results.latency[name]]):,.0f}"

    rows = [["idle, MB", *memory(lambda one: one.idle / 1e6, ".0f")]]
    for streams in results.memory[GATEWAY][0].open:
        per_stream = memory(lambda one, streams=streams: one.per_stream(streams) / KB, ".1f")  # type: ignore[misc]
        rows.append([f"of an open stream, of {streams:,}, KB", *per_stream])
    for place, name in enumerate(("p50", "p99")):
        whole = latency(lambda one, place=place: one.proxied[place])  # type: ignore[misc]
        added = latency(lambda one, place=place: one.added[place])  # type: ignore[misc]
        rows.append([f"paced request, {name}, µs", direct(place), *whole])
        rows.append([f"added to {name}, µs", NONE, *added])
    return table(["", DIRECT, *PROXIES], rows)


def _endpoints(results: Results) -> str:
    costs = [_spread(lambda work: work.cpu_microseconds, works, ".1f") for works in results.endpoints.values()]
    return table(
        ["known endpoints", *(f"{count:,}" for count in results.endpoints)], [["CPU of a request, µs", *costs]]
    )


def _spread(cell: Callable[[Work], float], works: Sequence[Work], form: str) -> str:
    """The median; least and most of the rounds behind it."""
    values = [cell(work) for work in works]
    return f"{median(values):{form}} ({min(values):{form}} … {max(values):{form}})"


def disturbed(results: Results) -> float:
    """Share of the proxy's core that anything else has used: the most of all loads."""
    return max((work.others for work in results.works()), default=0.0)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
