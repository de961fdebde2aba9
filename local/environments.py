"""Python environments from hashed lock files, kept in the cache: other people's packages, apart from the project's."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from local.errors import LocalError
from local.locks import held
from local.progress import step
from local.tools import cache_dir

_UV = Path(sys.executable).with_name("uv")


def ensure(
    name: str, locks: Sequence[Path], python: Path, what: str, expect: str = "", after: Sequence[Path] = ()
) -> Path:
    """The Python of the environment; made when it is not in the cache with these contents.

    name: its directory in the cache, one environment each.  locks: what is installed, nothing else.
    python: the interpreter it is made of.  after: scripts that the environment's own Python runs once, at the end.
    The stamp comes last: half an installation is done again.
    """
    key = hashlib.sha256(b"".join(path.read_bytes() for path in (*locks, *after))).hexdigest()[:12]
    directory = cache_dir() / name / key
    found, stamp = directory / "bin" / "python3", directory / "complete"
    if stamp.exists():
        return found
    with held(cache_dir() / f"{name}.lock", f"installing {what}"):
        if stamp.exists():
            return found
        shutil.rmtree(directory.parent, ignore_errors=True)
        with step(f"installing {what}", expect):
            _run(str(_UV), "venv", "-q", "--python", str(python), str(directory))
            requirements = [argument for lock in locks for argument in ("-r", str(lock))]
            _run(str(_UV), "pip", "install", "-q", "--compile-bytecode", "--no-deps", "--require-hashes",
                 "--python", str(found), *requirements)  # fmt: skip
            for script in after:
                _run(str(found), str(script))
        stamp.touch()
    return found


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"`{' '.join(command)}` failed with exit code {done.returncode}:\n{done.stderr.strip()}")
