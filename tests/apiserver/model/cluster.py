"""One namespace as the model drives it: an administrator's requests, the kubelet's part, and who wrote what.

Requests are raw and synchronous, a few milliseconds each: a run has hundreds of steps.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from berth.api import names
from berth.kube.resources import BASIC_CHILDREN, ENDPOINTS, PODS, Resource
from local import components
from local.controlplane import ControlPlane

Object = dict[str, Any]

REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
LOOKED_AT = (ENDPOINTS, *BASIC_CHILDREN, REPLICA_SETS, PODS)
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
NODE = "played-by-the-test"


class Refused(Exception):
    """The API server's answer to a request that it refuses: HTTP status and decoded body."""

    def __init__(self, status: int, body: Object) -> None:
        super().__init__(f"{status}: {body.get('message', body)}")
        self.status = status
        self.body = body


@dataclass(frozen=True)
class Snapshot:
    """All objects of the namespace by kind and name, without the order in which they were read."""

    objects: dict[str, dict[str, Object]]

    def of(self, resource: Resource) -> dict[str, Object]:
        """Objects of a kind by name."""
        return self.objects[resource.kind]

    def every(self) -> Iterator[Object]:
        """All objects."""
        return (obj for found in self.objects.values() for obj in found.values())


class Cluster:
    """The namespace `namespace` of a control plane, seen by its administrator."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self.namespace = namespace
        self._http = components.client(control_plane.ca_path, control_plane.ca_path.with_name("admin"))
        self._http.base_url = control_plane.url
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})

    def close(self) -> None:
        """Close the connections; the namespace and what is left in it is deleted without waiting."""
        self.call("DELETE", f"/api/v1/namespaces/{self.namespace}")
        self._http.close()

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Object:
        """One request; raises Refused."""
        content = json.dumps(body) if body is not None else None
        headers = {"Content-Type": content_type}
        while (
            answer := self._http.request(method, path, content=content, headers=headers, timeout=60)
        ).status_code == 429:
            time.sleep(0.2)  # the CRD is new
        decoded: Object = answer.json()
        if not answer.is_success:
            raise Refused(answer.status_code, decoded)
        return decoded

    def find(self, resource: Resource, name: str) -> Object | None:
        """The object, or None."""
        try:
            return self.call("GET", resource.path(self.namespace, name))
        except Refused as refused:
            if refused.status != 404:
                raise
            return None

    def create(self, resource: Resource, manifest: Object) -> Object:
        """Create an object, its kind and namespace filled in."""
        whole = {"apiVersion": resource.api_version, "kind": resource.kind, **manifest}
        return self.call("POST", resource.path(self.namespace), whole)

    def patch(self, resource: Resource, name: str, patch: Object | list[Object], subresource: str = "") -> None:
        """Merge patch (a mapping) or JSON patch (a list)."""
        content_type = JSON_PATCH if isinstance(patch, list) else MERGE_PATCH
        self.call("PATCH", resource.path(self.namespace, name, subresource), patch, content_type)

    def delete(self, resource: Resource, name: str, propagation: str = "Background", **options: Any) -> None:
        """Delete an object; nothing happens when it is gone."""
        try:
            path = resource.path(self.namespace, name)
            self.call("DELETE", path, {"propagationPolicy": propagation, **options})
        except Refused as refused:
            if refused.status != 404:
                raise

    def dry_run(self, resource: Resource, manifest: Object) -> Object:
        """What Berth's apply of a child would give."""
        query = urlencode({"fieldManager": names.FIELD_MANAGER, "force": "true", "dryRun": "All"})
        path = f"{resource.path(self.namespace, manifest['metadata']['name'])}?{query}"
        return self.call("PATCH", path, manifest, APPLY_PATCH)

    def snapshot(self) -> Snapshot:
        """Everything that matters here, read one kind after the other."""
        found: dict[str, dict[str, Object]] = {}
        for resource in LOOKED_AT:
            listed = self.call("GET", resource.path(self.namespace))
            kind = {"apiVersion": resource.api_version, "kind": resource.kind}
            found[resource.kind] = {item["metadata"]["name"]: {**item, **kind} for item in listed.get("items") or []}
        return Snapshot(found)

    def endpoints_since(self, version: str, seconds: int) -> list[Object]:
        """Watch events of ModelEndpoints after a resourceVersion. Takes `seconds`: a watch has no end of its own."""
        query = urlencode({"watch": "1", "resourceVersion": version, "timeoutSeconds": str(seconds)})
        path = f"{ENDPOINTS.path(self.namespace)}?{query}"
        with self._http.stream("GET", path, timeout=60) as answer:
            return [json.loads(line) for line in answer.iter_lines() if line]

    def endpoints_version(self) -> str:
        """resourceVersion of the collection of ModelEndpoints."""
        return str(self.call("GET", ENDPOINTS.path(self.namespace))["metadata"]["resourceVersion"])


class Write(NamedTuple):
    """A request that changed something, or might have."""

    user: str
    verb: str
    what: str


