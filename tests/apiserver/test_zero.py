"""Endpoints that sleep at zero and wake: the Deployment, the slices of the Service, and status.

The slices of pods are the real controller's. Played: kubelet, scheduler, launchers and the gateway, which tells what it
holds.  In: what is held, what pods report.  Out: objects, and the order of the operator's writes by the audit log.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from local.controlplane import ControlPlane
from local.kubectl import Kubectl
from tests.apiserver.endpoints import Calls, endpoint, patch_pod_status, status, writes
from tests.apiserver.launcher import Launcher
from tests.apiserver.operators import SYSTEM_NAMESPACE, Operator, process
from tests.apiserver.played import Gateway, GatewayService, bind, node, own_address
from tests.apiserver.test_actuators import METRIC, change, counts, hpa
from tests.apiserver.test_scaling import SECONDS, of, pods, ready_at, replicas
from tests.waiting import eventually

Object = dict[str, Any]

FIRST_PORT, PORTS = 25000, 50
ZERO = {"min": 0, "max": 3, "idleSeconds": 10, "target": {"inFlightPerReplica": 10}}
AUTOSCALED = ZERO | {"actuator": "HPA", "metric": METRIC}
SLEEPERS = dict.fromkeys(("quiet", "failing", "edited", "invalid", "kept", "restarted", "refused"), ZERO) | {
    "autoscaled": AUTOSCALED
}
ELSEWHERE = "198.51.100.{}"


class Shared:
    """One operator with a gateway of one pod. The pods of all endpoints have one launcher."""

    def __init__(self, kubectl: Kubectl, operator: Operator, stack: ExitStack) -> None:
        self.kubectl, self.operator = kubectl, operator
        self.address = own_address()
        self.gateway = stack.enter_context(Gateway(self.address))
        self.launcher = stack.enter_context(Launcher(self.address))
        self.service = GatewayService(kubectl, new_namespace(kubectl))
        self.has_gateway()

    def has_gateway(self, *more: str, leaving: tuple[str, ...] = ()) -> None:
        """The gateway's pod is ready, and others are, or leave."""
        self.service.has(self.gateway.port, self.address, *more, leaving=leaving)

    def has_no_gateway(self) -> None:
        self.service.has(self.gateway.port)

    def start(self, namespaces: str = "") -> None:
        """The operator. namespaces: those whose endpoints the gateway serves, "" for all."""
        self.operator.start(
            GATEWAY_SERVICE=self.service.name,
            GATEWAY_NAMESPACES=namespaces,
            GATEWAY_FIRST_PORT=str(FIRST_PORT),
            GATEWAY_PORTS=str(PORTS),
        )

    def looks(self) -> None:
        """The operator has had time to see what there is."""
        asked = self.gateway.asked
        eventually(lambda: self.gateway.asked > asked + 2, SECONDS, "the gateway is asked")


class Site:
    """The endpoint `demo` in a namespace of its own."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.kubectl, self.gateway = shared, shared.kubectl, shared.gateway
        self.namespace, self.address = new_namespace(shared.kubectl), shared.address
        self.does(0)

    def does(self, running: int, ended: int = 0) -> None:
        """What the pods have to do."""
        told = {"v": 1, "running": running, "waiting": 0, "deferred": 0, "requests": ended, "tokens": 0}
        self.shared.launcher.load = told | {"max_num_seqs": 64, "kv_cache_tokens": 4096}

    def holds(self, requests: int, ended: int = 0) -> None:
        """What the gateway has for the endpoint."""
        self.gateway.holds(self.kubectl.get("mep", "demo", "-n", self.namespace)["metadata"]["uid"], requests, ended)

    def report(self, **state: Any) -> None:
        """Every pod is ready, or as `state` says."""
        for pod in pods(self.kubectl, self.namespace):
            name = pod["metadata"]["name"]
            if not pod["spec"].get("nodeName"):
                bind(self.kubectl, self.namespace, name)
            patch_pod_status(self.kubectl, self.namespace, name, ready_at(self.address) | state)

    def bury(self) -> None:
        """Pods that leave have left."""
        for pod in self.kubectl.get("pods", "-n", self.namespace)["items"]:
            if pod["metadata"].get("deletionTimestamp"):
                name = pod["metadata"]["name"]
                self.kubectl.run("delete", "pod", name, "-n", self.namespace, "--force", "--grace-period=0")

    def slice(self) -> Object | None:
        """Berth's own."""
        return self.kubectl.find("endpointslice", "demo-gateway", "-n", self.namespace)

    def leads_to(self) -> list[str] | None:
        """Where Berth's own slice leads; None without one."""
        found = self.slice()
        return None if found is None else [item["addresses"][0] for item in found["endpoints"] or []]

    def ready(self) -> tuple[str, str]:
        found = of(self.kubectl, self.namespace, "Ready")
        return str(found["status"]), str(found.get("reason", ""))

    def becomes(self, value: str, reason: str) -> Object:
        eventually(lambda: self.ready() == (value, reason), SECONDS, f"Ready {value} {reason}, is {self.ready()}")
        return of(self.kubectl, self.namespace, "Ready")

    def serves(self) -> None:
        """From nothing to a pod that serves, and a Service that leads to it alone."""
        eventually(lambda: pods(self.kubectl, self.namespace), SECONDS, "a pod")
        self.report()
        self.becomes("True", "Serving")
        eventually(lambda: self.leads_to() == [], SECONDS, "the Service leads to pods alone")

    def falls_asleep(self) -> None:
        self.becomes("True", "Asleep")
        self.bury()
        assert replicas(self.kubectl, self.namespace) == 0


