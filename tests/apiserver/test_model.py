"""Random steps against the real control plane; after quiet, the invariants of the design.

In: a seed. Steps are what users, other controllers, kubelets and node failures do to endpoints, children and pods, and
the end and start of the operator, in any order and at once: most steps do not wait for what they cause.
Out: the complaints of `model.truth`, with all steps of the example. Not mocked: anything but scheduler and kubelet.

One run of a fixed seed is part of the tier. `make model MINUTES=20` goes on with new seeds and prints each; to repeat
one: `make model SEED=…`. The order of steps is repeated, their timing is the machine's.
"""

import functools
import os
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from berth.api import names
from berth.kube.resources import BASIC_CHILDREN, Resource
from local.controlplane import ControlPlane
from tests.apiserver.model.choices import ADDITIONS, EDITS, FIELDS, Field
from tests.apiserver.model.cluster import POD_STATES
from tests.apiserver.model.example import FINALIZER, OWNERS, Example, Idle
from tests.apiserver.model.quiet import Quiet
from tests.apiserver.operators import Operator
from tests.apiserver.test_bad_input import CASES, Case

MINUTES = float(os.environ.get("BERTH_MODEL_MINUTES") or 0)
# Of the first sixty, this seed takes every step and none very often.
SEED = int(os.environ.get("BERTH_MODEL_SEED") or 7)
EXAMPLES, STEPS = 9, 40

some_name = st.sampled_from(("ant", "bee", "cat"))
some_existing = st.integers(0, 2)
some_child = st.sampled_from(BASIC_CHILDREN)
some_fields = st.lists(st.sampled_from(FIELDS), max_size=4, unique_by=lambda chosen: chosen.name)
some_propagation = st.sampled_from(["Background", "Foreground", "Orphan"])


def by_name(fields: list[Field]) -> dict[str, Field]:
    return {field.name: field for field in fields}


if_any = precondition(lambda self: bool(self.example.names()))


