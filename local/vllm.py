"""vLLM for CPUs in environments of this machine, for tests that need no container.

The newest is what the engine image has; the oldest is the lowest release that Berth supports, on the lowest Python.
"""

from pathlib import Path

from local import environments, pythons

_NEWEST = Path(__file__).parent.parent / "images" / "vllm-cpu"
_OLDEST = Path(__file__).parent / "vllm-oldest"
_NAMING = _NEWEST / "name_distribution.py"


def ensure_python(oldest: bool = False) -> Path:
    """Its Python; installed when it is not in the cache."""
    name, sources, version = ("vllm-oldest", _OLDEST, "3.10") if oldest else ("vllm", _NEWEST, pythons.THIS)
    return environments.ensure(
        name,
        [sources / "requirements.lock"],
        pythons.ensure(version),
        what=f"the {'oldest' if oldest else 'newest'} vLLM for CPUs",
        expect="about 1 min",
        after=[_NAMING],
    )
