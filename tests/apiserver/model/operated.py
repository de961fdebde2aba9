"""The operator as the model sees it: a process that comes and goes, with metrics and a log."""

import re

import httpx

from berth.api import names
from berth.kube.resources import LEASES
from tests.apiserver.model.cluster import Cluster
from tests.apiserver.operators import SYSTEM_NAMESPACE, Operator


class Operated:
    """The operator, which runs. port: where its metrics are.  cluster: an administrator's access."""

    def __init__(self, operator: Operator, port: int, cluster: Cluster) -> None:
        self.runs = True
        self._operator = operator
        self._port = port
        self._cluster = cluster
        self._log_from = operator.log.stat().st_size

    def stop(self, kill: bool) -> None:
        """SIGKILL or SIGTERM."""
        self.runs = False
        if kill:
            self._operator.kill()
            # A new process would wait until the Lease ends; that is tested elsewhere, and here many die.
            self._cluster.call("DELETE", LEASES.path(SYSTEM_NAMESPACE, names.LEASE))
        else:
            assert self._operator.stop() == 0

    def start(self) -> None:
        """Start it, if it does not run."""
        if not self.runs:
            self._operator.start(HTTP_PORT=str(self._port))
            self.runs = True

    def passes(self) -> int:
        """Passes that ended well since its start; -1 while endpoints wait for one."""
        told = httpx.get(f"http://127.0.0.1:{self._port}/metrics", trust_env=False).text
        depth, passes = (
            float(found[1]) if (found := re.search(rf"^{metric} (\S+)$", told, re.MULTILINE)) else 0.0
            for metric in ("berth_queue_depth", r'berth_reconciles_total\{result="ok"\}')
        )
        return -1 if depth else int(passes)

    def log_complaints(self) -> list[str]:
        """Its log, if there are errors of the program in it."""
        with self._operator.log.open() as log:
            log.seek(self._log_from)
            text = log.read()
        return [text] if "Traceback" in text or "reconcile_failed" in text else []
