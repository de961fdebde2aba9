"""An operator whose roles lack something says what, by verb and resource, before any endpoint shows it.

In: a service account with the chart's roles, of which a rule is cut.  Out: the log, /readyz.
"""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from local.controlplane import ControlPlane
from local.kubectl import Kubectl
from tests.apiserver.operators import SYSTEM_NAMESPACE, credentials, process
from tests.waiting import eventually

Object = dict[str, Any]


def readyz(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())


def test_missing_permissions_are_said_by_verb_and_resource_until_they_are_granted(
    control_plane: ControlPlane, kubectl: Kubectl, tmp_path: Path
) -> None:
    kubeconfig = credentials(control_plane)
    whole = {kind: kubectl.get(kind, "berth", *where) for kind, where in ROLES.items()}
    cut = {
        kind: {**role, "rules": [rule for rule in map(without, role["rules"]) if rule]} for kind, role in whole.items()
    }
    replace(kubectl, cut)
    try:
        with process(kubeconfig, tmp_path / "operator.log") as operator:
            operator.start("permission_missing")
            eventually(lambda: len(operator.events("permission_missing")) == 3, 30, "all that is missing")
            said = {entry["permission"] for entry in operator.events("permission_missing")}
            assert said == {
                "create services",
                "patch modelendpoints.berth.dev/status",
                f"update leases.coordination.k8s.io in namespace {SYSTEM_NAMESPACE}",
            }
            port = operator.events("listening")[0]["port"]
            assert "permissions are missing: " in readyz(port)
            assert all(permission in readyz(port) for permission in said)
            replace(kubectl, whole)
            eventually(lambda: readyz(port) == "ok\n", 60, "ready once they are granted")
            assert len(operator.events("permission_missing")) == 3
            assert operator.events("permissions_complete")
    finally:
        replace(kubectl, whole)


ROLES = {"clusterrole": (), "role": ("-n", SYSTEM_NAMESPACE)}
CUT = {("services", "create"), ("modelendpoints/status", "patch"), ("leases", "update")}


def without(rule: Object) -> Object | None:
    """A rule without what is cut, None when nothing of it is left."""
    verbs = [verb for verb in rule["verbs"] if not CUT & {(resource, verb) for resource in rule["resources"]}]
    return {**rule, "verbs": verbs} if verbs else None


def replace(kubectl: Kubectl, roles: dict[str, Object]) -> None:
    for role in roles.values():
        kept = {key: value for key, value in role["metadata"].items() if key in ("name", "namespace", "labels")}
        kubectl.apply([{**role, "metadata": kept}])