class Audit:
    """The API server's audit log from now on, of one namespace."""

    def __init__(self, log: Path, namespace: str) -> None:
        self._log = log
        self._namespace = namespace
        self._at = log.stat().st_size
        self._rest = b""

    def writes(self) -> list[Write]:
        """Finished, successful writes since the last call; dry runs and events do not count."""
        if self._log.stat().st_size < self._at:  # rotated
            self._at = 0
        with self._log.open("rb") as log:
            log.seek(self._at)
            text = log.read()
        self._at += len(text)
        *lines, self._rest = (self._rest + text).split(b"\n")
        return [write for line in lines if (write := self._write(json.loads(line)))]

    def _write(self, entry: Object) -> Write | None:
        target = entry.get("objectRef") or {}
        if target.get("namespace") != self._namespace or target["resource"] == "events":
            return None
        if entry["verb"] in ("get", "list", "watch") or entry["responseStatus"]["code"] >= 300:
            return None
        if "dryRun=" in entry["requestURI"]:
            return None
        what = "/".join(filter(None, (target["resource"], target.get("subresource"), target.get("name"))))
        return Write(entry["user"]["username"], entry["verb"], what)


SCHEDULED = {"type": "PodScheduled", "status": "True"}
LAUNCHER_SAID = json.dumps({"v": 1, "reason": "UnknownEngineArgument", "message": "no flag --x", "suggestion": "look"})


def _server(ready: bool = False, last: Object | None = None, **state: Any) -> Object:
    container = {"name": names.SERVER_CONTAINER, "image": "i", "imageID": "", "restartCount": 1 if last else 0}
    return {**container, "ready": ready, "state": state, "lastState": {"terminated": last} if last else {}}


def _status(phase: str, *containers: Object, ready: bool = False, **more: Any) -> Object:
    conditions = [SCHEDULED, {"type": "Ready", "status": str(ready)}]
    return {"phase": phase, "conditions": conditions, "containerStatuses": list(containers), **more}


_back_off = partial(_server, waiting={"reason": "CrashLoopBackOff", "message": "back-off 10s"})


class PodState(NamedTuple):
    """What a kubelet or scheduler reports of a pod, and the reason that Berth must make of it ("" for none)."""

    status: Object
    reason: str


POD_STATES = {
    "ready": PodState(_status("Running", _server(True, running={}), ready=True), ""),
    "starting": PodState(_status("Running", _server(running={})), "Starting"),
    "crash, told": PodState(
        _status("Running", _back_off(last={"exitCode": 1, "reason": "Error", "message": LAUNCHER_SAID})),
        "UnknownEngineArgument",
    ),
    "crash": PodState(_status("Running", _back_off(last={"exitCode": 139, "reason": "Error"})), "ContainerFailed"),
    "out of memory": PodState(
        _status("Running", _back_off(last={"exitCode": 137, "reason": "OOMKilled"})), "OutOfMemory"
    ),
    "no image": PodState(
        _status("Pending", _server(waiting={"reason": "ImagePullBackOff", "message": "not found"})), "ImagePullFailed"
    ),
    "no node": PodState(
        {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/0"}],
            "containerStatuses": [],
        },
        "Unschedulable",
    ),
    "evicted": PodState(
        _status("Failed", reason="Evicted", message="The node was low on resource: memory."), "PodFailed"
    ),
}


class Kubelet:
    """Plays scheduler and kubelet: binds pods to a node and reports on them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.reported: dict[str, PodState] = {}  # by uid

    def pods(self) -> list[Object]:
        """Pods that are not over, in the order in which they were made."""
        found: list[Object] = self._cluster.call("GET", PODS.path(self._cluster.namespace)).get("items") or []
        alive = [pod for pod in found if pod["status"].get("phase") not in ("Failed", "Succeeded")]
        return sorted(alive, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))

    def report(self, pod: Object, state: str) -> None:
        """The pod is in this state of POD_STATES now. A pod that has gone is no error."""
        name, reported = pod["metadata"]["name"], POD_STATES[state]
        try:
            if state != "no node" and not pod["spec"].get("nodeName"):
                target = {"metadata": {"name": name}, "target": {"kind": "Node", "name": NODE}}
                self._cluster.call("POST", PODS.path(self._cluster.namespace, name, "binding"), target)
            self._cluster.patch(PODS, name, {"metadata": {"uid": pod["metadata"]["uid"]}, **_patch(reported)}, "status")
            self.reported[pod["metadata"]["uid"]] = reported
        except Refused as refused:
            if refused.status not in (404, 409):
                raise

    def serve(self) -> None:
        """Every pod becomes ready; those that are leaving have left."""
        for pod in self.pods():
            meta = pod["metadata"]
            if meta.get("deletionTimestamp"):
                self._cluster.delete(PODS, meta["name"], gracePeriodSeconds=0)
            elif self.reported.get(meta["uid"]) is not POD_STATES["ready"]:
                self.report(pod, "ready")

    def bury(self) -> None:
        """Pods that are leaving have left."""
        for pod in self._cluster.snapshot().of(PODS).values():
            if pod["metadata"].get("deletionTimestamp"):
                self._cluster.delete(PODS, pod["metadata"]["name"], gracePeriodSeconds=0)


def _patch(state: PodState) -> Object:
    return {"status": {"reason": None, "message": None, **state.status}}
