"""One pass of an endpoint whose spec is refused while it sleeps: what is written all the same.

The API server is played here; tests/apiserver has the real one.
"""

from dataclasses import replace
from typing import Any

import pytest

from berth import errors
from berth.api.names import Key
from berth.api.spec import Backend, Endpoint
from berth.decide.observed import Scaled
from berth.desired.children import children
from berth.kube.cache import Cache
from berth.kube.lookups import Autoscaler
from berth.kube.resources import BY_KIND, ENDPOINTS, Resource
from berth.reconcile import Reconciler
from tests import builders

Object = dict[str, Any]

KEY = Key(builders.NAMESPACE, "demo")
SPEC: Object = {"scaling": {"min": 0, "max": 3}}
BEFORE = Backend(port=20001, addresses=("10.1.0.1",))
NOW = Backend(port=20001, addresses=("10.1.0.7",))


class Played:
    """Everything around a pass. refused: what the API server says of the Deployment."""

    def __init__(self, refused: errors.ApiError | None = None, **edit: Any) -> None:
        self.refused = refused
        self.applied: list[str] = []
        self.status: Object = {}
        self.cache = Cache()
        platform = replace(builders.PLATFORM, gateway_service="berth-system/gateway")
        asleep = builders.parsed(**SPEC).model_copy(update={"decided_replicas": 0, "gateway": BEFORE})
        for manifest in children(asleep, platform):
            self.cache.put(BY_KIND[manifest["kind"]], builders.live(manifest))
        self.cache.put(ENDPOINTS, builders.endpoint(**SPEC, **edit, generation=2))
        played: Any = self
        self.reconciler = Reconciler(
            played, self.cache, played, platform, played, played, played, lambda: 0.0, lambda: builders.T0
        )

    # The client.

    async def apply(self, resource: Resource, manifest: Object) -> Object:
        if resource.kind == "Deployment" and self.refused is not None:
            raise self.refused
        self.applied.append(resource.kind)
        found = builders.live(manifest)
        found["metadata"]["resourceVersion"] = "11"
        return found

    async def write_status(self, resource: Resource, namespace: str, name: str, uid: str, status: Object) -> Object:
        self.status = status
        return builders.endpoint(**SPEC, generation=2, status=status)

    # Lookups, launchers, replicas, and the way to zero.

    async def mount_events(self, pods: Any) -> Object:
        return {}

    async def ask(self, pods: Any) -> Object:
        return {}

    async def progress(self, key: Key, pods: Any) -> Object:
        return {}

    async def autoscaler(self, namespace: str, name: str) -> Autoscaler | None:
        return None

    async def decide(self, ep: Endpoint, told: Object) -> tuple[Endpoint, Scaled | None]:
        return ep.model_copy(update={"decided_replicas": 0}), None

    async def mark(self, ep: Endpoint, scaled: Scaled | None) -> float:
        return 0.0

    async def step(self, ep: Endpoint, scaled: Scaled | None) -> tuple[Endpoint, Scaled | None, float | None]:
        return ep.model_copy(update={"gateway": NOW}), scaled, None


@pytest.mark.parametrize(
    ("edit", "by_kubernetes"),
    [
        ({"server": {"args": {"model": "x"}}}, None),
        ({"server": {"image": "x"}}, errors.Invalid(422, "spec.template.spec: Invalid value")),
        ({"server": {"image": "x"}}, errors.Forbidden(403, "not allowed")),
    ],
    ids=["by Berth", "by Kubernetes", "by a policy"],
)
async def test_where_a_spec_is_refused_the_service_follows_the_gateway_s_pods(
    edit: Object, by_kubernetes: errors.ApiError | None
) -> None:
    played = Played(by_kubernetes, **edit)
    await played.reconciler.reconcile(KEY)
    assert played.applied == ["EndpointSlice"]
    accepted = next(each for each in played.status["conditions"] if each["type"] == "Accepted")
    assert accepted["status"] == "False"
