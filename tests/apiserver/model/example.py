"""One example of the model: its namespace, and what its steps do there."""

import itertools
import time
import uuid
from collections import Counter
from typing import Any

from berth.api import names
from berth.kube.resources import BASIC_CHILDREN, ENDPOINTS, PODS, SERVICES, Resource
from local.controlplane import ControlPlane
from tests.apiserver.model.book import Book, Told, controller
from tests.apiserver.model.choices import STRANGERS, Addition, Field
from tests.apiserver.model.cluster import Audit, Cluster, Kubelet, Refused
from tests.apiserver.model.operated import Operated
from tests.apiserver.model.quiet import QUIET_SECONDS, Quiet
from tests.apiserver.operators import Operator
from tests.apiserver.test_bad_input import Case
from tests.waiting import eventually

Object = dict[str, Any]

MAKING_SECONDS = 0.5
# Berth stops after five repairs of one field.
MEDDLINGS = 3
FINALIZER = "example.com/hold"
OWNERS = ("none", "no controller", "unknown", "another too")


class Idle(Exception):
    """The step finds nothing to act on: a child that is not made yet, a pod that has gone."""


class Example:
    """What the steps do; they raise Idle when there is nothing to do it to. The operator runs before and after."""

    def __init__(self, control_plane: ControlPlane, operator: Operator, port: int) -> None:
        self.cluster = Cluster(control_plane, f"model-{uuid.uuid4().hex[:8]}")
        self.operated = Operated(operator, port, self.cluster)
        self.steps: list[str] = []
        self._kubelet = Kubelet(self.cluster)
        self._book = Book()
        audit = Audit(control_plane.audit_log, self.cluster.namespace)
        self._quiet = Quiet(self.cluster, audit, self.operated, self._kubelet, self._book, self._touch)
        self._touches = itertools.count()
        self._meddled: Counter[str] = Counter()
        self._busy: set[str] = set()  # written or deleted since the last quiet

    # Endpoints.

    def names(self) -> list[str]:
        """Names of the endpoints that should exist."""
        return sorted(self._book.endpoints)

    def leaving(self) -> list[str]:
        """Names of the endpoints that are being deleted and held."""
        return sorted(self._book.leaving)

    def fields(self, name: str) -> dict[str, Field]:
        """What of FIELDS is in the spec."""
        known = self._book.endpoints.get(name)
        return known.fields if known else {}

    def write(self, name: str, fields: dict[str, Field], case: Case | None = None) -> None:
        """Create an endpoint, or replace its spec. case: what is wrong with it."""
        self._busy.add(name)
        spec = {"model": {"source": "pvc://models/tiny"}, **{field.name: field.value for field in fields.values()}}
        spec |= case.spec if case else {}
        known = self._book.endpoints.get(name)
        if known:
            self.cluster.patch(ENDPOINTS, name, [{"op": "replace", "path": "/spec", "value": spec}])
        else:
            self.release(name)
            self._create(name, spec)
            known = self._book.endpoints[name] = Told({})
        known.fields = {field: chosen for field, chosen in fields.items() if not case or field not in case.spec}
        known.fault = case.reason if case else ""
        self._written(name)

    def _create(self, name: str, spec: Object) -> None:
        deadline = time.monotonic() + QUIET_SECONDS
        while True:
            try:
                self.cluster.create(ENDPOINTS, {"metadata": {"name": name}, "spec": spec})
                return
            except Refused as refused:  # the one before it is still being deleted
                if refused.status != 409 or time.monotonic() > deadline:
                    raise

    def _written(self, name: str) -> None:
        known, live = self._book.endpoints[name], self.cluster.find(ENDPOINTS, name)
        assert live is not None
        known.live = live
        if not known.fault:
            known.valid.append(live)

    def scale(self, name: str, count: int) -> None:
        """Write `replicas` through the scale subresource."""
        self.cluster.patch(ENDPOINTS, name, {"spec": {"replicas": count}}, "scale")
        known = self._book.endpoints[name]
        known.fields = {**known.fields, "replicas": Field("replicas", count)}
        self._written(name)

    def describe(self, name: str, metadata: Object) -> None:
        """Write labels, annotations or finalizers."""
        self.cluster.patch(ENDPOINTS, name, {"metadata": metadata})
        self._written(name)

    def _touch(self, name: str) -> None:
        """Make Berth look at an endpoint that does not change."""
        self.describe(name, {"annotations": {"example.com/touched": str(next(self._touches))}})

    def delete(self, name: str, propagation: str) -> None:
        """Delete an endpoint. Orphaned children stay; not those that Berth is about to write: that brings them back."""
        if propagation == "Orphan" and name not in self._book.meddled | self._busy:
            found = ((child.kind, self._found(child, name)) for child in BASIC_CHILDREN)
            self._book.orphans |= {(kind, name, live["metadata"]["uid"]) for kind, live in found if live}
        self._busy.add(name)
        known = self._book.endpoints.pop(name)
        if known.live["metadata"].get("finalizers"):
            self._book.leaving.add(name)
        self.cluster.delete(ENDPOINTS, name, propagation)

    def release(self, name: str) -> None:
        """Remove the user's finalizer from an endpoint that is being deleted."""
        if name in self._book.leaving:
            self._book.leaving.discard(name)
            finalizers = self.cluster.find(ENDPOINTS, name)["metadata"]["finalizers"]
            place = f"/metadata/finalizers/{finalizers.index(FINALIZER)}"
            self.cluster.patch(ENDPOINTS, name, [{"op": "remove", "path": place}])

    def delete_all(self) -> None:
        """Delete all endpoints."""
        for name in self.names():
            self.delete(name, "Background")
        self.release_all()

    def release_all(self) -> None:
        """Remove the users' finalizers from endpoints that are being deleted."""
        for name in self.leaving():
            self.release(name)

    # Children, and what has their names.

    def _found(self, child: Resource, name: str) -> Object | None:
        """The live child, when the endpoint of today controls it."""
        live, known = self.cluster.find(child, name), self._book.endpoints[name]
        return live if live and controller(live).get("uid") == known.live["metadata"]["uid"] else None

    def _own(self, child: Resource, name: str) -> Object:
        """The same; a moment is given to Berth to make it."""
        deadline = time.monotonic() + MAKING_SECONDS * self.operated.runs
        while (live := self._found(child, name)) is None:
            if time.monotonic() > deadline:
                raise Idle
        return live

    def delete_a_child(self, child: Resource, name: str, propagation: str) -> None:
        """Delete a child."""
        self._own(child, name)
        self._book.meddled.add(name)
        self.cluster.delete(child, name, propagation)

    def meddle(self, child: Resource, name: str, patch: Any, subresource: str = "") -> None:
        """Patch a child. Not again and again: Berth would take it for a controller that fights, and give way."""
        self._own(child, name)
        same = f"{child.kind} {name}: {subresource or patch}"
        self._meddled[same] += 1
        if self._meddled[same] > MEDDLINGS:
            raise Idle
        self._book.meddled.add(name)
        try:
            self.cluster.patch(child, name, patch, subresource)
        except Refused as refused:
            if refused.status not in (404, 409):  # it goes, or changes, at this moment
                raise
            raise Idle from refused

    def add_to_a_child(self, name: str, added: Addition) -> None:
        """Patch something of one's own into a child."""
        live = self._own(added.child, name)
        if added.look(live):
            raise Idle
        self.meddle(added.child, name, added.patch)
        self._book.kept.append((added.child.kind, name, live["metadata"]["uid"], added))

    def change_owner(self, child: Resource, name: str, how: str) -> None:
        """how: one of OWNERS."""
        live = self._own(child, name)
        (owner,) = (item for item in live["metadata"]["ownerReferences"] if item.get("controller"))
        other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "uid": self._config_map()}
        owners = {
            "none": None,
            "no controller": [{**owner, "controller": False}],
            "unknown": [{**owner, "uid": "00000000-0000-0000-0000-000000000000"}],
            "another too": [owner, other],
        }
        self.meddle(child, name, {"metadata": {"ownerReferences": owners[how]}})

    def _config_map(self) -> str:
        path = f"/api/v1/namespaces/{self.cluster.namespace}/configmaps"
        found = eventually(lambda: self.cluster.call("GET", path)["items"], 60, "the ConfigMap of every namespace")
        return str(found[0]["metadata"]["uid"])

    def plant(self, name: str) -> None:
        """Create a Service with label and owner of the endpoint that it does not want."""
        live, stale = self._own(SERVICES, name), f"{name}-stale"
        meta = {"name": stale, "labels": names.labels(name), "ownerReferences": live["metadata"]["ownerReferences"]}
        self._create_or_idle(SERVICES, {"metadata": meta, "spec": {"ports": [{"port": 1}]}})

    def _create_or_idle(self, child: Resource, manifest: Object) -> Object:
        try:
            return self.cluster.create(child, manifest)
        except Refused as refused:
            if refused.status != 409:
                raise
            raise Idle from refused

    def take_a_name(self, child: Resource, name: str, labelled: bool) -> None:
        """Create an object of somebody else under a child's name. labelled: with Berth's labels.

        Berth does not watch what lacks its label: a touch tells it.
        """
        if self.operated.runs and (name in self._busy or name in self._book.endpoints):
            raise Idle  # between Berth's look at the name and its apply, nobody can take it without being overwritten
        labels = names.labels(name) if labelled else {"app": "theirs"}
        manifest = {"metadata": {"name": name, "labels": labels}, **STRANGERS[child.kind]}
        self._book.strangers[child.kind, name] = self._create_or_idle(child, manifest)
        if name in self._book.endpoints:
            self._touch(name)

    def steal_a_name(self, child: Resource, name: str, labelled: bool) -> None:
        """The same where there is a child: delete that one first."""
        self.delete_a_child(child, name, "Background")
        self.take_a_name(child, name, labelled)

    def free_a_name(self, name: str) -> None:
        """Delete what no endpoint controls; a touch tells Berth."""
        found = [(child, live) for child in BASIC_CHILDREN if (live := self.cluster.find(child, name))]
        free = [(child, live) for child, live in found if controller(live).get("kind") != names.KIND]
        for child, live in free:
            self._book.meddled.add(name)
            self._book.strangers.pop((child.kind, name), None)
            self._book.orphans.discard((child.kind, name, live["metadata"]["uid"]))
            self.cluster.delete(child, name)
        if name in self._book.endpoints:
            self._touch(name)
        if not free:
            raise Idle

    # Pods.

    def _pod(self, number: int) -> Object:
        if not (pods := self._kubelet.pods()):
            raise Idle
        return pods[number % len(pods)]

    def report(self, number: int, state: str) -> None:
        """state: one of POD_STATES."""
        self._kubelet.report(self._pod(number), state)

    def lose_a_pod(self, number: int, now: bool) -> None:
        """Delete a pod. now: without its kubelet."""
        options = {"gracePeriodSeconds": 0} if now else {}
        self.cluster.delete(PODS, self._pod(number)["metadata"]["name"], **options)

    def serve(self) -> None:
        """All pods that there are become ready."""
        self._kubelet.serve()

    # Quiet.

    def settle(self, healthy: bool) -> None:
        """Wait until all is true and nobody writes. healthy: pods come up, and leave, as in a cluster that works."""
        self.operated.start()
        self.fail_on(self._quiet.settle(healthy))
        self._busy.clear()

    def restart_writes_nothing(self) -> None:
        """After quiet."""
        self.fail_on(self._quiet.restart())

    def fail_on(self, wrong: list[str]) -> None:
        """Fail with the complaints, if there are any, and with all steps."""
        if wrong:
            raise AssertionError("\n".join(["", *wrong, "after these steps:", *self.steps]))

    def close(self) -> None:
        """Leave the operator running; its log must be without complaints."""
        self.operated.start()
        self.cluster.close()
        self.fail_on(self.operated.log_complaints())
