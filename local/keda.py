"""KEDA on a control plane: its CRDs, its operator and its metrics server, as processes with all rights."""

import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local import pki, tools
from local.controlplane import ControlPlane
from local.daemons import DIES_WITH_US, spawn, wait_until
from local.kubectl import Kubectl

_MODULE = "github.com/kedacore/keda/v2"
NAMESPACE = "keda"
API_SERVICE = "v1beta1.external.metrics.k8s.io"
_START_SECONDS = 60.0


class Keda:
    """KEDA, for the length of a `with` block; its CRDs stay. path: an empty directory."""

    def __init__(self, plane: ControlPlane, path: Path) -> None:
        self._plane = plane
        self._kubectl = Kubectl(plane.kubeconfig)
        self._path = path
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        programs = tools.ensure(["keda-operator", "keda-adapter"])
        crds = tools.module_files("keda-operator", _MODULE) / "config" / "crd" / "bases"
        self._kubectl.run("apply", "--server-side", f"--filename={crds}")
        wait_until(lambda: self._is("Established", "crd", "scaledobjects.keda.sh"), "KEDA's CRD", _START_SECONDS)
        authority = pki.Authority(self._path / "ca")
        authority.issue(self._path / "tls", "keda", hosts=["localhost", f"keda.{NAMESPACE}.svc"])
        metrics, health, grpc, secure, other = (_free_port() for _ in range(5))
        operator = {
            "kubeconfig": self._plane.kubeconfig,
            "cert-dir": self._path,
            "metrics-bind-address": f"127.0.0.1:{metrics}",
            "health-probe-bind-address": f"127.0.0.1:{health}",
            "metrics-service-bind-address": f"127.0.0.1:{grpc}",
            "enable-webhook-patching": "false",
            "enable-apiservice-patching": "false",
        }
        adapter = {
            "lister-kubeconfig": self._plane.kubeconfig,
            "authentication-kubeconfig": self._plane.kubeconfig,
            "authorization-kubeconfig": self._plane.kubeconfig,
            "cert-dir": self._path,
            "tls-cert-file": self._path / "tls.crt",
            "tls-private-key-file": self._path / "tls.key",
            "bind-address": "127.0.0.1",
            "secure-port": secure,
            "port": other,
            "metrics-service-address": f"localhost:{grpc}",
        }
        self._kubectl.apply(metrics_objects(secure, pki.base64_of(self._path / "ca.crt")))
        self._start("keda-operator", programs, operator)
        self._start("keda-adapter", programs, adapter)
        log = self._path / "keda-adapter.log"
        wait_until(
            lambda: self._is("Available", "apiservice", API_SERVICE), "metrics", _START_SECONDS, self._alive, log
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self, name: str, programs: dict[str, Path], flags: dict[str, Any]) -> None:
        command = [str(programs[name]), *(f"--{flag}={value}" for flag, value in flags.items())]
        environment = (
            f"KUBECONFIG={self._plane.kubeconfig}",
            f"POD_NAMESPACE={NAMESPACE}",
            f"KEDA_CLUSTER_OBJECT_NAMESPACE={NAMESPACE}",
            "WATCH_NAMESPACE=",
        )
        self._processes.append(spawn(command, self._path / f"{name}.log", (*DIES_WITH_US, "env", *environment)))

    def _alive(self) -> bool:
        return all(process.poll() is None for process in self._processes)

    def _is(self, condition: str, kind: str, name: str) -> bool:
        conditions = (self._kubectl.get(kind, name).get("status") or {}).get("conditions") or []
        return any(item["type"] == condition and item["status"] == "True" for item in conditions)


def metrics_objects(port: int, authority: str) -> list[dict[str, Any]]:
    """What makes the API server ask KEDA for external metrics, and lets the HorizontalPodAutoscalers ask the former."""
    role = "external-metrics-reader"
    user = {"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": "kube-system"}
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "keda", "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": API_SERVICE},
            "spec": {
                "service": {"name": "keda", "namespace": NAMESPACE, "port": port},
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": authority,
            },
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role},
            "rules": [{"apiGroups": ["external.metrics.k8s.io"], "resources": ["*"], "verbs": ["*"]}],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
            "subjects": [user],
        },
    ]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
