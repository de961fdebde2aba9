"""SIGTERM in every phase of a start: the container ends with 0, soon, and leaves nothing.

vLLM loses a SIGTERM that comes while it waits for its engine, and goes on to serve. Soon means that it ends without
having got any further: the seconds depend on the machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from berth_server import protocol
from tests.contracts.launcher.launched import CPU, EAGER, START_SECONDS, Launched, until
from tests.hub import Hub

# The pod's grace beyond its drain; whoever has not ended by then is killed.
GRACE_SECONDS = 30
BIG = "model.safetensors"


class Case(NamedTuple):
    """phase: as /progress names it when the signal comes.  line: in the log by then, for a moment inside the phase."""

    phase: str
    line: str = ""

    @property
    def name(self) -> str:
        return f"{self.phase} {self.line}".strip()


CASES = (
    Case(protocol.PREPARING),
    Case(protocol.DOWNLOADING),
    # vLLM imports: it has no handler yet.
    Case(protocol.STARTING_ENGINE),
    # The API server waits for its engine: the signal that gets lost.
    Case(protocol.STARTING_ENGINE, "Initializing a V1 LLM engine"),
    Case(protocol.LOADING_WEIGHTS),
    Case(protocol.WARMING_UP),
    Case(protocol.PROVING),
)


class Outcome(NamedTuple):
    code: int
    phases: list[str]
    told: str
    seen: int


@contextlib.contextmanager
def hub_that_holds(root: Path) -> Iterator[Hub]:
    """A hub that stops in the middle of the weights."""
    base = root / "harbour" / "tiny"
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    (base / BIG).write_bytes(b"w" * 1_000_000)
    with Hub(root) as hub:
        hub.faults.hold, hub.faults.cut_bytes = BIG, 1000
        yield hub
        hub.faults.go_on.set()


def slow_inspection(directory: Path) -> dict[str, str]:
    """Keeps the look at the image from ending: all of the start's first phase."""
    site = directory / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys, time\nif 'inspect' in sys.orig_argv:\n    time.sleep(3600)\n")
    return {"PYTHONPATH": str(site)}


def run(case: Case, python: Path, model: Path, directory: Path) -> Outcome:
    environment = dict(CPU)
    source, path, options = f"file://{model}", model, []
    with contextlib.ExitStack() as stack:
        if case.phase == protocol.PREPARING:
            environment |= slow_inspection(directory)
        if case.phase == protocol.DOWNLOADING:
            hub = stack.enter_context(hub_that_holds(directory / "hub"))
            source, path = "hf://harbour/tiny", directory / "weights" / "harbour--tiny@main"
            options = [f"--weights={directory / 'weights'}"]
            environment["HF_ENDPOINT"] = hub.url
        launched = stack.enter_context(
            Launched(directory, python.parent, source, path, options, EAGER, env=environment)
        )

        def running() -> int:
            # In this order: what ran in the phase before has ended by then.
            return len(launched.members()) if launched.progress()["phase"] == case.phase else 0

        with contextlib.ExitStack() as frozen:
            if case.phase == protocol.PROVING:  # which takes as long as one token: without an engine for ever
                until(lambda: "Started server process" in launched.text(), START_SECONDS, "the server")
                frozen.enter_context(launched.frozen())
            seen = until(running, START_SECONDS, case.phase)
            if case.line:
                until(lambda: case.line in launched.text(), START_SECONDS, case.line)
            os.kill(launched.process.pid, signal.SIGTERM)
        code = launched.process.wait(GRACE_SECONDS)
        launched.until_gone()
    return Outcome(code, launched.phases(), launched.termination_log.read_text(), seen)


@pytest.mark.timeout(2 * START_SECONDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sigterm_ends_a_start_in_every_phase(case: Case, ahead: Callable[[Case], Outcome]) -> None:
    outcome = ahead(case)
    assert outcome.seen, "nothing ran that could have been left"
    assert (outcome.code, outcome.told) == (0, "")
    assert protocol.SERVING not in outcome.phases


def test_every_phase_of_a_start_has_a_case() -> None:
    start = protocol.PHASES[: protocol.PHASES.index(protocol.SERVING)]
    assert tuple(dict.fromkeys(case.phase for case in CASES)) == start
