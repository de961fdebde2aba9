"""What is compared: the stub upstream alone, nginx, a Go proxy and Berth's gateway, each ready to be asked."""

import contextlib
import json
import os
import re
import shutil
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from local.daemons import wait_until
from tests.bench.gateway.played import name_of
from tests.bench.gateway.processes import ROOT, Cores, Process, running

DIRECT, NGINX, GO, GATEWAY = "direct", "nginx", "Go", "Berth"
PROXIES = (NGINX, GO, GATEWAY)

STUB_ADDRESSES = ("127.0.60.1", "127.0.60.2", "127.0.60.3")
NGINX_ADDRESS, GO_ADDRESS, API_ADDRESS = "127.0.60.4", "127.0.60.5", "127.0.60.6"
NAMESPACE = "berth-system"
# Far from the default, at which a gateway of the machine's own cluster may listen.
FIRST_ENDPOINT_PORT = 26000
ENDPOINT_PORTS = 500
MOST_MODELS = 10

# One process: a master has nothing to do with what is measured, and would leave its worker behind when it is killed.
NGINX_CONF = """
daemon off; master_process off; pid {state}/nginx.pid; error_log stderr warn;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_body_temp_path {state}/nginx-1; proxy_temp_path {state}/nginx-2; fastcgi_temp_path {state}/nginx-3;
  uwsgi_temp_path {state}/nginx-4; scgi_temp_path {state}/nginx-5;
  upstream pods {{ {servers} keepalive 64; keepalive_requests 1000000000; keepalive_timeout 1h; }}
  server {{
    listen {listen} backlog=4096;
    location / {{
      proxy_pass http://pods; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 1h;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Proxy:
    """What is asked. targets: HOST:PORT.  models: names to ask for.  process: None of the stub itself.

    witness: what it says of itself, None where it says nothing.
    """

    name: str
    targets: tuple[str, ...]
    models: tuple[str, ...] = ("bench",)
    process: Process | None = None
    witness: Callable[[], "Witness"] | None = None


@dataclass(frozen=True)
class Witness:
    """Of the gateway's metrics: requests that ended, by status code; lines that its access log lost."""

    requests: Mapping[str, int]
    lost: int


