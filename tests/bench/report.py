"""The part of docs/benchmarks.md between its markers, from results alone. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.result import READ_VERBS, Result

BEGIN, END = "<!-- results: begin, written by make bench -->", "<!-- results: end -->"
NONE = "–"
WORK = ("create", "edit", "repair")
PROCESSES = ("operator", "kube-apiserver", "kube-controller-manager", "etcd", "player")

LEAST_RATIO_TO_RAW = 0.5
MOST_CPU_MS_PER_PASS = 2.0
MOST_MEMORY_MB = 200.0
MOST_GROWTH = 1.25
TIMES_BETTER = 5

Cell = Callable[[Result], str]


def number(value: float | None, digits: int = 1) -> str:
    """A figure of a table; a dash for none."""
    return NONE if value is None else f"{value:,.{digits}f}"


def _seconds(phase: str, mark: str, digits: int = 1) -> Cell:
    return lambda result: number(result.phases[phase].seconds[mark], digits)


def _per_endpoint(phase: str) -> Cell:
    return lambda result: number(result.calls(phase) / result.count, 2)


def _reads(phase: str) -> Cell:
    return lambda result: number(result.calls(phase, READ_VERBS) / result.count, 2)


def _passes(phase: str) -> Cell:
    return lambda result: number(result.phases[phase].passes / result.count)


def _cpu(phase: str) -> Cell:
    return lambda result: number(result.cpu_ms(phase))


def _ratio(until: str) -> Cell:
    return lambda result: number(result.ratio(until), 2)


def _raw(until: str) -> Cell:
    return lambda result: number(result.raw_seconds(until))


def _share(process: str) -> Cell:
    return lambda result: f"{result.cpu_share('create', process):.0%}"


def _idle(result: Result) -> str:
    return f"{result.calls('idle')} in {result.idle_seconds:.0f} s" if "idle" in result.phases else NONE


COUNTS: Mapping[str, Cell] = {
    "create: writes per endpoint": _per_endpoint("create"),
    "create: reads per endpoint": _reads("create"),
    "edit: writes per endpoint": _per_endpoint("edit"),
    "repair of a Service and a Deployment: writes per endpoint": _per_endpoint("repair"),
    "crash, two endpoints edited meanwhile: writes": lambda result: str(result.calls("crash")),
    "idle: writes besides the Lease": _idle,
    "create: passes per endpoint": _passes("create"),
    "edit: passes per endpoint": _passes("edit"),
    "repair: passes per endpoint": _passes("repair"),
    "create: CPU per endpoint, ms": _cpu("create"),
    "edit: CPU per endpoint, ms": _cpu("edit"),
    "repair: CPU per endpoint, ms": _cpu("repair"),
    "raw writes: CPU per request, ms": lambda result: number(result.raw_request_cpu_ms(), 2),
    "CPU per pass, ms": lambda result: number(result.cpu_ms_per_pass(*WORK), 2),
    "memory, all created, MB": lambda result: number(result.phases["create"].memory_bytes / 1e6, 0),
    "memory, after the second start, MB": lambda result: number(result.phases["crash"].memory_bytes / 1e6, 0),
    "memory, peak, MB": lambda result: number(result.peak_mb(), 0),
    "write rate by raw rate, until all children are there": _ratio("children"),
    "write rate by raw rate, until all have a status": _ratio("status"),
}

SECONDS: Mapping[str, Cell] = {
    "create → all children": _seconds("create", "children"),
    "create → all have a status": _seconds("create", "status"),
    "create → all ready": _seconds("create", "ready"),
    "raw writes: create → all children": _raw("children"),
    "raw writes: create → all have a status": _raw("status"),
    "edit of all → every Deployment has it": _seconds("edit", "deployments"),
    "edit of all → every status is about it": _seconds("edit", "status"),
    "edit of all → rolled out, all ready": _seconds("edit", "ready"),
    "edit of one among all → its Deployment has it": _seconds("edit one", "deployments", 2),
    "edit of one among all → rolled out, ready": _seconds("edit one", "ready", 2),
    "every Service deleted, every Deployment edited → all mended": _seconds("repair", "children"),
    "SIGKILL → the next operator leads": _seconds("crash", "leads"),
    "SIGKILL → an edit made meanwhile is in its Deployment": _seconds("crash", "deployments"),
    "delete → no child is left": _seconds("delete", "children"),
}

SHARES: Mapping[str, Cell] = {process: _share(process) for process in PROCESSES}


@dataclass(frozen=True)
class Bound:
    """A bound of the design and what became of it. holds: None where it was not measured."""

    what: str
    limit: str
    found: str
    holds: bool | None


def bounds(results: Sequence[Result]) -> list[Bound]:
    """Judged at the largest size; growth between the smallest of at least 100 and the largest."""
    last = results[-1]
    ratio = last.ratio("status")
    idle = last.calls("idle") if "idle" in last.phases else None
    per_pass = last.cpu_ms_per_pass(*WORK)
    found = [
        Bound(
            "write rate by raw rate, until all have a status",
            f"≥ {LEAST_RATIO_TO_RAW}",
            number(ratio, 2),
            None if ratio is None else ratio >= LEAST_RATIO_TO_RAW,
        ),
        Bound(
            "memory, peak, MB", f"≤ {MOST_MEMORY_MB:.0f}", number(last.peak_mb(), 0), last.peak_mb() <= MOST_MEMORY_MB
        ),
        Bound("CPU per pass, ms", f"≤ {MOST_CPU_MS_PER_PASS}", number(per_pass, 2), per_pass <= MOST_CPU_MS_PER_PASS),
        Bound("idle: writes besides the Lease", "0", _idle(last), None if idle is None else idle == 0),
    ]
    for what, growth in _growths(results).items():
        found.append(Bound(f"growth, {what}", f"≤ {MOST_GROWTH}", number(growth, 2), growth <= MOST_GROWTH))
    return found


def _growths(results: Sequence[Result]) -> dict[str, float]:
    """Work per endpoint at the largest size by that at the smallest of at least 100."""
    large = [result for result in results if result.count >= 100]
    if len(large) < 2:
        return {}
    first, last = large[0], large[-1]
    found = {}
    for phase in WORK:
        writes = last.calls(phase) / last.count / (first.calls(phase) / first.count)
        found[f"{phase}: writes per endpoint, {first.count} → {last.count}"] = writes
        found[f"{phase}: CPU per endpoint, {first.count} → {last.count}"] = last.cpu_ms(phase) / first.cpu_ms(phase)
    return found


# What two other operators need for 100 endpoints at once, pods played, on a machine of this kind: seconds; None: never.
RIVALS = {
    "create → all ready, s": ("create", "ready", (302.0, 10.0)),
    "edit of all → rolled out, s": ("edit", "ready", (600.0, None)),
    "SIGKILL → an edit made meanwhile is applied, s": ("crash", "deployments", (16.0, None)),
}
RIVAL_B_WRITES_PER_MINUTE = 1200
RIVALS_NOTE = """Their figures were taken once, with 100 endpoints, and are not measured again by this run. B never
applies a changed argument, and goes on writing when nothing changes. There are no figures of theirs for 500."""


def rivals(results: Sequence[Result]) -> list[list[str]]:
    """Rows of the comparison at 100 endpoints: ours, theirs, how many times better than the best; none without 100."""
    ours = next((result for result in results if result.count == 100), None)
    if ours is None:
        return []
    rows = []
    for what, (phase, mark, theirs) in RIVALS.items():
        seconds = ours.phases[phase].seconds[mark]
        times = min(value for value in theirs if value is not None) / seconds
        told = [number(value, 0) if value is not None else "never" for value in theirs]
        rows.append([what, number(seconds), *told, number(times), _verdict(times >= TIMES_BETTER)])
    last = results[-1]
    if "idle" in last.phases:
        writes = 60 * last.calls("idle") / last.idle_seconds
        held = _verdict(writes * TIMES_BETTER <= RIVAL_B_WRITES_PER_MINUTE)
        what = f"idle, writes per minute (ours: {last.count:,} endpoints)"
        rows.append([what, number(writes, 0), NONE, number(RIVAL_B_WRITES_PER_MINUTE, 0), NONE, held])
    return rows


def render(results: Sequence[Result], machine: str) -> str:
    """Everything between the markers."""
    sizes = [f"{result.count:,}" for result in results]
    judged = [[item.what, item.limit, item.found, _verdict(item.holds)] for item in bounds(results)]
    parts = [
        machine,
        "### Counts and ratios",
        table(["endpoints", *sizes], _rows(results, COUNTS)),
        f"### Bounds, at {sizes[-1]} endpoints",
        table(["", "bound", "found", "holds"], judged),
        f"### Calls of the operator by verb and kind, at {sizes[-1]} endpoints",
        _calls(results[-1]),
        "### Seconds, for information",
        table(["endpoints", *sizes], _rows(results, SECONDS)),
        "### Who uses the CPU while endpoints are created",
        table(["endpoints", *sizes], _rows(results, SHARES)),
    ]
    if any(result.raw for result in results):
        parts += ["### Where the operator's CPU goes, ms per endpoint", _parts([item for item in results if item.raw])]
    if rows := rivals(results):
        head = ["100 endpoints", "Berth", "operator A", "operator B", "times the best", f"≥ {TIMES_BETTER}"]
        parts += ["### Beside two other operators", table(head, rows), RIVALS_NOTE]
    return "\n\n".join(parts)


def _verdict(holds: bool | None) -> str:
    return "not measured" if holds is None else "yes" if holds else "**no**"


def _rows(results: Sequence[Result], cells: Mapping[str, Cell]) -> list[list[str]]:
    return [[what, *(cell(result) for result in results)] for what, cell in cells.items()]


def _parts(results: Sequence[Result]) -> str:
    rows = []
    for phase in WORK:
        parts = [result.cpu_parts(phase) for result in results]
        rows += [[f"{phase}: {name}", *(number(part[name]) for part in parts)] for name in parts[0]]
    return table(["endpoints", *(f"{result.count:,}" for result in results)], rows)


def _calls(result: Result) -> str:
    phases = [name for name in result.phases if name != "idle" or result.phases[name].calls]
    called = sorted({call for name in phases for call in result.phases[name].calls})
    rows = [
        [f"{verb} {resource}", *(str(result.phases[name].calls.get((verb, resource), "")) for name in phases)]
        for verb, resource in called
    ]
    return table(["", *phases], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
