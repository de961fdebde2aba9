"""Progress of long work, one line per step, on standard error, with the time since the command started.

[  12.3s] building kubernetes v1.34.4 (first time: about 5 min) …
[  27.3s]   … building kubernetes v1.34.4, 15s so far
[ 283.5s]   … done in 4m31s
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_STARTED = time.monotonic()
_STILL_THERE_SECONDS = 15.0
_WORTH_AN_END_SECONDS = 1.0


def say(text: str) -> None:
    """One line of progress."""
    print(f"[{time.monotonic() - _STARTED:6.1f}s] {text}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as a person reads them: `0.4s`, `12s`, `4m31s`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


@contextmanager
def step(what: str, expect: str = "") -> Iterator[None]:
    """Announces `what`, repeats it with the elapsed time while it lasts, and says how long it took or that it failed.

    expect: how long it may take, shown in parentheses, such as "first time: about 5 min".
    """
    say(f"{what}{f' ({expect})' if expect else ''} …")
    started = time.monotonic()
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(_STILL_THERE_SECONDS):
            say(f"  … {what}, {duration(time.monotonic() - started)} so far")

    ticker = threading.Thread(target=repeat, daemon=True)
    ticker.start()
    result = "failed after"
    try:
        yield
        result = "done in"
    except KeyboardInterrupt:
        result = "interrupted after"
        raise
    finally:
        ended.set()
        ticker.join()
        elapsed = time.monotonic() - started
        if result != "done in" or elapsed >= _WORTH_AN_END_SECONDS:
            say(f"  … {result} {duration(elapsed)}")
