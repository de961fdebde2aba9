"""Faults: the operator as its own process, with a proxy between it and the real API server that injects them.

In: `operator` and `operator_process` of the tier, whose kubeconfig here names the proxy. Out: `written`, what the API
server carried out for the operator, from its audit log. Not mocked: anything; a fault is all that the proxy adds.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from local.controlplane import ControlPlane
from tests.apiserver.faults.ledger import Ledger
from tests.apiserver.faults.proxy import Proxy, through
from tests.apiserver.faults.site import Outage, Site, new_site, two_minutes_away


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[Proxy]:
    """A proxy in front of the API server that injects nothing yet."""
    with Proxy(control_plane.url, control_plane.ca_path) as running:
        yield running


@pytest.fixture
def operator_kubeconfig(operator_kubeconfig: Path, proxy: Proxy, tmp_path: Path) -> Path:
    """The operator's credentials, for use through the proxy."""
    return through(proxy, operator_kubeconfig, tmp_path / "operator.kubeconfig")


@pytest.fixture
def ledger(control_plane: ControlPlane, namespace: str) -> Ledger:
    """What the operator has written in the test's namespace."""
    return Ledger(control_plane.audit_log, namespace)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A control plane of one's own."""
    with new_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="session")
def outage(site: Site) -> Iterator[Future[Outage]]:
    """Two minutes without the API server of `site`. They begin here and pass while other tests run."""
    # Its thread must not end before the API server that it starts again.
    with ThreadPoolExecutor(max_workers=1) as background:
        given_up = Event()
        yield background.submit(two_minutes_away, site, given_up)
        given_up.set()
