"""The programs of the bench: its own, in Go, compiled into the cache by checksum of their sources; and nginx."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from local import progress, tools
from local.errors import LocalError
from local.locks import held

SOURCES = Path(__file__).parent / "go"
PROGRAMS = ("stub", "load", "proxy")


def built() -> dict[str, Path]:
    """Paths of the Go programs by name."""
    cached = tools.cache_dir() / "tools"
    folder = cached / f"bench-gateway-{_digest(SOURCES)}"
    with held(cached / "bench-gateway.lock", "building the bench of the gateway"):
        if not folder.is_dir():
            unfinished = cached / "bench-gateway.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            with progress.step("building the stub upstream, the load generator and the Go proxy"):
                _run(
                    "env", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false", "GOTOOLCHAIN=local", "GOWORK=off",
                    str(tools._go()), "build", "-trimpath", f"-o={unfinished}/", "./...", cwd=SOURCES,
                )  # fmt: skip
            unfinished.rename(folder)
    return {name: folder / name for name in PROGRAMS}


def _digest(sources: Path) -> str:
    digest = hashlib.sha256()
    for source in sorted(path for path in sources.rglob("*") if path.is_file()):
        digest.update(str(source.relative_to(sources)).encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def nginx() -> Path:
    """nginx of this machine, else that of Debian, unpacked into the cache: installed, it would start a web server."""
    if found := shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return Path(found)
    folder = tools.cache_dir() / "tools" / "nginx"
    program = folder / "usr" / "sbin" / "nginx"
    with held(folder.with_name("nginx.lock"), "unpacking nginx"):
        if not program.exists():
            if not shutil.which("apt-get"):
                raise LocalError("there is no nginx here, and no apt-get to fetch it with: install nginx")
            unfinished = folder.with_name("nginx.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            with progress.step("fetching nginx", "about 10s"):
                _run("apt-get", "update", "-qq", cwd=unfinished)
                _run("apt-get", "download", "-qq", "--option=APT::Sandbox::User=root", "nginx", cwd=unfinished)
                (package,) = unfinished.glob("nginx_*.deb")
                _run("dpkg-deb", "--extract", package.name, ".", cwd=unfinished)
            unfinished.rename(folder)
    return program


def nginx_version(program: Path) -> str:
    """Such as 1.22.1. Raises LocalError when it does not run here."""
    done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    found = re.search(r"nginx/(\S+)", done.stderr)
    if not found:
        raise LocalError(f"{program} does not run: {done.stderr.strip()}; install nginx")
    return found[1]


def go_version() -> str:
    """Of what the Go programs are compiled with, such as 1.26.8."""
    said = subprocess.run([tools._go(), "env", "GOVERSION"], capture_output=True, text=True, check=True)
    return said.stdout.strip().removeprefix("go")


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(
        ["setpriv", "--pdeathsig=KILL", *command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-15:])
        raise LocalError(f"`{' '.join(command)}` in {cwd} failed with exit code {done.returncode}:\n{end}")
