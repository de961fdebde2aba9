"""CPythons that Debian's release does not have, for tests of what runs on the Python of somebody else's image.

They are builds of python-build-standalone, which a Go module embeds and Go's checksums pin; `local/go/python`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from local import tools
from local.errors import LocalError
from local.locks import held

UNPACKED = ("3.10", "3.13", "3.14")
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"


def ensure(version: str) -> Path:
    """The interpreter of a version: this one for THIS, else one of UNPACKED, which is built and unpacked first."""
    if version == THIS:
        return Path(sys.executable)
    program = tools.ensure([f"python{version}"])[f"python{version}"]
    unpacked = program.with_name("cpython")
    with held(program.with_name("cpython.lock"), f"unpacking Python {version}"):
        if not unpacked.is_dir():
            unfinished = program.with_name("cpython.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            done = subprocess.run([program, unfinished], capture_output=True, text=True, check=False)
            if done.returncode:
                raise LocalError(f"`{program} {unfinished}` failed: {done.stderr.strip()}")
            unfinished.rename(unpacked)
    return unpacked / "bin" / "python3"