def new_namespace(kubectl: Kubectl) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    kubectl.run("create", "namespace", name)
    return name


@pytest.fixture(scope="module")
def shared(kubectl: Kubectl, operator_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with ExitStack() as stack:
        operator = stack.enter_context(
            process(operator_kubeconfig, tmp_path_factory.mktemp("operator") / "operator.log")
        )
        stack.enter_context(node(kubectl))
        found = Shared(kubectl, operator, stack)
        found.start()
        yield found


@pytest.fixture(scope="module")
def asleep(shared: Shared) -> dict[str, Site]:
    """An endpoint for each test that begins with one that sleeps: together they wait for it once."""
    sites = {name: Site(shared) for name in SLEEPERS}
    for name, site in sites.items():
        site.kubectl.apply([endpoint(site.namespace, scaling=SLEEPERS[name])])
    for site in sites.values():
        site.serves()
    for site in sites.values():
        site.falls_asleep()
    return sites


@pytest.fixture
def site(shared: Shared) -> Site:
    """An endpoint that is not there yet."""
    return Site(shared)


def scaling(site: Site) -> Object:
    return dict(status(site.kubectl, site.namespace).get("scaling") or {})


def wrote(control_plane: ControlPlane, namespace: str) -> list[tuple[str, datetime]]:
    """Writes of Berth to Deployments and EndpointSlices of a namespace: what, and when they were asked for."""
    found = []
    for line in control_plane.audit_log.read_text().splitlines():
        entry = json.loads(line)
        target = entry.get("objectRef") or {}
        mine = entry["user"]["username"] == f"system:serviceaccount:{SYSTEM_NAMESPACE}:berth"
        if mine and target.get("namespace") == namespace and entry["verb"] in ("patch", "delete", "create"):
            found.append((target["resource"], datetime.fromisoformat(entry["requestReceivedTimestamp"])))
    return [(what, at) for what, at in found if what in ("deployments", "endpointslices")]


def test_it_sleeps_when_nobody_asks_and_wakes_with_what_the_held_requests_need(
    site: Site, control_plane: ControlPlane
) -> None:
    site.kubectl.apply([endpoint(site.namespace, scaling=ZERO)])
    eventually(lambda: site.leads_to() == [site.address], SECONDS, "requests of its first start are held")
    site.becomes("False", "Starting")
    assert scaling(site).get("limitedBy", "NotProven") == "NotProven"
    site.serves()
    slice_ = site.slice()
    assert slice_ is not None
    port = slice_["ports"][0]["port"]
    assert port in range(FIRST_PORT, FIRST_PORT + PORTS)
    flipped = of(site.kubectl, site.namespace, "Ready")["lastTransitionTime"]

    before = len(wrote(control_plane, site.namespace))
    site.falls_asleep()
    assert site.leads_to() == [site.address]
    (first, added), *_, (last, scaled) = wrote(control_plane, site.namespace)[before:]
    assert (first, last) == ("endpointslices", "deployments")
    assert (scaled - added).total_seconds() >= 2
    took = scaling(site)["startSeconds"]
    said = of(site.kubectl, site.namespace, "Ready")
    assert said["message"] == f"asleep: a request wakes it, which takes about {took:.0f} s"
    assert said["lastTransitionTime"] == flipped
    assert of(site.kubectl, site.namespace, "Available")["status"] == "True"

    site.holds(25)
    eventually(lambda: replicas(site.kubectl, site.namespace) == 3, SECONDS, "three replicas for 25 requests")
    said = site.becomes("True", "Waking")
    assert said["lastTransitionTime"] == flipped, "waking has flipped Ready"
    assert "waiting for the scheduler; a start takes about" in said["message"]
    eventually(lambda: len(pods(site.kubectl, site.namespace)) == 3, SECONDS, "three pods")
    before = len(wrote(control_plane, site.namespace))
    site.report()
    site.does(8)
    site.holds(0)
    site.becomes("True", "Serving")
    eventually(lambda: site.leads_to() == [], SECONDS, "the Service leads to pods alone")
    assert [what for what, _ in wrote(control_plane, site.namespace)[before:]] == ["endpointslices"]
    slice_ = site.slice()
    assert slice_ is not None
    assert slice_["ports"][0]["port"] == port
    assert of(site.kubectl, site.namespace, "Ready")["lastTransitionTime"] == flipped
    events = site.kubectl.get("events", "-n", site.namespace, "--field-selector=involvedObject.name=demo")["items"]
    told = [event["message"] for event in events if event["source"].get("component") == "berth"]
    assert "from 1 to 0: no requests" in told
    assert "from 0 to 3: 25 requests in flight / 10 per replica = 3 replicas" in told


def test_asleep_nothing_is_written_and_slices_follow_the_gateway_s_pods(asleep: dict[str, Site], calls: Calls) -> None:
    site = asleep["quiet"]
    eventually(lambda: site.kubectl.get("pods", "-n", site.namespace)["items"] == [], SECONDS, "no pods")
    settled(site, calls)
    before = writes(calls(site.namespace))
    site.shared.looks()
    assert writes(calls(site.namespace)) == before

    other = ELSEWHERE.format(7)
    site.shared.has_gateway(other)
    eventually(lambda: site.leads_to() == sorted([site.address, other]), SECONDS, "one more")
    site.shared.has_gateway(leaving=(other,))
    eventually(lambda: site.leads_to() == [site.address], SECONDS, "what leaves is gone at once")
    site.shared.has_no_gateway()
    site.becomes("False", "GatewayNotReady")
    assert site.leads_to() == []
    assert replicas(site.kubectl, site.namespace) == 0
    site.shared.has_gateway()
    site.becomes("True", "Asleep")


def settled(site: Site, calls: Calls) -> None:
    """Nothing more follows from what has happened."""
    seen = [writes(calls(site.namespace)), None]

    def same() -> bool:
        site.shared.looks()
        seen[:] = [writes(calls(site.namespace)), seen[0]]
        return seen[0] == seen[1]

    eventually(same, SECONDS, "rest")


def test_without_a_gateway_that_is_ready_the_last_pod_stays_and_status_says_why(site: Site) -> None:
    site.shared.has_no_gateway()
    site.kubectl.apply([endpoint(site.namespace, scaling=ZERO)])
    site.serves()
    eventually(lambda: scaling(site).get("limitedBy") == "GatewayNotReady", SECONDS, "it is said")
    assert scaling(site)["explanation"].startswith("kept at 1 as not every pod of the gateway tells what it holds; ")
    assert of(site.kubectl, site.namespace, "ScalingActive")["reason"] == "GatewayNotReady"
    assert site.ready() == ("True", "Serving")
    site.shared.has_gateway()
    eventually(lambda: scaling(site).get("limitedBy") is None, SECONDS, "nothing keeps it awake any more")


def test_a_wake_that_fails_says_why_and_its_mending_is_noticed(asleep: dict[str, Site]) -> None:
    site = asleep["failing"]
    site.holds(1)
    site.becomes("True", "Waking")
    eventually(lambda: pods(site.kubectl, site.namespace), SECONDS, "a pod")
    ended = {"exitCode": 1, "reason": "Error", "message": json.dumps(LAUNCHER_SAID)}
    broken = {"name": "server", "image": "i", "imageID": "", "ready": False, "restartCount": 1}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    unready = [{"type": kind, "status": "False"} for kind in ("ContainersReady", "Ready")]
    site.report(conditions=unready, containerStatuses=[broken | {"state": waiting, "lastState": {"terminated": ended}}])
    said = site.becomes("False", "TokenRejected")
    assert "the hub refuses the token" in said["message"]
    assert of(site.kubectl, site.namespace, "Stalled")["status"] == "True"
    assert site.leads_to() == [site.address]
    site.report()
    site.becomes("True", "Serving")


LAUNCHER_SAID = {"v": 1, "reason": "TokenRejected", "message": "the hub refuses the token", "suggestion": "Renew it."}


def test_an_edit_while_asleep_is_proven_before_it_sleeps_again(asleep: dict[str, Site]) -> None:
    site = asleep["edited"]
    proven = scaling(site)["proven"]
    change(site.kubectl, site.namespace, scaling={"max": 5})
    eventually(lambda: status(site.kubectl, site.namespace)["observedGeneration"] == 2, SECONDS, "the edit")
    assert site.ready() == ("True", "Asleep"), "which is no matter of pods"
    change(site.kubectl, site.namespace, server={"args": {"seed": 1}})
    eventually(lambda: replicas(site.kubectl, site.namespace) == 1, SECONDS, "a pod to prove it")
    site.becomes("False", "Starting")
    site.serves()
    eventually(lambda: scaling(site).get("proven") not in (None, proven), SECONDS, "the proof")


def test_an_edit_that_is_refused_while_asleep_keeps_the_way_to_the_gateway(asleep: dict[str, Site]) -> None:
    site, other = asleep["invalid"], ELSEWHERE.format(8)
    change(site.kubectl, site.namespace, server={"args": {"max_model_len": 8192}})
    site.becomes("False", "InvalidSpec")
    site.shared.has_gateway(other)
    eventually(lambda: site.leads_to() == sorted([site.address, other]), SECONDS, "one more")
    site.shared.has_gateway()
    eventually(lambda: site.leads_to() == [site.address], SECONDS, "it is gone")
    assert replicas(site.kubectl, site.namespace) == 0


def test_a_new_operator_goes_on_where_the_old_one_was(asleep: dict[str, Site]) -> None:
    site = asleep["restarted"]
    port = (site.slice() or {})["ports"][0]["port"]
    eventually(lambda: of(site.kubectl, site.namespace, "ScalingActive")["status"] == "True", SECONDS, "all is known")
    active = of(site.kubectl, site.namespace, "ScalingActive")
    with counts(site.kubectl, site.namespace) as seen:
        site.shared.operator.kill()
        site.shared.start()
        site.shared.looks()
        assert of(site.kubectl, site.namespace, "ScalingActive") == active
        site.shared.operator.kill()
        site.holds(1)  # while nobody looks
        site.shared.start()
        eventually(lambda: replicas(site.kubectl, site.namespace) == 1, SECONDS, "it wakes")
        site.shared.operator.kill()
        eventually(lambda: pods(site.kubectl, site.namespace), SECONDS, "a pod")
        site.report()
        site.holds(0, ended=1)
        site.shared.start()
        eventually(lambda: site.leads_to() == [], SECONDS, "the Service leads to pods alone")
    assert seen == [0, 1]
    assert (site.slice() or {})["ports"][0]["port"] == port


def test_suspended_or_kept_awake_there_is_no_way_to_the_gateway(asleep: dict[str, Site]) -> None:
    site = asleep["kept"]
    change(site.kubectl, site.namespace, scaling={"min": 1, "idleSeconds": None})
    eventually(lambda: replicas(site.kubectl, site.namespace) == 1, SECONDS, "it is woken")
    assert site.leads_to() == [site.address], "requests are held until a pod is ready"
    eventually(lambda: pods(site.kubectl, site.namespace), SECONDS, "a pod")
    site.report()
    eventually(lambda: site.leads_to() is None, SECONDS, "no way to the gateway")
    assert site.ready() == ("True", "Serving")
    change(site.kubectl, site.namespace, scaling=ZERO)
    eventually(lambda: site.leads_to() == [], SECONDS, "it may sleep")
    change(site.kubectl, site.namespace, suspend=True)
    site.becomes("True", "Suspended")
    eventually(lambda: site.leads_to() is None, SECONDS, "no way to the gateway")

    change(site.kubectl, site.namespace, suspend=False, scaling=None)
    eventually(lambda: replicas(site.kubectl, site.namespace) == 1, SECONDS, "without scaling")
    site.kubectl.run("scale", "mep", "demo", "-n", site.namespace, "--replicas=0")
    site.becomes("True", "Suspended")
    assert site.leads_to() is None


def test_another_autoscaler_of_its_own_is_gone_while_it_sleeps(asleep: dict[str, Site]) -> None:
    site = asleep["autoscaled"]
    assert not hpa(site.kubectl, site.namespace)
    site.holds(25)
    eventually(lambda: replicas(site.kubectl, site.namespace) == 3, SECONDS, "what is held needs three")
    eventually(lambda: hpa(site.kubectl, site.namespace), SECONDS, "its autoscaler")
    assert hpa(site.kubectl, site.namespace)["spec"]["minReplicas"] == 1


def test_of_two_endpoints_with_one_name_the_younger_says_so_until_the_older_is_gone(site: Site) -> None:
    model = {"source": "pvc://models/tiny", "servedNames": ["llama"]}
    site.kubectl.apply([endpoint(site.namespace, "older", model=model)])
    eventually(lambda: status(site.kubectl, site.namespace, "older"), SECONDS, "the older one")
    first = site.kubectl.get("mep", "older", "-n", site.namespace)["metadata"]["creationTimestamp"]

    def younger() -> bool:
        site.kubectl.run("delete", "mep", "another", "-n", site.namespace, "--ignore-not-found")
        site.kubectl.apply([endpoint(site.namespace, "another", model=model)])
        return bool(site.kubectl.get("mep", "another", "-n", site.namespace)["metadata"]["creationTimestamp"] > first)

    eventually(younger, SECONDS, "a younger one")
    eventually(
        lambda: (
            status(site.kubectl, site.namespace, "another").get("ignored")
            == [
                {
                    "field": "spec.model.servedNames[llama]",
                    "why": f"through the gateway llama is {site.namespace}/older, which is older and holds that name; "
                    f"this endpoint is reachable there as {site.namespace}/another",
                }
            ]
        ),
        SECONDS,
        "it is said",
    )
    assert status(site.kubectl, site.namespace, "older")["ignored"] == []
    site.kubectl.run("delete", "mep", "older", "-n", site.namespace)
    eventually(lambda: status(site.kubectl, site.namespace, "another")["ignored"] == [], SECONDS, "it has the name")


def test_an_endpoint_that_may_sleep_is_refused_where_the_gateway_does_not_serve_its_namespace(
    asleep: dict[str, Site],
) -> None:
    site = asleep["refused"]
    site.shared.operator.stop()
    site.shared.start(namespaces="elsewhere")
    said = site.becomes("False", "GatewayMissing")
    assert f"with {site.namespace} among these" in said["message"]
    assert replicas(site.kubectl, site.namespace) == 0
    site.shared.operator.stop()
    site.shared.start(namespaces=f"elsewhere,{site.namespace}")
    site.becomes("True", "Asleep")
    site.shared.operator.stop()
    site.shared.start()


def test_an_endpoint_that_may_sleep_is_refused_where_no_gateway_is_installed(asleep: dict[str, Site]) -> None:
    site = asleep["refused"]
    site.shared.operator.stop()
    site.shared.operator.start()
    said = site.becomes("False", "GatewayMissing")
    assert said["message"].endswith("It is asleep, and stays so until then")
    assert of(site.kubectl, site.namespace, "Accepted")["reason"] == "GatewayMissing"
    assert replicas(site.kubectl, site.namespace) == 0
    eventually(lambda: site.leads_to() == [], SECONDS, "the Service leads to no address that others may get")
    change(site.kubectl, site.namespace, scaling={"min": 1, "idleSeconds": None})
    eventually(lambda: replicas(site.kubectl, site.namespace) == 1, SECONDS, "it is woken")
    eventually(lambda: pods(site.kubectl, site.namespace), SECONDS, "a pod")
    site.report()
    site.becomes("True", "Serving")
    eventually(lambda: site.leads_to() is None, SECONDS, "the slice is gone")
