"""The benchmark of the gateway: its figures, from results made up here, and that generator and stub tell the truth."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from berth_gateway.access import Access, allows
from berth_gateway.table import Table
from tests.bench.gateway import __main__ as page
from tests.bench.gateway import played, programs, several
from tests.bench.gateway.measure import Loads, Measure, Untrue, agree, agrees_itself
from tests.bench.gateway.processes import Cores, on, running
from tests.bench.gateway.proxies import DIRECT, GATEWAY, GO, NGINX, Proxy, Site, Witness, witness
from tests.bench.gateway.report import END, bounds, disturbed, render
from tests.bench.gateway.result import Latency, Memory, Results, Work, percentiles, ratio

PODS = ["127.0.0.1:8000", "127.0.0.2:8000", "127.0.0.3:8000"]

# What a request or event costs by what it costs nginx.
REQUEST = {NGINX: 1.0, GO: 5.0, GATEWAY: 2.0}
EVENT = {NGINX: 1.0, GO: 2.0, GATEWAY: 1.2}


def work(cost: float, round_: int = 0) -> Work:
    """1,000 answers in half a second, each for `cost` × 16 µs; later rounds are dearer for all."""
    seconds = cost * 16e-3 * (1 + 0.1 * round_)
    return Work(1000, 0.5, seconds / 4, seconds * 3 / 4, 0.03, 1000, (100.0, 400.0))


def results(
    *, rounds: int = 5, added: float = 100.0, stream_kb: float = 8.0, growth: float = 1.0, **cost: float
) -> Results:
    """A run of which all bounds and aims hold, unless the gateway is given other costs."""
    request, event = REQUEST | {GATEWAY: cost.get("request", 2.0)}, EVENT | {GATEWAY: cost.get("event", 1.2)}
    turns = range(rounds)
    memory = {name: Memory(10_000_000, {1000: 10_000_000 + int(stream_kb * 1e6)}) for name in REQUEST}
    latency = {NGINX: 80.0, GO: 100.0, GATEWAY: added}
    return Results(
        plain={name: [work(each, turn) for turn in turns] for name, each in request.items()}
        | {DIRECT: [Work(1000, 0.02)] * rounds},
        events={
            200: {name: [work(each, turn) for turn in turns] for name, each in event.items()}
            | {DIRECT: [Work(1000, 0.2, reads=1000)] * rounds}
        },
        latency={name: [Latency((50.0, 200.0), (50.0 + each, 500.0))] * rounds for name, each in latency.items()},
        memory={name: [each] * rounds for name, each in memory.items()},
        endpoints={10: [work(2.0)] * rounds, 5000: [work(2.0 * growth)] * rounds},
    )


def broken(found: Results) -> list[str]:
    return [bound.what for bound in bounds(found) if not bound.met]


def test_what_keeps_every_bound_and_aim_breaks_none() -> None:
    assert broken(results()) == []
    assert {bound.verdict for bound in bounds(results())} == {"met, and the aim"}


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (results(request=3.1), ["CPU of a request by nginx"]),
        (results(request=4.1), ["CPU of a request by nginx", "CPU of a request by Go"]),
        (results(event=1.5), ["CPU of an event by nginx, 200 streams"]),
        (results(event=1.7), ["CPU of an event by nginx, 200 streams", "CPU of an event by Go, 200 streams"]),
        (results(stream_kb=17.1), ["memory of an open stream, of 1,000"]),
        (results(added=151), ["added p50 by Go"]),
        (results(growth=1.3), ["CPU of a request with 5,000 known endpoints by that with 10"]),
    ],
)
def test_a_bound_that_is_broken_is_named(found: Results, what: list[str]) -> None:
    assert broken(found) == what


def test_a_bound_without_its_aim_is_met_and_no_more() -> None:
    assert {bound.what: bound.verdict for bound in bounds(results(request=2.3))}["CPU of a request by nginx"] == "met"


def test_the_ratio_is_that_of_the_medians_with_those_of_the_rounds_beside_it() -> None:
    found = ratio([10.0, 12.0, 40.0], [10.0, 10.0, 20.0])
    assert (found.value, found.least, found.most) == (1.2, 1.0, 2.0)


def test_more_than_nothing_is_no_ratio_that_meets_a_bound() -> None:
    assert ratio([5.0], [0.0]).value == ratio([5.0], [-1.0]).value == float("inf")


def test_cpu_is_divided_by_what_was_answered() -> None:
    half = Work(500, 0.5, 0.004, 0.012)
    assert half.cpu_microseconds == pytest.approx(2 * Work(1000, 0.5, 0.004, 0.012).cpu_microseconds)
    assert (half.rate, half.share_of_core, half.share_of_kernel) == pytest.approx((1000, 0.032, 0.75))


def test_percentiles_of_one_and_of_many() -> None:
    assert percentiles([7]) == (7, 7)
    assert percentiles(list(range(100, 0, -1))) == (51, 100)


def test_the_page_has_every_proxy_and_verdict() -> None:
    text = render(results(event=1.5), "Measured somewhere.", "| gateways |")
    assert "|  | direct | nginx | Go | Berth |" in text
    assert "| CPU of a request, µs | – | 19.2 (16.0 … 22.4) | 96.0 (80.0 … 112.0) | 38.4 (32.0 … 44.8) |" in text
    assert "| CPU by Go | – | 0.20 | 1.00 | 0.40 |" in text
    assert "| of an open stream, of 1,000, KB | – | 8.0 | 8.0 | 8.0 |" in text
    assert "| added to p50, µs | – | 80 | 100 | 100 |" in text
    assert "| CPU of an event by nginx, 200 streams | ≤ 1.4 | ≤ 1.2 | 1.5 | 1.5 … 1.5 | **not met** |" in text
    assert "| known endpoints | 10 | 5,000 |" in text
    assert disturbed(results()) == 0.03


def test_the_page_keeps_what_is_around_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tmp_path / "page.md"
    written.write_text(page.PAGE.read_text())
    monkeypatch.setattr(page, "PAGE", written)
    page.write_page("the first")
    page.write_page("the second")
    text = written.read_text()
    assert "the second" in text
    assert "the first" not in text
    assert text.startswith("# Benchmarks: the gateway")
    assert text.endswith(f"the second\n\n{END}\n")


BEFORE = {"connections": 9, "plain": 5, "streams": 1, "events": 10, "left": 2, "refused": 0}


@pytest.mark.parametrize(
    "more", [{"plain": 6}, {"plain": 8}, {"streams": 2}, {"plain": 7, "events": 11}, {"plain": 7, "left": 3}]
)
def test_a_stub_that_did_something_else_spoils_the_run(more: dict[str, int]) -> None:
    agree("nginx", 2, 0, BEFORE, BEFORE | {"plain": 7, "connections": 12})
    with pytest.raises(Untrue, match="nginx: the generator got 2 answers"):
        agree("nginx", 2, 0, BEFORE, BEFORE | more)


METRICS = """# HELP berth_gateway_requests_total Requests
berth_gateway_requests_total{api="OpenAI",code="200",endpoint="a",namespace="team",owner="bench"} 3.0
berth_gateway_requests_total{api="OpenAI",code="200",endpoint="b",namespace="team",owner="bench"} 4.0
berth_gateway_requests_total{api="OpenAI",code="401",endpoint="",namespace="",owner=""} 1.0
berth_gateway_log_lines_lost_total 2.0
"""


def test_a_gateway_that_counted_something_else_spoils_the_run() -> None:
    found = witness(METRICS)
    assert found == Witness({"200": 7, "401": 1}, 2)
    agrees_itself("Berth", 7, Witness({"401": 1}, 2), found)
    with pytest.raises(Untrue, match="got 8 answers"):
        agrees_itself("Berth", 8, Witness({"401": 1}, 2), found)
    with pytest.raises(Untrue, match="got 7 answers"):
        agrees_itself("Berth", 7, Witness({}, 2), found)
    with pytest.raises(Untrue, match="lost 1 lines"):
        agrees_itself("Berth", 7, Witness({"401": 1}, 1), found)


def test_the_gateway_understands_the_played_cluster() -> None:
    table, access = Table(), Access()
    for number in range(3):
        table.put_endpoint(played.endpoint(number))
        table.put_slice(played.endpoint_slice(number, PODS))
    access.put_secret(played.secret("berth-system", "the-key"))
    endpoint = table.find(played.name_of(2))
    assert endpoint is not None
    assert [f"{pod.host}:{pod.port}" for pod in endpoint.ready] == PODS
    caller = access.caller([(b"authorization", b"Bearer the-key")])
    assert caller is not None
    assert caller.owner == played.OWNER
    assert allows(caller, endpoint)
    assert access.problems == {}


def test_fewer_requests_are_known_to_each_of_more_gateways() -> None:
    means = [several.simulate(gateways, 4, 8).mean for gateways in (1, 2, 4, 8)]
    assert all(fewer < more for fewer, more in pairwise(means))
    assert means[0] < 1
    assert means[-1] < several.simulate(0, 4, 8).mean


# The programs themselves.


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With the stub running."""
    allowed = sorted(os.sched_getaffinity(0))
    state = tmp_path_factory.mktemp("bench")
    found = Site(programs.built(), Cores(allowed[0], allowed[-1]), state)
    with found.stub_running():
        yield found


