"""Writes of the operator that the API server carried out, counted from its audit log."""

import json
import time
from collections import Counter
from pathlib import Path

from tests.apiserver.operators import SYSTEM_NAMESPACE

Written = Counter[tuple[str, str, str]]
# The longest that a wait may take, on a machine that is busy with other things; nothing is judged by it.
LIMIT_SECONDS = 120.0
_QUIET_SECONDS = 2.0
_OPERATOR = f"system:serviceaccount:{SYSTEM_NAMESPACE}:berth"


class Ledger:
    """Writes in one namespace by verb, resource and name, from now on. Those that were refused do not count."""

    def __init__(self, audit_log: Path, namespace: str) -> None:
        self._log = audit_log
        self._namespace = namespace
        self._read_from = audit_log.stat().st_size

    def written(self) -> Written:
        """Everything so far."""
        found: Written = Counter()
        with self._log.open() as log:
            log.seek(self._read_from)
            for line in log:
                entry = json.loads(line)
                target = entry.get("objectRef") or {}
                if entry["user"]["username"] != _OPERATOR or target.get("namespace") != self._namespace:
                    continue
                if entry["verb"] in ("create", "update", "patch", "delete") and entry["responseStatus"]["code"] < 300:
                    resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
                    found[(entry["verb"], resource, target.get("name", ""))] += 1
        return found

    def settled(self) -> Written:
        """Everything, once nothing has been added for two seconds."""
        found, since = self.written(), time.monotonic()
        deadline = since + LIMIT_SECONDS
        while time.monotonic() - since < _QUIET_SECONDS:
            time.sleep(0.25)
            now = self.written()
            if now != found:
                found, since = now, time.monotonic()
            assert time.monotonic() < deadline, f"the operator does not stop writing: {found}"
        return found


def new_endpoint(name: str = "demo") -> Written:
    """What a new endpoint costs: one write per child, and one of status."""
    children = ("deployments", "services", "poddisruptionbudgets")
    return Counter({("patch", resource, name): 1 for resource in (*children, "modelendpoints/status")})
