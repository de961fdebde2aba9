"""Unmounting whatever a killed container runtime or kubelet left."""

import subprocess
import time
from pathlib import Path

from local.errors import LocalError

_BUSY_SECONDS = 5.0


def below(*directories: Path) -> list[Path]:
    """Mount points below `directories`, the latest first. A directory that is one itself is the machine's business."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4].encode().decode("unicode_escape")) for line in lines]
    return [point for point in reversed(points) if any(directory in point.parents for directory in directories)]


def unmount_below(*directories: Path) -> None:
    """Unmounts them all: at once, after waiting for those that are busy, and lazily as the last resort."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while points := below(*directories):
        lazily = time.monotonic() > deadline
        results = [
            subprocess.run(
                ["umount", "--no-mtab", *(["--lazy"] if lazily else []), str(point)],
                capture_output=True,
                text=True,
                check=False,
            )
            for point in points
        ]
        if lazily and below(*directories):
            raise LocalError(f"cannot unmount {points[0]}: {results[0].stderr.strip()}")
        if any(result.returncode for result in results):
            time.sleep(0.1)
