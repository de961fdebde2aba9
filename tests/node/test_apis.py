"""The code of the published pages against an endpoint in the cluster: an address and a key are all that it is given.

The same tests as in front of the bare launcher, on a Service, a pod and a mounted Secret.
"""

from collections.abc import Iterator

import pytest

from local.kubectl import Kubectl
from tests.contracts.apis.conftest import KEY, NAMES, Endpoint, Own, asking
from tests.contracts.apis.test_pages import *  # noqa: F403
from tests.node import endpoints


@pytest.fixture(scope="module")
def endpoint(kubectl: Kubectl) -> Iterator[Endpoint]:
    with endpoints.namespace(kubectl) as namespace:
        endpoints.serve_with_key(kubectl, namespace, "pages", KEY, NAMES)
        with endpoints.client(kubectl, namespace, "pages") as client:
            yield Endpoint(str(client.base_url).rstrip("/"), KEY)


@pytest.fixture(scope="module")
def own(endpoint: Endpoint) -> Iterator[Own]:
    with asking(endpoint) as ask:
        yield ask
