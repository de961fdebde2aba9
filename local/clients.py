"""The client libraries whose APIs an endpoint speaks, real and unmodified, in environments of their own.

The newest releases share one environment; each older generation of scale-llm-engine, which bears the same name, has
its own. OpenAI's client is among the project's own tools, because scale-llm-engine wants an older one.
"""

import sys
from pathlib import Path

from local import environments

_NEWEST = Path(__file__).parent / "client-locks" / "newest"
_OLDER = Path(__file__).parent / "client-locks" / "older"

NEWEST = dict(line.split("==") for line in (_NEWEST / "requirements.in").read_text().splitlines() if "==" in line)
"""Version of each package."""

OLDER = ("0.0.0a1", "0.0.0b3", "0.0.0b12", "0.0.0b22")
"""Generations of scale-llm-engine; each sends or demands something that its neighbours do not."""


def ensure_python(older: str | None = None) -> Path:
    """The Python that has the newest clients, or one of OLDER; installed when it is not in the cache."""
    here = Path(sys.executable)
    if older is None:
        return environments.ensure("clients", [_NEWEST / "requirements.lock"], here, "the newest clients", "about 20 s")
    locks = [_OLDER / "requirements.lock", _OLDER / f"{older}.lock"]
    return environments.ensure(f"scale-llm-engine-{older}", locks, here, f"scale-llm-engine {older}")