LOADS = Loads(
    plain_connections=4, plain_seconds=0.1, paced_connections=2, paced_rate=100, paced_seconds=0.2, open_streams=(3,)
)


def test_the_generator_gets_what_the_stub_has_answered(site: Site) -> None:
    measured = Measure(site, LOADS)
    before = site.stub_counts()
    plain = measured.plain(site.stub)
    assert plain.answered == site.stub_counts()["plain"] - before["plain"] > 4
    events = measured.events(site.stub, 6, 5, 20)
    assert events.answered == site.stub_counts()["events"] - before["events"] == 30
    assert events.seconds > 0.08
    assert 0 < events.microseconds[0] <= events.microseconds[1]


def test_paced_requests_take_turns(site: Site) -> None:
    found = Measure(site, LOADS).latency(site.stub)
    assert min(*found.direct, *found.proxied) > 0


def test_the_go_proxy_passes_streams_on_and_its_cpu_and_memory_are_counted(site: Site) -> None:
    measured = Measure(site, LOADS)
    with site.go() as proxy:
        plain = measured.plain(proxy)
        assert 0 < plain.share_of_core < 1.1
        assert measured.events(proxy, 6, 5, 20).answered == 30
        memory = measured.memory(proxy)
        assert memory.idle > 1_000_000
        assert memory.open.keys() == {3}
        process = proxy.process
        assert process is not None
    assert not process.runs()