class Site:
    """Starts them. programs: paths of stub, load, proxy and nginx."""

    def __init__(self, programs: Mapping[str, Path], cores: Cores, state: Path) -> None:
        self.programs = programs
        self.cores = cores
        self.state = state
        self._taken: set[int] = set()
        port = _free_port(STUB_ADDRESSES[0])
        self.stub = Proxy(DIRECT, tuple(f"{address}:{port}" for address in STUB_ADDRESSES))

    @contextlib.contextmanager
    def stub_running(self) -> Iterator[Proxy]:
        """The stub upstream, three pods of it."""
        command = [str(self.programs["stub"]), *self.stub.targets]
        with running(command, self.cores.rest, self.state / "stub.log") as process:
            process.wait_for("ready")
            yield self.stub

    def stub_counts(self) -> dict[str, int]:
        """What the stub has done so far."""
        with urllib.request.urlopen(f"http://{self.stub.targets[0]}/counts", timeout=30) as answer:
            found: dict[str, int] = json.load(answer)
        return found

    def start(self, name: str) -> contextlib.AbstractContextManager[Proxy]:
        """One of PROXIES."""
        return {NGINX: self.nginx, GO: self.go, GATEWAY: self.gateway}[name]()

    @contextlib.contextmanager
    def nginx(self) -> Iterator[Proxy]:
        """As a plain reverse proxy."""
        listen = f"{NGINX_ADDRESS}:{_free_port(NGINX_ADDRESS)}"
        conf = self.state / f"nginx-{listen}.conf"
        servers = " ".join(f"server {target};" for target in self.stub.targets)
        conf.write_text(NGINX_CONF.format(state=self.state, servers=servers, listen=listen))
        command = [str(self.programs["nginx"]), "-c", str(conf), "-p", str(self.state), "-e", "stderr"]
        with running(command, self.cores.proxy, self.state / "nginx.log") as process:
            yield _listening(Proxy(NGINX, (listen,), process=process))

    @contextlib.contextmanager
    def go(self) -> Iterator[Proxy]:
        """The one below go/proxy."""
        listen = f"{GO_ADDRESS}:{_free_port(GO_ADDRESS)}"
        command = [str(self.programs["proxy"]), listen, *self.stub.targets]
        with running(command, self.cores.proxy, self.state / "go.log") as process:
            yield _listening(Proxy(GO, (listen,), process=process))

    @contextlib.contextmanager
    def gateway(self, endpoints: int = MOST_MODELS) -> Iterator[Proxy]:
        """Berth's, as the chart runs it, in a cluster with so many endpoints; its access log goes into a pipe."""
        place = next(number for number in count() if number not in self._taken)
        self._taken.add(place)
        try:
            with self._gateway(place, endpoints) as proxy:
                yield proxy
        finally:
            self._taken.remove(place)

    @contextlib.contextmanager
    def _gateway(self, place: int, endpoints: int) -> Iterator[Proxy]:
        state = self.state / f"gateway-{place}"
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir()
        port = _free_port(API_ADDRESS)
        play = [sys.executable, "-m", "tests.bench.gateway.played"]
        arguments = [API_ADDRESS, str(port), str(endpoints), NAMESPACE, *self.stub.targets]
        (state / "kubeconfig").write_text(_kubeconfig(f"http://{API_ADDRESS}:{port}"))
        os.mkfifo(state / "access.pipe")
        serve = ["sh", "-c", 'exec "$@" >"$0"', str(state / "access.pipe"), sys.executable, "-m", "berth_gateway"]
        settings = {
            "PYTHONPATH": f"{ROOT / 'images' / 'gateway'}:{ROOT / 'images' / 'apis'}",
            "KUBECONFIG": str(state / "kubeconfig"),
            "BERTH_GATEWAY_NAMESPACE": NAMESPACE,
            "BERTH_GATEWAY_PORT": "0",
            "BERTH_GATEWAY_ADMIN_PORT": "0",
            "BERTH_GATEWAY_FIRST_ENDPOINT_PORT": str(FIRST_ENDPOINT_PORT + place * ENDPOINT_PORTS),
            "BERTH_GATEWAY_ENDPOINT_PORTS": str(ENDPOINT_PORTS),
            "BERTH_GATEWAY_FURTHER_SECONDS": "0",
            "BERTH_GATEWAY_DRAIN_SECONDS": "0",
        }
        api = running([*play, *arguments], self.cores.rest, state / "played.log", PYTHONPATH=str(ROOT))
        read = ["sh", "-c", 'exec cat "$0" >/dev/null', str(state / "access.pipe")]
        reader = running(read, self.cores.rest, state / "access.log")
        with api as played, reader:
            played.wait_for("playing")
            with running(serve, self.cores.proxy, state / "gateway.log", **settings) as process:
                port = _port(process.wait_for('"listening"'))
                admin = _port(process.wait_for('"admin_listening"'))
                target = f"127.0.0.1:{port}"
                step = max(1, endpoints // MOST_MODELS)
                models = tuple(name_of(number) for number in range(0, endpoints, step)[:MOST_MODELS])
                yield _listening(Proxy(GATEWAY, (target,), models, process, lambda: witness(_metrics(admin))))


def witness(metrics: str) -> Witness:
    """What the gateway's metrics say."""
    requests: dict[str, int] = {}
    for code, value in re.findall(r'^berth_gateway_requests_total\{.*\bcode="(\d+)".*\} (\S+)$', metrics, re.MULTILINE):
        requests[code] = requests.get(code, 0) + round(float(value))
    lost = re.search(r"^berth_gateway_log_lines_lost_total (\S+)$", metrics, re.MULTILINE)
    return Witness(requests, round(float(lost[1])) if lost else 0)


def _metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def _port(line: str) -> int:
    return int(json.loads(line)["port"])


def _listening(proxy: Proxy) -> Proxy:
    host, _, port = proxy.targets[0].rpartition(":")
    process = proxy.process
    assert process is not None
    wait_until(lambda: _answers(host, int(port)), proxy.name, 60, process.runs, process.log)
    return proxy


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def _kubeconfig(server: str) -> str:
    return json.dumps(
        {
            "current-context": "bench",
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
            "clusters": [{"name": "bench", "cluster": {"server": server}}],
            "users": [{"name": "bench", "user": {}}],
        }
    )
