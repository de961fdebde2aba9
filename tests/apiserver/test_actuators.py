"""Who sets the number of replicas, and how it changes hands: the count itself never moves by that.

The HorizontalPodAutoscaler's controller is the real one; where no metric is served it needs none for its lower bound.
KEDA is not installed here: keda.py has the real one.  In: edits of spec.scaling.  Out: objects, and every count.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from local.keda import API_SERVICE, metrics_objects
from local.kubectl import Kubectl
from tests.apiserver.endpoints import Calls, endpoint, status
from tests.apiserver.metric_server import MetricServer
from tests.apiserver.operators import Operator
from tests.apiserver.test_scaling import SCALING, SECONDS, Played, of, replicas
from tests.waiting import eventually

METRIC = {
    "type": "External",
    "external": {"metric": {"name": "queue_depth"}, "target": {"type": "AverageValue", "averageValue": "24"}},
}


def change(kubectl: Kubectl, namespace: str, **spec: Any) -> None:
    kubectl.run("patch", "mep", "demo", "-n", namespace, "--type=merge", f"--patch={json.dumps({'spec': spec})}")


@contextmanager
def counts(kubectl: Kubectl, namespace: str) -> Iterator[list[int]]:
    """Every number of replicas that the Deployment is asked for meanwhile, each once in a row."""
    found: list[int] = []
    with tempfile.TemporaryFile() as told:
        what = ("get", "deployment", "demo", "-n", namespace, "--watch", "-o=jsonpath={.spec.replicas} ")
        watch = kubectl.start(*what, output=told)
        try:
            eventually(told.tell, 20, "the first count")  # the file and its position are shared with the watch
            yield found
        finally:
            watch.terminate()
            watch.wait()
            told.seek(0)
            seen = [int(count) for count in told.read().split()]
            found += [count for before, count in zip([None, *seen], seen, strict=False) if count != before]


def test_a_count_outlives_its_writer(kubectl: Kubectl, namespace: str, operator: Operator, calls: Calls) -> None:
    wide = SCALING | {"max": 5}
    kubectl.apply([endpoint(namespace, scaling=wide)])
    with ExitStack() as stack:
        played = Played(kubectl, namespace, stack)
        played.all_ready(1)
        played.has(*played.launchers, 27)
        eventually(lambda: replicas(kubectl, namespace) == 3, SECONDS, "three replicas")
        played.all_ready(3)

        with counts(kubectl, namespace) as seen:
            change(kubectl, namespace, scaling={"actuator": "HPA", "metric": METRIC})
            eventually(lambda: hpa(kubectl, namespace), 20, "the HorizontalPodAutoscaler")
            eventually(
                lambda: "FailedGetExternalMetric" in of(kubectl, namespace, "ScalingActive").get("message", ""),
                SECONDS,
                "what its controller says",
            )
            assert of(kubectl, namespace, "ScalingActive")["reason"] == "AutoscalerFailed"
            assert status(kubectl, namespace)["scaling"]["desired"] == 3
            change(kubectl, namespace, server={"args": {"seed": 1}})
            eventually(lambda: seed(kubectl, namespace), 20, "an edit is carried out")
        assert seen == [3]

        with counts(kubectl, namespace) as seen:
            change(kubectl, namespace, scaling={"min": 4})
            eventually(lambda: replicas(kubectl, namespace) == 4, SECONDS, "what the autoscaler wants")
            change(kubectl, namespace, server={"args": {"seed": 2}}, scaling={"min": 1})
            eventually(lambda: hpa(kubectl, namespace)["spec"]["minReplicas"] == 1, 20, "the lower bound")
            change(kubectl, namespace, scaling={"actuator": "Builtin", "metric": None})
            eventually(lambda: not hpa(kubectl, namespace), 20, "no HorizontalPodAutoscaler")
            looked = [launcher.asked for launcher in played.launchers.values()]
            eventually(
                lambda: all(
                    launcher.asked > before + 2
                    for launcher, before in zip(played.launchers.values(), looked, strict=True)
                ),
                SECONDS,
                "looks at the load",
            )
        assert seen == [3, 4]

    change(kubectl, namespace, suspend=True)
    eventually(lambda: replicas(kubectl, namespace) == 0, 20, "no replicas")
    change(kubectl, namespace, scaling={"actuator": "HPA", "metric": METRIC, "min": 2}, suspend=False)
    eventually(lambda: replicas(kubectl, namespace) == 2, SECONDS, "the least replicas")
    eventually(lambda: hpa(kubectl, namespace), 20, "the HorizontalPodAutoscaler")


def hpa(kubectl: Kubectl, namespace: str) -> dict[str, Any]:
    found = kubectl.get("hpa", "-n", namespace)["items"]
    return dict(found[0]) if found else {}


def seed(kubectl: Kubectl, namespace: str) -> bool:
    (container,) = kubectl.get("deployment", "demo", "-n", namespace)["spec"]["template"]["spec"]["containers"]
    return "--seed" in container["args"]


def test_an_actuator_that_is_not_there_is_said(kubectl: Kubectl, namespace: str, operator: Operator) -> None:
    kubectl.apply([endpoint(namespace, scaling=SCALING | {"min": 2, "actuator": "KEDA"})])
    eventually(lambda: of(kubectl, namespace, "ScalingActive").get("reason") == "KEDAMissing", SECONDS, "it is said")
    assert of(kubectl, namespace, "ScalingActive")["message"] == (
        "spec.scaling.actuator is KEDA, but this cluster has no scaledobjects.keda.sh"
    )
    assert replicas(kubectl, namespace) == 2
    change(kubectl, namespace, scaling={"actuator": "Builtin"})
    eventually(lambda: of(kubectl, namespace, "ScalingActive").get("reason") == "NoReadyPods", SECONDS, "Builtin")


def test_an_autoscaler_of_the_users_own_may_scale_the_endpoint(
    kubectl: Kubectl, namespace: str, operator: Operator
) -> None:
    kubectl.apply([endpoint(namespace)])
    target = {"apiVersion": "berth.dev/v1alpha1", "kind": "ModelEndpoint", "name": "demo"}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5, "metrics": [METRIC]}
    kind = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
    kubectl.apply([kind | {"metadata": {"name": "theirs", "namespace": namespace}, "spec": spec}])
    eventually(lambda: replicas(kubectl, namespace) == 2, SECONDS, "their two replicas")
    assert kubectl.get("mep", "demo", "-n", namespace)["spec"]["replicas"] == 2
    assert not of(kubectl, namespace, "ScalingActive")["status"], "it is not Berth that scales"


def test_the_number_follows_the_metric_that_the_user_names(
    kubectl: Kubectl, namespace: str, operator: Operator, tmp_path: Path
) -> None:
    with MetricServer(tmp_path) as metrics:
        metrics.value = 60.0
        try:
            kubectl.apply(metrics_objects(metrics.port, metrics.authority))
            kubectl.apply([endpoint(namespace, scaling=SCALING | {"max": 5, "actuator": "HPA", "metric": METRIC})])
            eventually(lambda: replicas(kubectl, namespace) == 3, SECONDS, "60 / 24 is three replicas")
            active = lambda: of(kubectl, namespace, "ScalingActive")  # noqa: E731
            eventually(lambda: active().get("reason") == "AutoscalerActive", SECONDS, "it is said who scales")
            assert active()["status"] == "True"
            metrics.value = None
            eventually(lambda: active().get("reason") == "AutoscalerFailed", SECONDS, "it is said that it cannot")
            assert "queue_depth" in active()["message"]
            assert replicas(kubectl, namespace) == 3, "the number has not stayed"
        finally:
            # While nobody answers for it, no namespace can be deleted.
            kubectl.run("delete", "apiservice", API_SERVICE)
