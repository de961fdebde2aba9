"""`make bench-scaling`: the operator's scaling against other policies, simulated, into docs/benchmarks-scaling.md.

Nothing of it depends on the machine: the same code gives the same page.
"""

import sys
from pathlib import Path

from berth.cli.markdown import table
from local.progress import say, step
from tests.bench.scaling.front import Cell, ahead, mean
from tests.bench.scaling.policies import POLICIES
from tests.bench.scaling.simulate import Plant, simulate
from tests.bench.scaling.traces import TRACES, Trace

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "benchmarks-scaling.md"
BEGIN, END = "<!-- results: begin, written by make bench-scaling -->", "<!-- results: end -->"
COLD_STARTS = (10.0, 60.0, 300.0, 600.0)
DRAWS = 4
OURS = "Berth"

Row = dict[str, Cell]
Found = dict[float, Row]


def measure(trace: Trace) -> Found:
    """By cold start and policy, the means of some draws of the load."""
    draws = [trace.requests(seed) for seed in range(DRAWS)]
    found: Found = {}
    for cold_start in COLD_STARTS:
        plant = Plant(cold_start, trace.min)
        found[cold_start] = {}
        for name, policy in POLICIES.items():
            results = [simulate(requests, trace.seconds, plant, policy(plant)) for requests in draws]
            found[cold_start][name] = mean(
                Cell(one.p95_wait_seconds, one.failed, one.gpu_hours, one.changes_of_direction, len(one.waits))
                for one in results
            )
    return found


def described(cell: Cell) -> str:
    """p95 wait, GPU-hours, changes of direction and, if there are any, failed holds."""
    wait = f"{cell.p95_wait_seconds:.1f}" if cell.p95_wait_seconds < 10 else f"{cell.p95_wait_seconds:.0f}"
    failed = f", {cell.failed:.0f} failed" if round(cell.failed) else ""
    return f"{wait} s, {cell.gpu_hours:.2f} h, {cell.changes_of_direction:.0f}{failed}"


def rows(found: Found) -> list[list[str]]:
    """One for each cold start; the last column says who does better than Berth."""
    return [
        [f"{cold_start:.0f} s", *map(described, row.values()), ", ".join(ahead(OURS, row)) or "yes"]
        for cold_start, row in found.items()
    ]


def summary(measured: dict[Trace, Found]) -> list[list[str]]:
    """How many cells each policy has on the front: of each load, and of those of each sort."""
    listed = []
    for held_out in (False, True):
        chosen = {trace: list(found.values()) for trace, found in measured.items() if trace.held_out is held_out}
        listed += [_on_front(f"{trace.name}, {label(held_out)}", cells) for trace, cells in chosen.items()]
        listed.append(_on_front(f"*all {label(held_out)}*", [row for cells in chosen.values() for row in cells]))
    return listed


def _on_front(what: str, cells: list[Row]) -> list[str]:
    return [what, *(f"{sum(not ahead(name, row) for row in cells)} of {len(cells)}" for name in POLICIES)]


def totals(measured: dict[Trace, Found]) -> list[list[str]]:
    """Mean p95 wait and GPU-hours in all, and changes of direction in an hour, over everything."""
    cells = [(trace, row) for trace, found in measured.items() for row in found.values()]
    hours = sum(trace.seconds for trace, _ in cells) / 3600
    return [
        [
            name,
            f"{sum(row[name].p95_wait_seconds for _, row in cells) / len(cells):.0f} s",
            f"{sum(row[name].failed for _, row in cells):.0f}",
            f"{sum(row[name].gpu_hours for _, row in cells):.0f}",
            f"{sum(row[name].changes_of_direction for _, row in cells) / hours:.1f}",
        ]
        for name in POLICIES
    ]


def label(held_out: bool) -> str:
    """How the page says it."""
    return "set aside" if held_out else "tuned on"


def render(measured: dict[Trace, Found]) -> str:
    """What stands between the markers of the page."""
    parts = [
        "Cells on the front:",
        table(["load", *POLICIES], summary(measured)),
        "Over all cells:",
        table(
            ["policy", "mean of p95 waits", "failed holds", "GPU-hours", "changes of direction per hour"],
            totals(measured),
        ),
        f"Each cell: p95 wait, GPU-hours, changes of direction; means of {DRAWS} draws.",
    ]
    for trace, found in measured.items():
        parts.append(f"### {trace.name}, {label(trace.held_out)}")
        parts.append(table(["cold start", *POLICIES, "Berth on the front"], rows(found)))
    return "\n\n".join(parts)


def write(measured: dict[Trace, Found]) -> None:
    """Replaces what is between the markers."""
    head, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{render(measured)}\n\n{END}{rest.split(END)[1]}")


def main() -> int:
    """Returns the exit code."""
    measured = {}
    for trace in TRACES:
        with step(f"{trace.name}, {label(trace.held_out)}"):
            measured[trace] = measure(trace)
    write(measured)
    say(f"written: {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
