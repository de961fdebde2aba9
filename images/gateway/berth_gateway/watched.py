"""What the gateway knows of the cluster: endpoints, the addresses of their pods, and the keys of its clients."""

import asyncio

import structlog

from berth_gateway.access import Access
from berth_gateway.cluster import Api, Kind, Object, Watch
from berth_gateway.settings import Settings
from berth_gateway.table import Table

ENDPOINTS = Kind("berth.dev", "v1alpha1", "modelendpoints")
# A Service's labels are copied to its EndpointSlices, so these are those of endpoints' Services, and Berth's own.
SLICES = Kind("discovery.k8s.io", "v1", "endpointslices", "app.kubernetes.io/managed-by=berth")
SECRETS = Kind("", "v1", "secrets", "berth.dev/gateway-key=true")

log = structlog.get_logger()


class Watched:
    """The watches that keep `table` and `access` as the cluster is. Created in a running event loop."""

    def __init__(self, api: Api, settings: Settings, table: Table, access: Access) -> None:
        self._access = access
        self._problems: dict[str, str] = {}
        self._watches: list[Watch] = []
        for namespace in settings.namespaces or ("",):
            self._watches += [
                Watch(api, ENDPOINTS, namespace, table.put_endpoint, table.drop_endpoint),
                Watch(api, SLICES, namespace, table.put_slice, table.drop_slice),
            ]
        if settings.auth == "Keys":  # an open gateway may not even read them
            self._watches.append(Watch(api, SECRETS, settings.namespace, self._put_secret, self._drop_secret))

    async def run(self) -> None:
        """Follow the cluster, for ever."""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches:
                group.create_task(watch.run())

    async def synced(self) -> None:
        """Until each kind was listed once."""
        for watch in self._watches:
            await watch.synced.wait()

    def missing(self) -> list[str]:
        """Kinds that were not listed yet."""
        return list(dict.fromkeys(watch.kind.name for watch in self._watches if not watch.synced.is_set()))

    def _put_secret(self, obj: Object) -> None:
        self._access.put_secret(obj)
        self._tell_problems()

    def _drop_secret(self, namespace: str, name: str) -> None:
        self._access.drop_secret(name)
        self._tell_problems()

    def _tell_problems(self) -> None:
        for name, problem in self._access.problems.items():
            if self._problems.get(name) != problem:
                log.error("key_unusable", secret=name, problem=problem)
        self._problems = dict(self._access.problems)