def test_a_process_is_ended_when_the_run_is_interrupted(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo begun; exec sleep 60"]
    with pytest.raises(KeyboardInterrupt), running(command, min(os.sched_getaffinity(0)), tmp_path / "log") as process:
        process.wait_for("begun")
        raise KeyboardInterrupt
    assert not process.runs()


def test_cpu_and_memory_are_those_of_the_children_too(tmp_path: Path) -> None:
    burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo burnt; exec sleep 60"
    with running(["sh", "-c", f"sh -c '{burn}' & wait"], min(os.sched_getaffinity(0)), tmp_path / "log") as process:
        process.wait_for("burnt")
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        assert process.cpu().seconds > own
        assert process.pss_bytes() > 100_000
        os.kill(int(child), 15)


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def answering(answer: Callable[[], bytes]) -> Iterator[str]:
    """A server that gives this answer to whatever comes, on each connection once, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer())

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def real_answer(site: Site, more: dict[str, object]) -> bytes:
    """What the stub sends, read to its end."""
    host, _, port = site.stub.targets[0].rpartition(":")
    body = json.dumps(more, separators=(",", ":")).encode()
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def load(site: Site, kind: str, target: str) -> subprocess.CompletedProcess[str]:
    """One stream of three events, or requests on one connection."""
    flags = ["-connections", "1", "-seconds", "0.05", "-streams", "1", "-events", "3", "-gap-ms", "1"]
    command = [*on(site.cores.rest), str(site.programs["load"]), kind, "-targets", target, *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda answer: answer.replace(b"200 OK", b"503 Oh no"), "answered: "),
        (lambda answer: answer.replace(b"wwww", b"wvww"), "answered something else"),
        (lambda answer: answer[:-1], "no answer, or half of one"),
        (lambda answer: answer + b"x", "answered something else"),
        (lambda answer: answer.replace(b"600", b"599", 1), "a length of 599, not 600"),
    ],
)
def test_a_wrong_answer_is_not_counted_but_ends_the_run(site: Site, spoil: Callable[[bytes], bytes], says: str) -> None:
    answer = real_answer(site, {})
    with answering(lambda: spoil(answer)) as target:
        done = load(site, "plain", target)
    assert done.returncode == 1
    assert says in done.stderr
    with pytest.raises(Untrue, match="connection refused"):
        Measure(site, LOADS).plain(Proxy("gone", (target,)))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda answer: answer, ""),
        (lambda answer: answer.replace(b'"n":"0000001"', b'"n":"0000002"'), "event 1 is not what was sent"),
        (lambda answer: answer[: answer.index(b'fe\r\ndata: {"n":"0000002"')] + b"0\r\n\r\n", "after 2 of 3 events"),
        (lambda answer: answer[: answer.index(b'fe\r\ndata: {"n":"0000002"')], "no answer, or half of one"),
        (lambda answer: answer.replace(b"[DONE]", b"[DONG]"), "ended a stream with"),
        (lambda answer: answer.removesuffix(b"0\r\n\r\n"), "no answer, or half of one"),
        (lambda answer: answer.replace(b"fe\r\n", b"fd\r\n", 1), "another size than it says"),
    ],
)
def test_a_stream_that_is_not_whole_ends_the_run(site: Site, spoil: Callable[[bytes], bytes], says: str) -> None:
    answer = real_answer(site, {"stream": True, "events": 3, "gap_ms": 1})
    with answering(lambda: spoil(answer)) as target:
        done = load(site, "streams", target)
    assert (done.returncode, says in done.stderr) == (1 if says else 0, True)
    if not says:
        assert json.loads(done.stdout)["events"] == 3
