"""vLLM for CPUs in environments of this machine, for tests that need no container.

The newest is what the engine image has; the oldest is the lowest release that Berth supports, on the lowest Python.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from local import pythons
from local.errors import LocalError
from local.locks import held
from local.progress import step
from local.tools import cache_dir

_NEWEST = Path(__file__).parent.parent / "images" / "vllm-cpu"
_OLDEST = Path(__file__).parent / "vllm-oldest"
_NAMING = _NEWEST / "name_distribution.py"
_UV = Path(sys.executable).with_name("uv")


def ensure_python(oldest: bool = False) -> Path:
    """Its Python; installed when it is not in the cache. The stamp comes last: half an installation is done again."""
    name, sources, version = ("vllm-oldest", _OLDEST, "3.10") if oldest else ("vllm", _NEWEST, pythons.THIS)
    lock = sources / "requirements.lock"
    key = hashlib.sha256(lock.read_bytes() + _NAMING.read_bytes()).hexdigest()[:12]
    directory = cache_dir() / name / key
    python, stamp = directory / "bin" / "python3", directory / "complete"
    if stamp.exists():
        return python
    interpreter = pythons.ensure(version)
    with held(cache_dir() / f"{name}.lock", "installing vLLM"):
        if stamp.exists():
            return python
        shutil.rmtree(directory.parent, ignore_errors=True)
        with step(f"installing the {'oldest' if oldest else 'newest'} vLLM for CPUs", "about 1 min"):
            _run(str(_UV), "venv", "-q", "--python", str(interpreter), str(directory))
            _run(str(_UV), "pip", "install", "-q", "--compile-bytecode", "--no-deps", "--require-hashes",
                 "--python", str(python), "-r", str(lock))  # fmt: skip
            _run(str(python), str(_NAMING))
        stamp.touch()
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"`{' '.join(command)}` failed with exit code {done.returncode}:\n{done.stderr.strip()}")
