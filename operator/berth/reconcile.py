"""One pass over one endpoint: observe → plan → execute → summarize → one status write."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from berth import errors
from berth.api import names
from berth.api.conditions import Reason
from berth.api.names import Key
from berth.api.spec import Endpoint
from berth.decide.admit import Refusal
from berth.decide.conflict import SAME_ANSWERS, TRUCE_SECONDS, Fight, after_apply, intent, is_truce, managers
from berth.decide.diagnose import unschedulable
from berth.decide.differs import differs
from berth.decide.observed import ChildId, Conflict, Observed, child_id, is_ready
from berth.decide.parse import parse
from berth.decide.plan import Plan, leaves_replicas, make_plan, plan_of_refused
from berth.decide.refused import refused
from berth.decide.summarize import settling, summarize, unreadable
from berth.desired.platform import Platform
from berth.kube.cache import Cache
from berth.kube.client import Client
from berth.kube.launchers import PROGRESS_SECONDS, Launchers
from berth.kube.lookups import Lookups
from berth.kube.resources import BASIC_CHILDREN, BY_KIND, CHILDREN, DEPLOYMENTS, ENDPOINTS, PODS, SLICES, Resource
from berth.replicas import Replicas
from berth.zero import Zero

Object = dict[str, Any]

# A write makes the Deployment controller act, within milliseconds when it is not busy; one status write then tells all
# of it. This is the longest that status waits for that: a thousand endpoints at once keep the controller busy.
SETTLE_SECONDS = 120.0
SLOW_RETRY_SECONDS = 60.0

log = structlog.get_logger()


@dataclass
class Reconciler:
    """What a pass needs. clock: monotonic seconds.  now: RFC 3339 time of day in seconds."""

    client: Client
    cache: Cache
    lookups: Lookups
    platform: Platform
    launchers: Launchers
    replicas: Replicas
    zero: Zero
    clock: Callable[[], float]
    now: Callable[[], str]
    _settle_until: dict[Key, float] = field(default_factory=dict)
    _fights: dict[tuple[Key, str], Fight] = field(default_factory=dict)

    async def reconcile(self, key: Key) -> float | None:
        """Bring one endpoint to its spec and say how it stands. Returns seconds until the next look, if one is due.

        Raises the errors of `berth.errors` that time mends: Busy, Conflict, Unreachable.
        """
        endpoint = self.cache.get(ENDPOINTS, key.namespace, key.name)
        if endpoint is None or endpoint["metadata"].get("deletionTimestamp"):
            self._forget(key)
            return None  # owner references clean up
        ep = parse(endpoint)
        if isinstance(ep, Refusal):
            return await self._write_status(endpoint, unreadable(endpoint, ep, self.now()))
        ep, scaled = await self.replicas.decide(ep, endpoint.get("status") or {})
        ep, scaled, next_step = await self.zero.step(ep, scaled)
        seen = await self._observe(ep, endpoint)
        if seen is None:
            return 0.0  # the cache was behind: look again at what it has now
        plan = make_plan(ep, seen, self.platform.within(ep.namespace))
        if plan.refusal is None and (marked := await self.replicas.mark(ep, scaled)):
            return marked
        before = seen.children.get(ChildId("Deployment", ep.name))
        seen, refusal = await self._execute(ep, seen, plan)
        if refusal is not None and plan.refusal is None:  # by Kubernetes
            seen, refusal = await self._execute(ep, seen, plan_of_refused(ep, seen, self.platform, refusal))
        if refusal is None:
            await self.replicas.tell(ep, before, seen.children.get(ChildId("Deployment", ep.name)), scaled)
            self.zero.note(key)
        if wait := self._settle(key, ep, seen, refusal):
            return _soonest(wait, next_step)
        seen = replace(seen, scaled=scaled)
        again = await self._write_status(endpoint, summarize(ep, seen, refusal, self.platform, self.now()))
        if again is not None:
            return again
        return _soonest(self._next_look(key, seen, refusal), next_step if refusal is None else None)

    def _forget(self, key: Key) -> None:
        self._settle_until.pop(key, None)
        self.launchers.forget(key)
        self.replicas.forget(key)
        self.zero.forget(key)
        for resource in CHILDREN:
            self._fights.pop((key, resource.kind), None)

    async def _observe(self, ep: Endpoint, endpoint: Object) -> Observed | None:
        """All reads; None when the endpoint turns out to be gone, or to be another object now.

        A child that the cache lacks is asked for once: it may exist without our label. So is the endpoint then, as
        children are made for it: the news of its deletion can be lost.
        """
        key = Key(ep.namespace, ep.name)
        # An autoscaler is one of few: what its cache lacks is not there.
        wanted = [(resource, ep.name) for resource in BASIC_CHILDREN]
        wanted += [(SLICES, names.gateway_slice(ep.name))] if ep.gateway is not None else []
        live = [self.cache.get(resource, ep.namespace, name) for resource, name in wanted]
        if None in live:
            now = await self.client.get(ENDPOINTS, ep.namespace, ep.name)
            if now is None or now["metadata"]["uid"] != ep.uid:
                self.cache.drop(ENDPOINTS, endpoint)
                if now is not None:
                    self.cache.put(ENDPOINTS, now)
                return None
        asked = await asyncio.gather(
            *(
                self.client.get(resource, ep.namespace, name)
                for (resource, name), obj in zip(wanted, live, strict=True)
                if obj is None
            )
        )
        missing = iter(asked)
        children = {
            ChildId(resource.kind, name): {**found, "kind": resource.kind}
            for (resource, name), obj in zip(wanted, live, strict=True)
            if (found := obj if obj is not None else next(missing)) is not None
        }
        # Also what carries our label under another name: if it is owned and not wanted, it is pruned.
        children |= {child_id(obj): obj for resource in CHILDREN for obj in self.cache.of(resource, key)}
        pods = tuple(pod for pod in self.cache.of(PODS, key) if not pod["metadata"].get("deletionTimestamp"))
        seen = Observed(endpoint=endpoint, children=children, pods=pods, holders=self.cache.held_by_others(key))
        seen = replace(
            seen,
            progress=await self._progress(ep, endpoint, pods),
            mount_events=await self.lookups.mount_events(pods),
        )
        if any(unschedulable(pod) for pod in pods):
            nodes, bound_pods = await self.lookups.nodes()
            seen = replace(seen, nodes=nodes, bound_pods=bound_pods)
        return seen

    async def _progress(self, ep: Endpoint, endpoint: Object, pods: tuple[Object, ...]) -> dict[str, Object]:
        """Of pods that start; of others only while status lacks what they can tell."""
        status = endpoint.get("status") or {}
        told = (status.get("engine") or {}).get("version"), (status.get("model") or {}).get("revision")
        ready = [pod for pod in pods if is_ready(pod)]
        known = told[0] and (told[1] or not ep.spec.model.source.startswith("hf://"))
        started = await self.launchers.ask(ready) if not known else {}
        starting = [pod for pod in pods if not is_ready(pod)]
        return started | await self.launchers.progress(Key(ep.namespace, ep.name), starting)

    async def _execute(self, ep: Endpoint, seen: Observed, plan: Plan) -> tuple[Observed, Refusal | None]:
        """All writes of children. A refusal ends them and is told in status; what time mends is raised.

        What a plan was refused for is told before what becomes of its writes.
        """
        children, conflicts = dict(seen.children), list(seen.conflicts)
        refusal: Refusal | None = None
        kind = ""
        try:
            for manifest in plan.apply:
                kind = manifest["kind"]
                resource, live = BY_KIND[kind], children.get(child_id(manifest))
                if conflict := await self._apply(ep, resource, manifest, live):
                    conflicts.append(conflict)
                elif applied := self.cache.get(resource, ep.namespace, manifest["metadata"]["name"]):
                    children[child_id(manifest)] = applied
                else:  # deleted again since, as the watch has told already
                    children.pop(child_id(manifest), None)
            for live in plan.delete:
                kind, meta = live["kind"], live["metadata"]
                await self.client.delete(BY_KIND[kind], meta["namespace"], meta["name"], meta["uid"])
                log.info("deleted", kind=kind, name=meta["name"])
        except errors.Invalid as error:
            refusal = refused(kind, error.message)
        except (errors.NamespaceTerminating, errors.NotFound) as error:  # the namespace is going, or gone
            refusal = Refusal(Reason.FORBIDDEN, error.message)
        except errors.Forbidden as error:
            refusal = Refusal(Reason.FORBIDDEN, f"{kind} {ep.namespace}/{ep.name}: {error.message}")
        return replace(seen, children=children, conflicts=tuple(conflicts)), plan.refusal or refusal

    async def _apply(self, ep: Endpoint, resource: Resource, manifest: Object, live: Object | None) -> Conflict | None:
        """Apply a child until it is as wanted, or the conflict that ends this."""
        name = (Key(ep.namespace, ep.name), resource.kind)
        field = differs(manifest, live) if live is not None else None
        repaired = field if live is not None and intent(live) == intent(manifest) else None
        for _ in range(SAME_ANSWERS):  # an answer that differs in another way each time must not keep this pass
            if is_truce(self._fights.get(name), manifest, field, self.clock()):
                break
            if live is not None and leaves_replicas(manifest) and not leaves_replicas(live):
                await self._hand_over(resource, ep)
            applied = await self.client.apply(resource, manifest)
            self.cache.put(resource, applied)
            log.info("applied", kind=resource.kind, generation=ep.generation)
            if resource is DEPLOYMENTS:
                self._settle_until[name[0]] = self.clock() + SETTLE_SECONDS
            field = differs(manifest, applied)
            fight = after_apply(self._fights.pop(name, None), manifest, repaired, field, self.clock())
            if fight is not None:
                self._fights[name] = fight
            if field is None:
                return None
            repaired = field
        found = await self.client.get(resource, ep.namespace, manifest["metadata"]["name"]) or {"metadata": {}}
        return Conflict(resource.kind, str(field), managers(found, str(field)))

    async def _hand_over(self, resource: Resource, ep: Endpoint) -> None:
        """Let another field manager hold the number of replicas: what nobody holds any more falls back to 1."""
        live = await self.client.get(resource, ep.namespace, ep.name)
        if live is None:
            return
        manifest = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": ep.name, "namespace": ep.namespace, "uid": live["metadata"]["uid"]},
            "spec": {"replicas": live["spec"]["replicas"]},
        }
        await self.client.apply(resource, manifest, names.HANDOVER_MANAGER)

    def _settle(self, key: Key, ep: Endpoint, seen: Observed, refusal: Refusal | None) -> float | None:
        """Seconds to wait before status is worth writing, None when it is now."""
        left = self._settle_until.get(key, 0.0) - self.clock()
        deployment = seen.children.get(ChildId("Deployment", ep.name))
        if refusal is None and settling(deployment, len(seen.pods)) and left > 0:
            return left
        self._settle_until.pop(key, None)
        return None

    def _next_look(self, key: Key, seen: Observed, refusal: Refusal | None) -> float | None:
        if refusal is not None:
            return (
                SLOW_RETRY_SECONDS
                if refusal.reason in (Reason.FORBIDDEN, Reason.NAME_TAKEN, Reason.WAITING_FOR_DELETION)
                else None
            )
        if any(not is_ready(pod) for pod in seen.pods):
            return self.launchers.due_seconds(key) or PROGRESS_SECONDS
        if seen.scaled is not None and seen.scaled.active[1] in (Reason.FOREIGN_AUTOSCALER, Reason.KEDA_MISSING):
            return SLOW_RETRY_SECONDS  # nothing tells when that changes
        return TRUCE_SECONDS if seen.conflicts else None

    async def _write_status(self, endpoint: Object, status: Object) -> float | None:
        """The only status write of the code base; none when nothing changed.

        Returns 0.0 when the endpoint was edited meanwhile: once the answer is known, the watch's event is no news.
        """
        if endpoint.get("status") == status:
            return None
        meta = endpoint["metadata"]
        try:
            written = await self.client.write_status(ENDPOINTS, meta["namespace"], meta["name"], meta["uid"], status)
        except errors.NotFound:
            return None
        except errors.Invalid as error:
            # All that the API server says when the patch's test of the uid fails: the name belongs to a new object,
            # which the watch brings by itself.
            if "error in our request" in error.message:
                return None
            raise
        self.cache.put(ENDPOINTS, written)
        ready = next(item for item in status["conditions"] if item["type"] == "Ready")
        log.info("status_written", ready=ready["status"], reason=ready["reason"], generation=meta["generation"])
        return None if written["metadata"]["generation"] == meta["generation"] else 0.0


def _soonest(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)
