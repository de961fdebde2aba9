"""How many replicas a pass asks for, and what has to come before and after a change of that number."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from berth import errors
from berth.api.conditions import Reason
from berth.api.names import DELETION_COST, Key
from berth.api.scaling import Actuator
from berth.api.spec import Endpoint
from berth.decide.actuator import left
from berth.decide.asleep import sleeps
from berth.decide.event import scaled_event
from berth.decide.observed import Scaled
from berth.decide.plan import prunable
from berth.kube.cache import Cache
from berth.kube.client import Client
from berth.kube.lookups import Lookups
from berth.kube.resources import AUTOSCALERS, DEPLOYMENTS, EVENTS, PODS, SCALED_OBJECTS, Resource
from berth.scaler import Scaler, initial

Object = dict[str, Any]

LEAVES = "-1"
MARK_SECONDS = 1.5
ACTUATORS = {Actuator.KEDA: SCALED_OBJECTS, Actuator.HPA: AUTOSCALERS}

log = structlog.get_logger()


@dataclass
class Replicas:
    """clock: monotonic seconds.  now: RFC 3339 time of day in seconds."""

    client: Client
    cache: Cache
    lookups: Lookups
    scaler: Scaler
    clock: Callable[[], float]
    now: Callable[[], str]
    _rivals: dict[Key, str] = field(default_factory=dict)
    _marked: dict[Key, tuple[tuple[str, ...], float]] = field(default_factory=dict)

    async def decide(self, ep: Endpoint, told: Object) -> tuple[Endpoint, Scaled | None]:
        """The endpoint with its number of replicas, and how that came about; None: the spec says it, or nothing yet.

        One writer per Deployment: to an autoscaler of somebody else the number is left, as long as there is one.
        told: status so far.
        """
        key, scaled = Key(ep.namespace, ep.name), None
        deployment = self.cache.get(DEPLOYMENTS, ep.namespace, ep.name)
        if deployment is not None and not prunable(ep, deployment):
            deployment = None
        if ep.spec.suspend:
            self.forget(key)
            return ep, None
        if (spec := ep.spec.scaling) is not None:
            scaled = self.scaler.scaled(ep)
            wanted = initial(ep, deployment, told) if scaled is None else min(max(scaled.replicas, spec.min), spec.max)
            # Asleep, there is no autoscaler: KEDA would wake what has a lower bound.
            if wanted and (resource := ACTUATORS.get(spec.actuator)):
                wakes = sleeps(ep) and deployment is not None and _count(deployment) == 0
                first = wanted if wakes else initial(ep, deployment, told)
                return self._leave(ep, resource, deployment, first)
            ep = _with(ep, wanted)
        if deployment is None:
            return ep, scaled
        live, ours = _count(deployment), ep.wanted_replicas
        if live == ours and key not in self._rivals and not _was_left(told):
            return ep, scaled
        if not ours and any(child and _is_own(ep, child) for child in self._autoscalers(ep)):
            return ep, scaled  # Berth's own, which goes before it sleeps, or is on its way
        rival = await self.lookups.autoscaler(ep.namespace, ep.name)
        if rival is None or (live == 0 and not rival.from_zero):
            self._rivals.pop(key, None)
            return ep, scaled
        if self._rivals.get(key) != rival.name:
            log.info("replicas_left_to_another", endpoint=str(key), autoscaler=rival.name)
        self._rivals[key] = rival.name
        what = (
            f"HorizontalPodAutoscaler {ep.namespace}/{rival.name} sets the number of replicas of Deployment {ep.name}"
        )
        active = (False, Reason.FOREIGN_AUTOSCALER, f"{what}; Berth leaves it alone")
        ceded = replace(scaled, replicas=live, active=active) if scaled else Scaled(live, (), None, active)
        return ep.model_copy(update={"decided_replicas": live, "replicas_left": True}), ceded

    def _autoscalers(self, ep: Endpoint) -> list[Object | None]:
        return [self.cache.get(resource, ep.namespace, ep.name) for resource in ACTUATORS.values()]

    def _leave(
        self, ep: Endpoint, resource: Resource, deployment: Object | None, first: int
    ) -> tuple[Endpoint, Scaled | None]:
        """To an autoscaler that is a child; the number is Berth's until it is there, and from zero to the first one."""
        assert ep.spec.scaling is not None
        kept = _with(ep, first)
        if not self.cache.has_kind(resource):
            text = "spec.scaling.actuator is KEDA, but this cluster has no scaledobjects.keda.sh"
            active = (False, Reason.KEDA_MISSING, text)
            status = {"desired": kept.wanted_replicas, "explanation": f"kept at {kept.wanted_replicas}: {text}"}
            return kept, Scaled(kept.wanted_replicas, (), status, active)
        child = self.cache.get(resource, ep.namespace, ep.name)
        there = child is not None and deployment is not None and prunable(ep, child)
        there = there and not (sleeps(ep) and deployment is not None and _count(deployment) == 0)
        live = _count(deployment) if there and deployment is not None else kept.wanted_replicas
        update = {"decided_replicas": live, "autoscaler": ep.spec.scaling.actuator, "replicas_left": there}
        return ep.model_copy(update=update), left(ep, child, live, self.scaler.scaled(ep))

    async def mark(self, ep: Endpoint, scaled: Scaled | None) -> float:
        """Before there are fewer pods: mark those that go, and no other. Returns seconds until there may be fewer.

        The ReplicaSet controller must have seen it when it chooses, which it does as soon as there are to be fewer.
        """
        key = Key(ep.namespace, ep.name)
        deployment = self.cache.get(DEPLOYMENTS, ep.namespace, ep.name)
        fewer = scaled is not None and deployment is not None and _count(deployment) > ep.wanted_replicas
        # Where none stays there is no choice.
        leaving = scaled.leaving if fewer and scaled is not None and ep.wanted_replicas else ()
        for pod in self.cache.of(PODS, key):
            meta = pod["metadata"]
            cost, goes = (meta.get("annotations") or {}).get(DELETION_COST), meta["name"] in leaving
            if meta.get("deletionTimestamp") or goes == (cost == LEAVES):
                continue
            wanted = {DELETION_COST: LEAVES if goes else None}
            try:
                patched = await self.client.annotate(PODS, meta["namespace"], meta["name"], meta["uid"], wanted)
            except (errors.Forbidden, errors.Invalid) as error:
                log.warning("pod_not_marked", pod=meta["name"], error=str(error))  # then another one goes
                continue
            if patched is not None:
                self.cache.put(PODS, patched)
        if not leaving:
            self._marked.pop(key, None)
            return 0.0
        before, at = self._marked.get(key, ((), 0.0))
        if before != leaving:
            at = self.clock()
            self._marked[key] = leaving, at
        return max(0.0, at + MARK_SECONDS - self.clock())

    async def tell(self, ep: Endpoint, before: Object | None, after: Object | None, scaled: Scaled | None) -> None:
        """An event of a new number. before, after: the Deployment.

        It is worth no second attempt: status says the same.
        """
        if before is None or after is None or scaled is None or scaled.status is None or ep.replicas_left:
            return
        was, now = _count(before), _count(after)
        if was == now or now != ep.wanted_replicas:
            return
        why = scaled.status["explanation"]
        log.info("scaled", endpoint=f"{ep.namespace}/{ep.name}", replicas=now, why=why)
        with contextlib.suppress(errors.ApiError, errors.Unreachable):
            await self.client.create(EVENTS, scaled_event(ep, was, now, why, self.now()))

    def forget(self, key: Key) -> None:
        """This endpoint has no pods any more."""
        self._rivals.pop(key, None)
        self._marked.pop(key, None)


def _is_own(ep: Endpoint, child: Object) -> bool:
    """Also one that is being deleted."""
    owners = child["metadata"].get("ownerReferences") or []
    return any(owner["uid"] == ep.uid and owner.get("controller") for owner in owners)


def _was_left(status: Object) -> bool:
    return any(item["reason"] == Reason.FOREIGN_AUTOSCALER for item in status.get("conditions") or [])


def _with(ep: Endpoint, replicas: int) -> Endpoint:
    return ep.model_copy(update={"decided_replicas": replicas})


def _count(deployment: Object) -> int:
    return int(deployment["spec"].get("replicas", 1))
