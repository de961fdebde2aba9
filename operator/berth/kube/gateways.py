"""The pods of the gateway, as the EndpointSlices of its Service have them."""

from typing import Any

from berth.api import names
from berth.api.names import Key
from berth.decide.backends import addresses, told_at
from berth.kube.cache import Cache, service_key
from berth.kube.resources import SLICES

Object = dict[str, Any]


class Gateways:
    """service: namespace/name of the gateway's Service, "" without a gateway.

    resource: its slices, for a reflector that fills `cache`.
    """

    def __init__(self, service: str) -> None:
        namespace, _, name = service.partition("/")
        self.service = service
        self.resource = SLICES._replace(selector=f"{names.SERVICE_LABEL}={name}")
        self.cache = Cache(key_of=self._key_of)
        self._key = Key(namespace, name)
        self._asked: dict[str, bool] = {}

    def _key_of(self, obj: Object) -> Key | None:
        """The Service. The selector also finds the slices of others that are called like it: they belong to nobody."""
        return self._key if service_key(obj) == self._key else None

    @property
    def known(self) -> bool:
        """Whether they have been listed: before that nothing is known of them. Without a gateway there are none."""
        return not self.service or self.cache.has_kind(self.resource)

    def ready(self, family: str) -> tuple[str, ...]:
        """Addresses of those that take requests."""
        slices = [found for found in self.cache.of(self.resource, self._key) if found["addressType"] == family]
        return tuple(sorted({address for found in slices for address in addresses(found)}))

    def told_at(self) -> dict[str, bool]:
        """Where each one tells what it holds, and whether it is ready. Also those that leave, or are not any more."""
        self._asked = told_at(self.cache.of(self.resource, self._key), names.ADMIN_PORT_NAME, self._asked)
        return self._asked
