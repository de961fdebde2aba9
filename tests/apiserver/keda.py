"""`make keda`: the real KEDA scales an endpoint on the load that Berth tells, and is installed after Berth.

Not in `make test`: to compile KEDA takes a quarter of an hour, once, and its way down five minutes.  Played: the pods'
launchers, as in test_scaling.  In: loads, edits of spec.scaling.actuator.  Out: every number of replicas on the way.
"""

import socket
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from local.controlplane import ControlPlane
from local.keda import Keda
from local.kubectl import Kubectl
from tests.apiserver.endpoints import endpoint, status
from tests.apiserver.operators import Operator
from tests.apiserver.test_actuators import change, counts
from tests.apiserver.test_scaling import SCALING, SECONDS, Played, of, replicas
from tests.waiting import eventually

# A HorizontalPodAutoscaler waits five minutes before it takes a replica away.
DOWN_SECONDS = 600


@pytest.mark.timeout(3600)
def test_keda_scales_on_the_load_that_berth_sees(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str, operator_process: Operator, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    operator_process.start(HTTP_PORT=str(port), URL=url)
    kubectl.apply([endpoint(namespace, scaling=SCALING | {"actuator": "KEDA"})])
    with ExitStack() as stack:
        played = Played(kubectl, namespace, stack)
        played.all_ready(1)
        eventually(
            lambda: of(kubectl, namespace, "ScalingActive").get("reason") == "KEDAMissing", SECONDS, "it is said"
        )

        stack.enter_context(Keda(control_plane, tmp_path / "keda"))
        active = lambda: of(kubectl, namespace, "ScalingActive")  # noqa: E731
        eventually(lambda: active().get("reason") == "AutoscalerActive", SECONDS, "KEDA follows its metric")
        (first,) = played.launchers
        played.has(first, 27)
        eventually(lambda: replicas(kubectl, namespace) == 3, SECONDS, "three replicas")
        played.all_ready(3)
        told = httpx.get(f"{url}/scaling/{namespace}/demo").json()
        assert told["targetPerReplica"] == 10
        assert told["replicas"] == pytest.approx(told["demand"] / 10)
        assert status(kubectl, namespace)["scaling"]["desired"] == 3

        with counts(kubectl, namespace) as seen:
            played.launchers[first].load = {}  # it tells nothing: that is not zero
            answer = lambda: httpx.get(f"{url}/scaling/{namespace}/demo").status_code  # noqa: E731
            eventually(lambda: answer() == 503, SECONDS, "a load that is not known")
            eventually(lambda: active().get("status") == "False", SECONDS, "it is said")
            played.has(first, 27)
            eventually(lambda: active().get("reason") == "AutoscalerActive", SECONDS, "it is known again")
            change(kubectl, namespace, scaling={"actuator": "Builtin"})
            eventually(lambda: not kubectl.get("scaledobjects", "-n", namespace)["items"], 20, "no ScaledObject")
            eventually(lambda: active().get("reason") == "LoadKnown", SECONDS, "the load is known")
            change(kubectl, namespace, scaling={"actuator": "KEDA"})
            eventually(lambda: active().get("reason") == "AutoscalerActive", SECONDS, "KEDA again")
        assert seen == [3]

        for name in played.launchers:
            played.has(name, 1)
        eventually(lambda: replicas(kubectl, namespace) == 1, DOWN_SECONDS, "one replica")
