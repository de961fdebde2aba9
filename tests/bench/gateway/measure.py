"""One load on one proxy: asked by the generator, counted by the stub too, with what the proxy used for it."""

import json
import select
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from local.daemons import DIES_WITH_US, wait_until
from tests.bench.gateway.processes import Cpu, busy_seconds, on
from tests.bench.gateway.proxies import Proxy, Site, Witness
from tests.bench.gateway.result import Latency, Memory, Work, percentiles

GRACE_SECONDS = 120.0
# A proxy closes connections a moment after its clients, and the last lines of a log come then, too.
SETTLE_SECONDS = 0.5
WARM_UP_SECONDS = 0.3


class Untrue(RuntimeError):
    """What was measured is not what was asked for: an error, or counts that differ."""


@dataclass(frozen=True)
class Loads:
    """How much of everything. streams: number of streams, events of each, milliseconds between them."""

    plain_connections: int = 64
    plain_seconds: float = 3.0
    paced_connections: int = 4
    paced_rate: float = 200.0
    paced_seconds: float = 4.0
    streams: tuple[tuple[int, int, int], ...] = ((200, 250, 40), (1000, 50, 200))
    open_streams: tuple[int, ...] = (1000, 5000)
    endpoints: tuple[int, ...] = (10, 1000, 5000)


class Measure:
    """Measures at one site."""

    def __init__(self, site: Site, loads: Loads) -> None:
        self._site = site
        self.loads = loads

    def plain(self, proxy: Proxy) -> Work:
        """Requests, as many as are answered."""
        return self._plain(proxy, self.loads.plain_connections, self.loads.plain_seconds)

    def _plain(self, proxy: Proxy, connections: int, seconds: float) -> Work:
        flags = ["-connections", str(connections), "-seconds", str(seconds)]
        told, work = self._asked(proxy, "plain", flags)
        return Work(told["answered"], told["seconds"], *work)

    def warm_up(self, proxy: Proxy) -> None:
        """So that nothing is done for the first time later. On few connections, as they leave memory behind."""
        self._plain(proxy, self.loads.paced_connections, WARM_UP_SECONDS)

    def events(self, proxy: Proxy, streams: int, events: int, gap_ms: int) -> Work:
        """Events of streams."""
        flags = ["-streams", str(streams), "-events", str(events), "-gap-ms", str(gap_ms)]
        told, work = self._asked(proxy, "streams", flags)
        if told["events"] != streams * events:
            raise Untrue(f"{proxy.name}: {told['events']} events came, not {streams * events}")
        return Work(told["events"], told["seconds"], *work, told["reads"], percentiles(told["microseconds"]))

    def latency(self, proxy: Proxy) -> Latency:
        """Few requests, to the proxy and to the stub in turns."""
        loads = self.loads
        flags = ["-connections", loads.paced_connections, "-rate", loads.paced_rate, "-seconds", loads.paced_seconds]
        against = ["-against", ",".join(self._site.stub.targets)]
        told, _ = self._asked(proxy, "paced", [*map(str, flags), *against])
        proxied, direct = map(percentiles, told["microseconds"])
        return Latency(direct, proxied)

    def memory(self, proxy: Proxy) -> Memory:
        """Of a proxy that has just been started."""
        process = proxy.process
        assert process is not None
        self.warm_up(proxy)
        before = self._site.stub_counts()["left"]
        idle, found = process.pss_bytes(), {}
        steps = ",".join(map(str, self.loads.open_streams))
        command = self._command("open", proxy, ["-steps", steps])
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        ) as load:
            try:
                for streams in self.loads.open_streams:
                    assert load.stdin and load.stdout and load.stderr
                    ready, _, _ = select.select([load.stdout], [], [], GRACE_SECONDS)
                    said = load.stdout.readline().decode().strip() if ready else "nothing for too long"
                    if said != f"open {streams}":
                        load.kill()
                        raise Untrue(f"{proxy.name}, {streams} open streams: {said} {load.stderr.read().decode()}")
                    found[streams] = process.pss_bytes()
                    load.stdin.write(b"\n")
                    load.stdin.flush()
                load.wait(GRACE_SECONDS)
            finally:
                load.kill()
        gone = before + max(self.loads.open_streams)
        what = f"the stub to see that the clients of {proxy.name} are gone"
        wait_until(lambda: self._site.stub_counts()["left"] == gone, what, GRACE_SECONDS, process.runs, process.log)
        return Memory(idle, found)

    def _asked(self, proxy: Proxy, load: str, flags: Sequence[str]) -> tuple[Any, tuple[float, float, float]]:
        """What the generator tells; CPU-seconds of the proxy, user and system; share of others in its core.

        Raises Untrue when anything went wrong, or when the stub or the proxy itself has counted something else.
        """
        core, process = self._site.cores.proxy, proxy.process
        stub, said = self._site.stub_counts(), proxy.witness and proxy.witness()
        begun, busy, before = time.monotonic(), busy_seconds(core), process and process.cpu()
        told = self._told(proxy, load, flags)
        time.sleep(SETTLE_SECONDS)
        used = process.cpu().since(before) if process and before else Cpu(0.0, 0.0)
        others = max(0.0, busy_seconds(core) - busy - used.seconds) / (time.monotonic() - begun)
        answered = told["answered"] if load == "paced" else [told["answered"]]
        agree(proxy.name, sum(answered), told.get("events", 0), stub, self._site.stub_counts())
        if said and proxy.witness:
            agrees_itself(proxy.name, answered[0], said, proxy.witness())
        return told, (used.user, used.system, others)

    def _told(self, proxy: Proxy, load: str, flags: Sequence[str]) -> Any:
        command = self._command(load, proxy, flags)
        limit = self.loads.plain_seconds + self.loads.paced_seconds + GRACE_SECONDS
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
        except subprocess.TimeoutExpired:
            raise Untrue(f"{proxy.name}: no end of the load `{load}` after {limit:.0f} s") from None
        if done.returncode:
            raise Untrue(f"{proxy.name}: {done.stderr.strip() or f'exit code {done.returncode}'}")
        return json.loads(done.stdout)

    def _command(self, load: str, proxy: Proxy, flags: Sequence[str]) -> list[str]:
        program = str(self._site.programs["load"])
        asked = ["-targets", ",".join(proxy.targets), "-models", ",".join(proxy.models)]
        return [*DIES_WITH_US, *on(self._site.cores.rest), program, load, *asked, *flags]


def agree(name: str, answered: int, events: int, before: dict[str, int], after: dict[str, int]) -> None:
    """Raises Untrue unless the stub did just what the generator got."""
    did = {key: after[key] - before[key] for key in after}
    if (did["plain"] + did["streams"], did["events"], did["left"], did["refused"]) != (answered, events, 0, 0):
        raise Untrue(f"{name}: the generator got {answered} answers and {events} events, the stub says {did}")


def agrees_itself(name: str, answered: int, before: Witness, after: Witness) -> None:
    """Raises Untrue unless the gateway counted just what the generator got, and wrote it down."""
    did = {code: count - before.requests.get(code, 0) for code, count in after.requests.items()}
    if {code: count for code, count in did.items() if count} != {"200": answered}:
        raise Untrue(f"{name}: the generator got {answered} answers, its metrics say {did}")
    if after.lost > before.lost:
        raise Untrue(f"{name}: its access log lost {after.lost - before.lost} lines, which spared it some work")
