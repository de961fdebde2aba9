"""What happens to a number of endpoints, and what it costs.

They are created, edited and damaged, the operator is killed, nothing happens, they are deleted.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from berth.kube.resources import BASIC_CHILDREN, DEPLOYMENTS, ENDPOINTS, SERVICES
from local.progress import say, step
from tests.bench.cluster import Api, Mirror, each
from tests.bench.objects import (
    EDITED,
    EDITED_AFTER_CRASH,
    EDITED_ALONE,
    edit,
    endpoint,
    endpoint_names,
    has_length,
    observed,
    ready,
)
from tests.bench.rig import Calls, Process, Rig, cpu_seconds

Object = dict[str, Any]
Times = dict[str, float]

LIMIT_SECONDS = 900.0
QUIET_SECONDS = 2.0
QUIET_CPU_SECONDS = 0.02
DAMAGED_DEADLINE_SECONDS = 1234


@dataclass
class Phase:
    """What one phase cost, from its first request until the operator was quiet again.

    seconds: from the start of the phase to each of its marks: the last endpoint to reach it.  cpu_seconds: by process.
    memory_bytes, peak_bytes: of the operator at the end of the phase.
    """

    seconds: Times = field(default_factory=dict)
    cpu_seconds: Times = field(default_factory=dict)
    passes: int = 0
    calls: Calls = field(default_factory=Calls)
    memory_bytes: int = 0
    peak_bytes: int = 0


class Marks:
    """Notes in a phase when its marks are reached, in seconds since now."""

    def __init__(self, name: str, phase: Phase, names: Sequence[str]) -> None:
        self._name = name
        self._phase = phase
        self._names = names
        self._started = time.monotonic()

    async def __call__(
        self, label: str, mirror: Mirror, want: Callable[[Object | None], bool], names: Sequence[str] = ()
    ) -> None:
        """When the last object of these names (all endpoints' by default) is as wanted; of one label the latest."""
        at = await mirror.all(names or self._names, want, f"{self._name}: {label}", LIMIT_SECONDS)
        self._note(label, max(at.values()))

    def now(self, label: str) -> None:
        """It is reached now."""
        self._note(label, time.monotonic())

    def _note(self, label: str, at: float) -> None:
        self._phase.seconds[label] = max(self._phase.seconds.get(label, 0.0), at - self._started)


class Scenario:
    """The endpoints of one size on one rig, and an operator that leads, while entered. `phases` fills as they end."""

    def __init__(self, rig: Rig, player: Process, count: int) -> None:
        self.names = endpoint_names(count)
        self.phases: dict[str, Phase] = {}
        self._rig = rig
        self._player = player

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self._api = await stack.enter_async_context(Api(self._rig.kubeconfig, self._rig.namespace))
            mirrors = [
                await stack.enter_async_context(Mirror(self._api, kind)) for kind in (ENDPOINTS, *BASIC_CHILDREN)
            ]
            self._endpoints, *self._children = mirrors
            self._deployments, self._services = (
                self._children[BASIC_CHILDREN.index(kind)] for kind in (DEPLOYMENTS, SERVICES)
            )
            self._operator = self._rig.operator()
            stack.callback(lambda: self._operator.stop())
            await self._leads()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def run(self, idle_seconds: float) -> None:
        """All phases. idle_seconds: 0 for no idle phase."""
        for phase in (self.create, self.edit, self.edit_one, self.repair, self.crash):
            await phase()
        if idle_seconds:
            await self.idle(idle_seconds)
        await self.delete()

    async def create(self) -> None:
        """All endpoints at once."""
        async with self._phase("create") as mark:
            await asyncio.gather(
                each(self.names, lambda name: self._api.create(ENDPOINTS, endpoint(self._rig.namespace, name))),
                *(mark("children", mirror, lambda obj: obj is not None) for mirror in self._children),
                mark("status", self._endpoints, lambda obj: observed(obj, 1)),
                mark("ready", self._endpoints, lambda obj: ready(obj, 1)),
            )

    async def edit(self) -> None:
        """An engine argument of every endpoint."""
        async with self._phase("edit") as mark:
            await asyncio.gather(
                each(self.names, lambda name: self._api.merge(ENDPOINTS, name, edit(EDITED))),
                mark("deployments", self._deployments, lambda obj: has_length(obj, EDITED)),
                mark("status", self._endpoints, lambda obj: observed(obj, 2)),
                mark("ready", self._endpoints, lambda obj: ready(obj, 2)),
            )

    async def edit_one(self) -> None:
        """One endpoint among all, in quiet."""
        async with self._phase("edit one") as mark:
            one = self.names[:1]
            await asyncio.gather(
                self._api.merge(ENDPOINTS, one[0], edit(EDITED_ALONE)),
                mark("deployments", self._deployments, lambda obj: has_length(obj, EDITED_ALONE), one),
                mark("ready", self._endpoints, lambda obj: ready(obj, 3), one),
            )

    async def repair(self) -> None:
        """Every Service deleted and every Deployment edited by hand."""
        before = {name: obj["metadata"]["uid"] for name, obj in self._services.objects.items()}
        generations = {name: obj["metadata"]["generation"] for name, obj in self._deployments.objects.items()}
        deadline = self._deployments.objects[self.names[0]]["spec"]["progressDeadlineSeconds"]
        assert deadline != DAMAGED_DEADLINE_SECONDS

        def is_back(service: Object | None) -> bool:
            return service is not None and service["metadata"]["uid"] != before[service["metadata"]["name"]]

        def is_mended(deployment: Object | None) -> bool:
            assert deployment is not None
            meta = deployment["metadata"]
            edited_and_mended = meta["generation"] >= generations[meta["name"]] + 2
            return bool(edited_and_mended and deployment["spec"]["progressDeadlineSeconds"] == deadline)

        async def damage(name: str) -> None:
            await self._api.delete(SERVICES, name)
            await self._api.merge(DEPLOYMENTS, name, {"spec": {"progressDeadlineSeconds": DAMAGED_DEADLINE_SECONDS}})

        async with self._phase("repair") as mark:
            await asyncio.gather(
                each(self.names, damage),
                mark("children", self._services, is_back),
                mark("children", self._deployments, is_mended),
            )

    async def crash(self) -> None:
        """SIGKILL, an edit of the first and the last endpoint, a new operator."""
        edited = [self.names[0], self.names[-1]]
        async with self._phase("crash") as mark:
            self._operator.kill()
            await each(edited, lambda name: self._api.merge(ENDPOINTS, name, edit(EDITED_AFTER_CRASH)))
            self._operator = self._rig.operator()

            async def leads() -> None:
                await self._leads()
                mark.now("leads")

            await asyncio.gather(
                leads(),
                mark("deployments", self._deployments, lambda obj: has_length(obj, EDITED_AFTER_CRASH), edited),
            )

    async def idle(self, seconds: float) -> None:
        """Nothing changes."""
        async with self._phase("idle"):
            await asyncio.sleep(seconds)

    async def delete(self) -> None:
        """All endpoints in one call; what is measured is the garbage collector of Kubernetes."""
        async with self._phase("delete") as mark:
            await asyncio.gather(
                self._api.delete(ENDPOINTS),
                *(mark("children", mirror, lambda obj: obj is None) for mirror in self._children),
            )

    async def _leads(self) -> None:
        await asyncio.to_thread(self._operator.wait_for, '"leading"')

    @contextlib.asynccontextmanager
    async def _phase(self, name: str) -> AsyncIterator[Marks]:
        """Measure what the block does, and what follows from it until the operator is quiet."""
        phase = self.phases[name] = Phase()
        first = self._operator
        cpu, passes, calls = self._cpu(), first.passes(), self._rig.calls()
        with step(f"{len(self.names)} endpoints: {name}"):
            yield Marks(name, phase, self.names)
            await self._quiet()
        phase.calls = self._rig.calls() - calls
        after = self._cpu()
        if self._operator is not first:  # another process: it began at 0
            cpu["operator"], passes = 0.0, 0
        phase.cpu_seconds = {process: after[process] - cpu[process] for process in after}
        phase.passes = self._operator.passes() - passes
        phase.memory_bytes, phase.peak_bytes = self._operator.memory_bytes()
        told = ", ".join(f"{label} {seconds:.1f} s" for label, seconds in phase.seconds.items())
        say(f"  {told or 'over'}; operator: {phase.cpu_seconds['operator']:.2f} s of CPU, {phase.passes} passes")

    def _cpu(self) -> Times:
        pids = {"operator": self._operator.pid, "player": self._player.pid, **self._rig.control_plane.pids()}
        return {name: cpu_seconds(pid) for name, pid in pids.items()}

    async def _quiet(self) -> None:
        """Until the operator has used next to no CPU for a while: it asks the API server nothing, and costs nothing."""
        before = float("-inf")
        while cpu_seconds(self._operator.pid) - before > QUIET_CPU_SECONDS:
            before = cpu_seconds(self._operator.pid)
            await asyncio.sleep(QUIET_SECONDS)
