"""Node tier: a real kubelet, containerd, the chart installed by Helm, real vLLM on the CPU.

In: a machine where the user is root. `demo` runs `python -m local demo` once, as a user would, and leaves its endpoint
serving for the tests that only need one. `namespace` is a new one per test, with restricted Pod Security enforced and
the test model on the claim `models`. Out: the cluster stays up, for the next run; `make down` removes it.
Not mocked: anything. Fake are the GPUs of the node (a number in its status) and nothing else.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import images, node
from local.kubectl import Kubectl
from local.locks import held
from tests.node import endpoints

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What removes the cluster comes last."""
    items.sort(key=lambda item: item.path.name == "test_removal.py")


@pytest.fixture(scope="session", autouse=True)
def alone() -> Iterator[None]:
    """The tier has the machine's cluster for itself: that of another checkout waits for its turn.

    What a killed run left, such as a cordoned node or pods that hold the GPUs, goes with its cluster.
    """
    unfinished = Path("/run/lock/berth-local-tests.unfinished")
    with held(Path("/run/lock/berth-local-tests.lock"), "running the node tests"):
        if unfinished.exists():
            node.down()
        unfinished.touch()
        yield
        unfinished.unlink()


@pytest.fixture(scope="session")
def demo() -> str:
    """Output of one whole `make demo`, given by its own command."""
    assert os.geteuid() == 0, "the node tier starts a kubelet: run it as root"
    done = subprocess.run(
        [sys.executable, "-m", "local", "demo"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def kubectl(demo: str) -> Kubectl:
    """The cluster's administrator."""
    return Kubectl(node.KUBECONFIG)


@pytest.fixture(scope="session")
def references(demo: str) -> dict[str, str]:
    """Image references by name."""
    return images.ensure(["operator", "server", "gateway", "vllm-cpu"])


@pytest.fixture(name="namespace")
def namespace_of_the_test(kubectl: Kubectl) -> Iterator[str]:
    """One per test."""
    with endpoints.namespace(kubectl) as name:
        yield name
