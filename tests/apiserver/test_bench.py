"""The benchmark measures what it says: one endpoint, without the phases that take long."""

from pathlib import Path

from local.controlplane import ControlPlane
from tests.apiserver.endpoints import writes
from tests.bench.rig import Rig
from tests.bench.scenario import Scenario


async def test_it_times_and_counts_one_endpoint_from_its_creation_to_the_last_child(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    rig = Rig(control_plane, namespace, tmp_path)
    with rig.player() as player:
        async with Scenario(rig, player, 1) as scenario:
            for phase in (scenario.create, scenario.repair, scenario.delete):
                await phase()
    created, repaired, deleted = (scenario.phases[name] for name in ("create", "repair", "delete"))
    made = {call: count for call, count in writes(created.calls).items() if call[1] != "leases"}
    # One status if the pod ran before the operator looked, two if it was seen waiting first.
    assert made.pop(("patch", "modelendpoints/status")) in (1, 2)
    assert made == {("patch", kind): 1 for kind in ("deployments", "services", "poddisruptionbudgets")}
    assert 0 < created.seconds["children"] <= created.seconds["ready"]
    assert created.passes > 0
    assert created.cpu_seconds["operator"] > 0
    assert created.memory_bytes > 10_000_000
    assert repaired.calls["patch", "services"] == repaired.calls["patch", "deployments"] == 1
    assert deleted.seconds["children"] > 0
