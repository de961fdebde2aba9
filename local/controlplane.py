"""A throwaway control plane for tests: etcd, kube-apiserver, kube-controller-manager and, on demand, kube-scheduler.

No root, free loopback ports, several at once.
"""

import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from local import pki, tools
from local.components import Site, answers, api_client, commands, write_files
from local.daemons import spawn, wait_until
from local.errors import LocalError

_START_SECONDS = 60.0
_TOKEN_SECONDS = 24 * 3600


class ControlPlane:
    """A throwaway control plane in the directory `path`, for the length of a `with` block.

    It ends with the block, on Ctrl-C, and when this process is killed. It must be entered in a thread that lives as
    long (the main thread does). What an earlier one stored in `path` is removed first.

    kubeconfig: an administrator's.  audit_log: every finished request as one JSON line, at level Metadata.
    """

    def __init__(self, path: Path, scheduler: bool = False) -> None:
        names = ["etcd", "kube-apiserver", "kube-controller-manager", *(["kube-scheduler"] if scheduler else [])]
        self._path = path
        self._programs = tools.ensure([*names, "kube-scheduler"])
        self._names = names
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._reserved: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._path.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._reserved = [_reserve_port() for _ in range(3)]
        apiserver, etcd, peer = (reserved.getsockname()[1] for reserved in self._reserved)
        self._site = Site(self._path.resolve(), self._programs, "127.0.0.1", apiserver, etcd, peer)
        self.url = self._site.url
        self.kubeconfig = self._site.kubeconfig("admin")
        self.ca_path = self._site.pki / "ca.crt"
        self.audit_log = self._site.audit_log
        shutil.rmtree(self._site.state / "etcd", ignore_errors=True)
        self.audit_log.unlink(missing_ok=True)
        try:
            write_files(self._site)
            self._client = api_client(self._site)
            self._commands = commands(self._site, share_ports=True)
            self._start("etcd")
            self.start_apiserver()
            for name in self._names[2:]:
                self._start(name)
            self._wait("kube-controller-manager", "/api/v1/namespaces/default/serviceaccounts/default")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._stop()

    def stop_apiserver(self) -> None:
        """Kills kube-apiserver at once, as a crash would."""
        _kill(self._processes.pop("kube-apiserver"))

    def start_apiserver(self) -> None:
        """Starts kube-apiserver, on the same port as before, and waits until it is ready."""
        self._start("kube-apiserver")
        self._wait("kube-apiserver", "/readyz")

    def pids(self) -> dict[str, int]:
        """Process id of each program."""
        return {name: process.pid for name, process in self._processes.items()}

    def kubeconfig_for(self, namespace: str, service_account: str) -> Path:
        """A kubeconfig with a token of an existing service account, good for a day."""
        response = self._client.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token",
            json={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": _TOKEN_SECONDS},
            },
        )
        if not response.is_success:
            raise LocalError(f"no token for {namespace}/{service_account}: {response.json()['message']}")
        path = self._site.kubeconfig(f"{namespace}.{service_account}")
        pki.write_private(path, pki.kubeconfig(self.url, self.ca_path, response.json()["status"]["token"], namespace))
        return path

    def _start(self, name: str) -> None:
        self._processes[name] = spawn(self._commands[name], self._log(name))

    def _wait(self, name: str, path: str) -> None:
        process = self._processes[name]
        wait_until(
            lambda: answers(self._client, path),
            f"{name} ({path})",
            _START_SECONDS,
            alive=lambda: process.poll() is None,
            log=self._log(name),
        )

    def _log(self, name: str) -> Path:
        return self._site.state / f"{name}.log"

    def _stop(self) -> None:
        for process in self._processes.values():
            _kill(process)
        self._processes.clear()
        for reserved in self._reserved:
            reserved.close()


def _reserve_port() -> socket.socket:
    """A free loopback port that nobody else is given as long as the socket is open; see `share_ports`."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def _kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL: what the process holds is thrown away, so there is nothing to finish."""
    process.kill()
    process.wait()
