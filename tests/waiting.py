"""Waiting for a condition instead of sleeping."""

import time
from collections.abc import Callable
from typing import Any

import pytest


def eventually(look: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer of `look`; fails with its last one after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:.0f} s; last seen: {found!r}")
        time.sleep(0.25)
