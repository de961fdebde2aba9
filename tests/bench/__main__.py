"""`make bench`: measure the operator at several sizes and write docs/benchmarks.md.

BENCH_SIZES: numbers of endpoints, separated by commas.  BENCH_IDLE_SECONDS: how long nothing happens, at the largest.
Exit code 1 when a bound does not hold, 2 for a wrong setting.
"""

import asyncio
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from local import locks
from local.controlplane import ControlPlane
from local.errors import LocalError
from local.progress import say, step
from tests.bench.report import BEGIN, END, bounds, render
from tests.bench.result import Result
from tests.bench.rig import Rig
from tests.bench.scenario import Phase, Scenario

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
STATE = ROOT / ".local" / "bench"
LOCK = Path(tempfile.gettempdir()) / f"berth-bench-{os.getuid()}.lock"
NAMESPACE = "bench"
# With fewer, a rate is that of an API server that has just started.
RAW_FROM = 100


def measure(state: Path, count: int, idle_seconds: float) -> Result:
    """One size: raw writes, the operator, raw writes again, each on a control plane of its own."""
    wanted = count >= RAW_FROM
    before = [raw(state, count)] if wanted else []
    with rig(state) as running, running.player() as player:
        phases = asyncio.run(all_phases(Scenario(running, player, count), idle_seconds))
        kubernetes = running.kubernetes_version()
    after = [raw(state, count)] if wanted else []
    return Result(count, phases, [*before, *after], idle_seconds, kubernetes)


async def all_phases(scenario: Scenario, idle_seconds: float) -> dict[str, Phase]:
    """The phases of a whole scenario."""
    async with scenario:
        await scenario.run(idle_seconds)
    return scenario.phases


def raw(state: Path, count: int) -> dict[str, float]:
    """Writes without an operator."""
    with rig(state) as running, running.player(), step(f"{count} endpoints: the same writes without an operator"):
        return running.raw(count)


@contextmanager
def rig(state: Path) -> Iterator[Rig]:
    """A fresh control plane."""
    with ControlPlane(state / "control-plane") as control_plane:
        yield Rig(control_plane, NAMESPACE, state)


def machine(kubernetes: str) -> str:
    """Where this ran, as far as it explains the seconds."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"Measured on {os.cpu_count()} cores with {memory:.0f} GiB, Python {platform.python_version()}, Kubernetes "
        f"{kubernetes}; the operator, etcd, kube-apiserver, kube-controller-manager and the played kubelet share them."
    )


def write_page(text: str) -> None:
    """Replace what is between the markers."""
    head, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def main() -> int:
    """Returns the exit code."""
    given = os.environ.get("BENCH_SIZES", "1,10,100,500,1000"), os.environ.get("BENCH_IDLE_SECONDS", "600")
    try:
        sizes, idle_seconds = sorted({int(size) for size in given[0].split(",")}), float(given[1])
        if not sizes or sizes[0] < 1 or idle_seconds < 0:
            raise ValueError
    except ValueError:
        print(f"BENCH_SIZES={given[0]} BENCH_IDLE_SECONDS={given[1]}: not numbers, or below 1 and 0", file=sys.stderr)
        return 2
    results = []
    with locks.held(LOCK, "benchmarks of one machine take turns"):
        for size in sizes:
            results.append(measure(STATE, size, idle_seconds if size == sizes[-1] else 0.0))
    write_page(render(results, machine(results[-1].kubernetes)))
    broken = [item for item in bounds(results) if item.holds is False]
    for item in broken:
        say(f"does not hold: {item.what} {item.limit}, found {item.found}")
    shutil.rmtree(STATE)
    say(f"written: {PAGE.relative_to(ROOT)}")
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (LocalError, RuntimeError, TimeoutError, aiohttp.ClientError) as error:
        sys.exit(f"error: {error}; logs are in {STATE.relative_to(ROOT)}")
    except KeyboardInterrupt:
        sys.exit(130)
