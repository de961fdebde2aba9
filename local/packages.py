"""The Debian packages that the node and the image builds need."""

import os
import shutil
import subprocess

from local import progress
from local.errors import LocalError

_NEEDED = (
    "buildah",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "debootstrap",
    "iproute2",
    "kmod",
    "mount",
    "nftables",
    "runc",
)


def ensure() -> None:
    """Installs what is missing with apt-get (root)."""
    if not shutil.which("dpkg-query"):
        raise LocalError(
            f"the local node needs Debian or a derivative: there is no dpkg here to install {' '.join(_NEEDED)}"
        )
    if missing := sorted(set(_NEEDED) - _installed()):
        with progress.step(f"installing {' '.join(missing)}", "about 20s"):
            _run("dpkg", "--configure", "-a")  # finishes what a killed installation left
            _run("apt-get", "update", "-qq")
            _run(
                "apt-get",
                "install",
                "--yes",
                "-qq",
                "--no-install-recommends",
                "--option=DPkg::Lock::Timeout=300",
                *missing,
            )


def _installed() -> set[str]:
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *_NEEDED],
        capture_output=True,
        text=True,
        check=False,  # exits with 1 when one is unknown, and lists the others
    )
    return {line.split()[1] for line in listed.stdout.splitlines() if line.startswith("installed ")}


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LocalError(
            f"`{' '.join(command)}` failed with exit code {done.returncode}; repair apt and run this again:\n"
            + "\n".join(done.stdout.splitlines()[-15:])
        )
