"""`make bench-gateway`: the gateway against nginx and a Go proxy, into docs/benchmarks-gateway.md.

BENCH_GATEWAY_ROUNDS: how often everything is measured; fewer than 5 are told on standard output, not on the page.
Exit code 1 when a bound does not hold or anything went wrong, 2 for a wrong setting.
"""

import contextlib
import os
import platform
import re
import resource
import secrets
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from local import locks
from local.errors import LocalError
from local.progress import duration, say, step
from tests.bench.gateway import programs, several
from tests.bench.gateway.measure import Loads, Measure, Untrue
from tests.bench.gateway.processes import ROOT, cores
from tests.bench.gateway.proxies import DIRECT, PROXIES, Proxy, Site
from tests.bench.gateway.report import BEGIN, END, bounds, disturbed, render, table
from tests.bench.gateway.result import Results

PAGE = ROOT / "docs" / "benchmarks-gateway.md"
STATE = ROOT / ".local" / "bench-gateway"
LOCK = Path(tempfile.gettempdir()) / f"berth-bench-{os.getuid()}.lock"
LEAST_ROUNDS = 5
# Of the proxy's core that something else may use before a person should know.
MOST_DISTURBED = 0.1


def measure(site: Site, loads: Loads, rounds: int) -> Results:
    """Everything, in turns: each round begins with another proxy."""
    results, measured = Results(), Measure(site, loads)
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(site.stub_running())]
        with step("starting nginx, the Go proxy and gateways"):
            running += [stack.enter_context(site.start(name)) for name in PROXIES]
            sizes = {count: stack.enter_context(site.gateway(count)) for count in loads.endpoints}
            for proxy in (*running, *sizes.values()):
                measured.warm_up(proxy)
        for number in range(rounds):
            begun = time.monotonic()
            say(f"round {number + 1} of {rounds}")
            turn = number % len(running)
            _round(measured, running[turn:] + running[:turn], results)
            turn = number % len(sizes)
            for count in (*loads.endpoints[turn:], *loads.endpoints[:turn]):
                with step(f"a gateway that knows {count:,} endpoints"):
                    results.endpoints.setdefault(count, []).append(measured.plain(sizes[count]))
            for name in PROXIES:
                with step(f"{name}: memory"), site.start(name) as fresh:
                    results.memory.setdefault(name, []).append(measured.memory(fresh))
            say(f"round {number + 1} took {duration(time.monotonic() - begun)}")
    results.endpoints = dict(sorted(results.endpoints.items()))
    return results


def _round(measured: Measure, proxies: list[Proxy], results: Results) -> None:
    # One load after the other, as the machine is another one a minute later.
    with step("requests"):
        for proxy in proxies:
            results.plain.setdefault(proxy.name, []).append(measured.plain(proxy))
    for streams, events, gap_ms in measured.loads.streams:
        found = results.events.setdefault(streams, {})
        with step(f"events of {streams:,} streams"):
            for proxy in proxies:
                found.setdefault(proxy.name, []).append(measured.events(proxy, streams, events, gap_ms))
    with step("latency"):
        for proxy in proxies:
            if proxy.name != DIRECT:
                results.latency.setdefault(proxy.name, []).append(measured.latency(proxy))


def machine(nginx: Path, results: Results) -> str:
    """Where this ran, as far as it explains the figures."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return (
        f"Measured on {os.cpu_count()} cores{f' ({found[1]})' if found else ''}, Linux {platform.release()}; nginx "
        f"{programs.nginx_version(nginx)}, Go {programs.go_version()}, Python {platform.python_version()}, uvloop "
        f"{version('uvloop')}. Medians of {results.rounds} rounds, least and most behind them. Anything else used "
        f"at most {disturbed(results):.0%} of the proxy's core."
    )


def files_suffice(loads: Loads) -> None:
    """Raises the limit of open files as far as it goes. Raises LocalError when that does not do."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * max(loads.open_streams) + 2000
    if most != resource.RLIM_INFINITY and most < needed:
        raise LocalError(f"a process here may have {most} open files; the bench needs {needed}: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed if most == resource.RLIM_INFINITY else most, most))


def write_page(text: str) -> None:
    """Replace what is between the markers."""
    head, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def main() -> int:
    """Returns the exit code."""
    given = os.environ.get("BENCH_GATEWAY_ROUNDS", str(LEAST_ROUNDS))
    if not given.isdecimal() or int(given) < 1:
        print(f"BENCH_GATEWAY_ROUNDS={given}: not a number above 0", file=sys.stderr)
        return 2
    rounds, loads = int(given), Loads()
    files_suffice(loads)
    paths = {**programs.built(), "nginx": programs.nginx()}
    chosen = cores()
    os.sched_setaffinity(0, {chosen.rest})
    os.environ["BENCH_KEY"] = secrets.token_hex(32)
    with locks.held(LOCK, "benchmarks of one machine take turns"):
        shutil.rmtree(STATE, ignore_errors=True)
        STATE.mkdir(parents=True)
        results = measure(Site(paths, chosen, STATE), loads, rounds)
    with step("several gateways, simulated"):
        simulated = table(several.head(), several.rows())
    text = render(results, machine(paths["nginx"], results), simulated)
    shutil.rmtree(STATE)
    if disturbed(results) > MOST_DISTURBED:
        say(f"other programs used up to {disturbed(results):.0%} of the proxy's core: measure again on a quiet machine")
    if rounds < LEAST_ROUNDS:
        print(text)
        say(f"not written: the page is of {LEAST_ROUNDS} rounds or more")
    else:
        write_page(text)
        say(f"written: {PAGE.relative_to(ROOT)}")
    broken = [bound for bound in bounds(results) if not bound.met]
    for bound in broken:
        say(f"not met: {bound.what} ≤ {bound.must:g}{bound.unit}, found {bound.found.value:.3g}{bound.unit}")
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (LocalError, Untrue, OSError) as error:
        sys.exit(f"error: {error}; logs are in {STATE.relative_to(ROOT)}")
    except KeyboardInterrupt:
        sys.exit(130)