def step(**given: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule whose calls are counted and written down. `which`: number of an endpoint that exists, told as its name."""

    def decorate(act: Callable[..., None]) -> Callable[..., None]:
        @rule(**given)
        @functools.wraps(act)
        def run(self: "Model", **chosen: Any) -> None:
            if "which" in chosen:
                existing = self.example.names()
                chosen = {"name": existing[chosen.pop("which") % len(existing)], **chosen}
            told = ", ".join(f"{name}={_short(value)}" for name, value in chosen.items())
            self.example.steps.append(f"{time.monotonic() - self.began:6.2f} s  {act.__name__}({told})")
            self.counts[act.__name__] += 1
            try:
                act(self, **chosen)
            except Idle:
                self.idle[act.__name__] += 1
                self.example.steps[-1] += "  # nothing there"

        return run

    return decorate


def _short(value: Any) -> str:
    return repr(value.name) if isinstance(value, Case) else value.kind if isinstance(value, Resource) else repr(value)


class Model(RuleBasedStateMachine):
    """The steps of one example. Which are taken depends on the seed alone, never on what the cluster answers."""

    counts: ClassVar[Counter[str]] = Counter()
    idle: ClassVar[Counter[str]] = Counter()

    def __init__(self, example: Example) -> None:
        super().__init__()
        self.example = example
        self.began = time.monotonic()

    @step(name=some_name, fields=some_fields)
    def write(self, name: str, fields: list[Field]) -> None:
        """Create an endpoint, or replace its whole spec."""
        self.example.write(name, by_name(fields))

    @step(name=some_name, fields=some_fields, case=st.sampled_from(CASES))
    def write_a_fault(self, name: str, fields: list[Field], case: Case) -> None:
        """The same with a spec that the schema lets pass and that cannot be carried out."""
        self.example.write(name, by_name(fields), case)

    @step(name=some_name, field=st.sampled_from(FIELDS))
    def edit(self, name: str, field: Field) -> None:
        """Change one field; a fault elsewhere in the spec is mended."""
        self.example.write(name, {**self.example.fields(name), field.name: field})

    @if_any
    @step(which=some_existing, count=st.integers(0, 3))
    def scale(self, name: str, count: int) -> None:
        """`kubectl scale mep`; a fault in the spec stays."""
        self.example.scale(name, count)

    @if_any
    @step(which=some_existing, part=st.sampled_from(["labels", "annotations"]), value=st.sampled_from(["x", "y", None]))
    def describe(self, name: str, part: str, value: str | None) -> None:
        """Write or remove metadata of one's own."""
        self.example.describe(name, {part: {"example.com/own": value}})

    @if_any
    @step(which=some_existing)
    def hold(self, name: str) -> None:
        """A finalizer of the user's: once deleted, the endpoint stays until it is released."""
        self.example.describe(name, {"finalizers": [FINALIZER]})

    @precondition(lambda self: bool(self.example.leaving()))
    @step()
    def release(self) -> None:
        """Let go of the endpoints that are being deleted."""
        self.example.release_all()

    @if_any
    @step(which=some_existing, propagation=some_propagation)
    def delete(self, name: str, propagation: str) -> None:
        """Delete an endpoint, without waiting for its end."""
        self.example.delete(name, propagation)

    @if_any
    @step(which=some_existing, propagation=some_propagation, fields=some_fields)
    def make_again(self, name: str, propagation: str, fields: list[Field]) -> None:
        """Delete and create, as soon as the API server lets."""
        self.example.delete(name, propagation)
        self.example.write(name, by_name(fields))

    # What others do with children.

    @if_any
    @step(which=some_existing, child=some_child, propagation=some_propagation)
    def delete_a_child(self, name: str, child: Resource, propagation: str) -> None:
        """Delete a child by hand."""
        self.example.delete_a_child(child, name, propagation)

    @if_any
    @step(which=some_existing, edits=st.lists(st.sampled_from(sorted(EDITS)), min_size=1, max_size=3, unique=True))
    def edit_children(self, name: str, edits: list[str]) -> None:
        """Change fields that Berth owns."""
        for edit in edits:
            self.example.meddle(EDITS[edit].child, name, EDITS[edit].patch)

    @if_any
    @step(which=some_existing, addition=st.sampled_from(sorted(ADDITIONS)))
    def add_to_a_child(self, name: str, addition: str) -> None:
        """Add what Berth does not own."""
        self.example.add_to_a_child(name, ADDITIONS[addition])

    @if_any
    @step(which=some_existing, child=some_child, label=st.sampled_from([names.MANAGED_BY_LABEL, names.ENDPOINT_LABEL]))
    def take_a_label(self, name: str, child: Resource, label: str) -> None:
        """Remove a label by which Berth finds its children."""
        self.example.meddle(child, name, {"metadata": {"labels": {label: None}}})

    @if_any
    @step(which=some_existing, child=some_child, how=st.sampled_from(OWNERS))
    def change_owner(self, name: str, child: Resource, how: str) -> None:
        """Write other ownerReferences."""
        self.example.change_owner(child, name, how)

    @if_any
    @step(which=some_existing, count=st.integers(0, 4))
    def scale_the_deployment(self, name: str, count: int) -> None:
        """`kubectl scale deployment`."""
        self.example.meddle(BASIC_CHILDREN[0], name, {"spec": {"replicas": count}}, "scale")

    @if_any
    @step(which=some_existing)
    def plant(self, name: str) -> None:
        """Leave a Service with label and owner of ours that is not wanted."""
        self.example.plant(name)

    @step(name=some_name, child=some_child, labelled=st.booleans())
    def take_a_name(self, name: str, child: Resource, labelled: bool) -> None:
        """Make an object of somebody else where an endpoint may want a child."""
        self.example.take_a_name(child, name, labelled)

    @precondition(lambda self: bool(self.example.names()) and not self.example.operated.runs)
    @step(which=some_existing, child=some_child, labelled=st.booleans())
    def steal_a_name(self, name: str, child: Resource, labelled: bool) -> None:
        """Delete a child and take its name, while Berth is away."""
        self.example.steal_a_name(child, name, labelled)

    @step(name=some_name)
    def free_a_name(self, name: str) -> None:
        """Delete what stands in an endpoint's way."""
        self.example.free_a_name(name)

    # What happens to pods, and to the operator.

    @if_any
    @step()
    def serve(self) -> None:
        """All pods that there are become ready."""
        self.example.serve()

    @if_any
    @step(number=st.integers(0, 20), state=st.sampled_from(sorted(POD_STATES)))
    def report(self, number: int, state: str) -> None:
        """The kubelet, or the scheduler, reports on a pod."""
        self.example.report(number, state)

    @if_any
    @step(number=st.integers(0, 20), now=st.booleans())
    def lose_a_pod(self, number: int, now: bool) -> None:
        """A pod is deleted; one with a node stays until its kubelet has ended it, unless that is `now`."""
        self.example.lose_a_pod(number, now)

    @precondition(lambda self: self.example.operated.runs)
    @step(kill=st.booleans())
    def stop(self, kill: bool) -> None:
        """The operator ends, whatever it is doing; it stays away until `start`, or until all must be quiet."""
        self.example.operated.stop(kill)

    @precondition(lambda self: not self.example.operated.runs)
    @step()
    def start(self) -> None:
        """The operator comes back to what happened meanwhile."""
        self.example.operated.start()

    @step(seconds=st.sampled_from([0.05, 0.2, 0.5]))
    def pass_time(self, seconds: float) -> None:
        """Let others work: at once after a step, what it causes is seldom there."""
        time.sleep(seconds)

    @step(healthy=st.booleans(), restart=st.sampled_from([False, False, True]))
    def settle(self, healthy: bool, restart: bool) -> None:
        """Wait until nothing happens any more, and look. healthy: pods come up.  restart: the operator."""
        self.example.settle(healthy)
        if restart:
            self.example.restart_writes_nothing()

    def teardown(self) -> None:
        """Delete all endpoints; nothing is left of them."""
        try:
            if sys.exc_info()[0] is None:
                self.example.settle(healthy=True)
                self.example.delete_all()
                self.example.settle(healthy=True)
        finally:
            self.example.close()


@pytest.fixture
def new_example(control_plane: ControlPlane, operator_process: Operator) -> Callable[[], Example]:
    """Makes examples, one after the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    operator_process.start(HTTP_PORT=str(port))

    return lambda: Example(control_plane, operator_process, port)


def run_seed(new_example: Callable[[], Example], number: int) -> None:
    """All examples of one seed."""

    # Not shrunk: with the timing of a real cluster, a shorter list of steps that fails as well is mostly luck.
    chosen = settings(
        max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip
    run_state_machine_as_test(seed(number)(lambda: Model(new_example())), settings=chosen)


@pytest.mark.timeout(MINUTES * 60 + 1200)
def test_whatever_happens_all_is_true_after_quiet(new_example: Callable[[], Example]) -> None:
    started, number = time.monotonic(), SEED
    while True:
        print(f"seed {number}", flush=True)
        run_seed(new_example, number)
        took = time.monotonic() - started
        did = {name: f"{count - Model.idle[name]} of {count}" for name, count in Model.counts.most_common()}
        print(
            f"{sum(Model.counts.values())} steps in {took:.0f} s, those that found something to do: {did}", flush=True
        )
        if took >= MINUTES * 60:
            break
        number = random.randrange(2**32)
    print(f"waits for quiet: {Quiet.waits_told()}")
    assert set(Model.counts) == {rule.function.__name__ for rule in Model.setup_state().rules}
