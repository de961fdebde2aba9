"""A pass on what is no longer true: the cache is always a little behind.

Input: a cache with an endpoint that the API server no longer has.  Output: what one pass leaves there.
Not mocked: anything; the watches are left out, so that the cache stays behind, and the clock does not wait.
"""

import itertools
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from berth.api.names import Key
from berth.decide.conflict import SAME_ANSWERS
from berth.decide.ports import Ports
from berth.held import Held
from berth.kube.cache import Cache
from berth.kube.client import Client
from berth.kube.connection import connect
from berth.kube.gateways import Gateways
from berth.kube.launchers import Launchers
from berth.kube.lookups import Lookups
from berth.kube.resources import DEPLOYMENTS, ENDPOINTS, Resource
from berth.process import utc_now
from berth.reconcile import Reconciler
from berth.replicas import Replicas
from berth.scaler import Scaler
from berth.zero import Zero
from local.controlplane import ControlPlane
from local.kubectl import Kubectl
from tests.builders import PLATFORM

Object = dict[str, Any]


@pytest_asyncio.fixture
async def reconciler(control_plane: ControlPlane) -> AsyncIterator[Reconciler]:
    async def no_launcher(pod_ip: str) -> None:
        return None

    async def no_gateway(at: str, version: int | None) -> None:
        return None

    client = Client(partial(connect, str(control_plane.kubeconfig), {}), time.monotonic)
    clock = partial(next, itertools.count(step=60.0))
    cache, lookups = Cache(), Lookups(client, clock)
    held = Held(no_gateway, lambda uid: None, clock)
    scaler = Scaler(no_launcher, held, cache, lambda key: None, clock, str)
    replicas = Replicas(client, cache, lookups, scaler, clock, utc_now)
    zero = Zero(cache, Gateways(""), scaler, Ports(range(0)), clock)
    yield Reconciler(client, cache, lookups, PLATFORM, Launchers(no_launcher, clock), replicas, zero, clock, utc_now)
    await client.close()


def create(kubectl: Kubectl, namespace: str) -> Object:
    endpoint = {
        "apiVersion": "berth.dev/v1alpha1",
        "kind": "ModelEndpoint",
        "metadata": {"name": "demo", "namespace": namespace},
        "spec": {"model": {"source": "file:///m"}, "suspend": True},
    }
    kubectl.apply([endpoint])
    return kubectl.get("mep", "demo", "-n", namespace)


async def test_status_of_a_deleted_endpoint_does_not_land_on_the_one_made_again(
    reconciler: Reconciler, kubectl: Kubectl, namespace: str
) -> None:
    old = create(kubectl, namespace)
    reconciler.cache.put(ENDPOINTS, old)
    kubectl.run("delete", "mep", "demo", "-n", namespace)
    new = create(kubectl, namespace)
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    await reconciler.reconcile(Key(namespace, "demo"))
    assert "status" not in kubectl.get("mep", "demo", "-n", namespace)


async def test_an_edit_that_the_answer_to_a_status_write_brings_before_the_watch_is_not_lost(
    reconciler: Reconciler, kubectl: Kubectl, namespace: str
) -> None:
    reconciler.cache.put(ENDPOINTS, create(kubectl, namespace))
    kubectl.run("patch", "mep", "demo", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":false}}')
    key = Key(namespace, "demo")
    while (again := await reconciler.reconcile(key)) is not None and again > 0:  # the Deployment controller acts
        await reconciler_sees(reconciler, kubectl, namespace)
    assert kubectl.get("mep", "demo", "-n", namespace)["status"]["observedGeneration"] == 1
    assert not reconciler.cache.put(ENDPOINTS, kubectl.get("mep", "demo", "-n", namespace)), "the watch brings no news"
    assert again == 0.0
    await reconciler.reconcile(key)
    assert kubectl.get("deployment", "demo", "-n", namespace)["spec"]["replicas"] == 1


async def reconciler_sees(reconciler: Reconciler, kubectl: Kubectl, namespace: str) -> None:
    """What the watch of Deployments would bring."""
    reconciler.cache.put(DEPLOYMENTS, kubectl.get("deployment", "demo", "-n", namespace))


async def test_a_pass_ends_after_two_answers_that_differ_each_in_another_way(
    reconciler: Reconciler, kubectl: Kubectl, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a webhook would give them that changes another field each time: never the same answer twice."""
    reconciler.cache.put(ENDPOINTS, create(kubectl, namespace))
    apply, answers = reconciler.client.apply, itertools.count()

    async def rewritten(resource: Resource, manifest: Object) -> Object:
        applied = await apply(resource, manifest)
        if resource is DEPLOYMENTS:
            number = next(answers)
            applied["spec"][("progressDeadlineSeconds", "revisionHistoryLimit")[number % 2]] = 77 + number
        return applied

    monkeypatch.setattr(reconciler.client, "apply", rewritten)
    await reconciler.reconcile(Key(namespace, "demo"))
    assert next(answers) == SAME_ANSWERS


async def test_an_endpoint_that_is_gone_is_no_error(reconciler: Reconciler, kubectl: Kubectl, namespace: str) -> None:
    reconciler.cache.put(ENDPOINTS, create(kubectl, namespace))
    kubectl.run("delete", "mep", "demo", "-n", namespace)
    await reconciler.reconcile(Key(namespace, "demo"))
    assert kubectl.find("mep", "demo", "-n", namespace) is None


async def test_a_namespace_that_is_gone_is_no_error(reconciler: Reconciler, kubectl: Kubectl, namespace: str) -> None:
    reconciler.cache.put(ENDPOINTS, create(kubectl, namespace))
    kubectl.run("delete", "namespace", namespace, "--wait=true")
    await reconciler.reconcile(Key(namespace, "demo"))


async def test_nothing_is_written_for_an_endpoint_that_is_being_deleted(
    reconciler: Reconciler, kubectl: Kubectl, namespace: str
) -> None:
    endpoint = create(kubectl, namespace)
    endpoint["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    reconciler.cache.put(ENDPOINTS, endpoint)
    assert await reconciler.reconcile(Key(namespace, "demo")) is None
    assert kubectl.find("deployment", "demo", "-n", namespace) is None
    assert "status" not in kubectl.get("mep", "demo", "-n", namespace)
