"""From what pods tell of their load to what the number of replicas is decided on. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from berth.api.scaling import Scaling
from berth.api.spec import Endpoint
from berth.decide.demand import Limit
from berth.decide.diagnose import unschedulable
from berth.decide.observed import is_ready

Object = dict[str, Any]
Loads = Mapping[str, Object]

SHARE = 0.7
"""Of what an engine can run at once a replica shall have so much: the rest is for the time until another one serves."""
START_SECONDS = 300.0
"""A pod's start, until one of this endpoint has been seen."""
MOST_START_SECONDS = 3600.0
"""A pod that has been ready for the first time later than this after it was created was ready before."""
ENOUGH_REQUESTS = 20
"""So many finished requests tell how long requests are."""
FULL_SECONDS = 600.0
"""Longer than a node takes to come: without room for so long, no more replicas are asked for."""
UNKNOWN_SEQUENCES = 8
"""Until the engine has told, a replica is taken to run so many requests at once."""


def in_flight(load: Object) -> float | None:
    """Requests of one pod that run or wait, without those that wait for something else than room."""
    if load["running"] is None or load["waiting"] is None:
        return None
    return float(load["running"] + max(0.0, load["waiting"] - (load["deferred"] or 0.0)))


def capacity(loads: Loads) -> float | None:
    """Requests that each engine can run at once, as long as those that they have had; None: not known yet."""
    sequences = [load["max_num_seqs"] for load in loads.values() if load["max_num_seqs"]]
    cached = [load["kv_cache_tokens"] for load in loads.values() if load["kv_cache_tokens"]]
    requests = sum(load["requests"] or 0 for load in loads.values())
    if not sequences or not cached or requests < ENOUGH_REQUESTS:
        return None
    tokens = sum(load["tokens"] or 0 for load in loads.values())
    return min(float(min(sequences)), float(min(cached)) * requests / max(tokens, 1.0))


def target_in_flight(scaling: Scaling, loads: Loads, known: float | None, before: float | None) -> float:
    """Requests that a replica shall have: as the spec says, or SHARE of what the engines can run at once.

    known: the last `capacity`; an engine that is new, or has had few requests, cannot tell how long they are.
    before: what it was, which holds while no engine tells anything: that may be long, at zero.
    """
    if scaling.target.in_flight_per_replica is not None:
        return float(scaling.target.in_flight_per_replica)
    sequences = [float(load["max_num_seqs"]) for load in loads.values() if load["max_num_seqs"]]
    if known is None and not sequences and before is not None:
        return before
    return max(1.0, SHARE * (known or min(sequences, default=float(UNKNOWN_SEQUENCES))))


def start_seconds(pods: Iterable[Object]) -> float | None:
    """From a pod's creation until it was ready: the shortest, as one that was unready for a while looks slower."""
    found = [seconds for pod in pods if is_ready(pod) and (seconds := _start_seconds(pod)) is not None]
    return min((seconds for seconds in found if seconds <= MOST_START_SECONDS), default=None)


def _start_seconds(pod: Object) -> float | None:
    ready = next(item for item in pod["status"]["conditions"] if item["type"] == "Ready")
    created, since = pod["metadata"].get("creationTimestamp"), ready.get("lastTransitionTime")
    if not created or not since:
        return None
    return (datetime.fromisoformat(since) - datetime.fromisoformat(created)).total_seconds()


def least_busy(pods: Iterable[Object], loads: Loads, count: int) -> tuple[str, ...]:
    """Names of the ready pods to go first: those with the fewest requests, of equals the youngest.

    Of a pod that does not tell its load nobody knows whether it is idle.
    """
    found = [
        (flight, pod["metadata"].get("creationTimestamp", ""), name)
        for pod in pods
        if (name := pod["metadata"]["name"]) in loads and (flight := in_flight(loads[name])) is not None
    ]
    found.sort(key=lambda item: (-item[0], item[1], item[2]))
    return tuple(name for _, _, name in found[::-1][: max(0, count)])


class Room(NamedTuple):
    """How many replicas there can be for now, and why no more."""

    replicas: int
    limit: Limit


def room(ep: Endpoint, pods: Iterable[Object], deployment: Object) -> Room | None:
    """What keeps the pods that are asked for from running; None when nothing does."""
    status = deployment.get("status") or {}
    for item in status.get("conditions") or []:
        if item["type"] == "ReplicaFailure" and item["status"] == "True":
            quota = "exceeded quota" in item.get("message", "")
            return Room(status.get("replicas", 0), Limit.QUOTA if quota else Limit.PODS_NOT_CREATED)
    waiting = [
        item["message"]
        for pod in pods
        if unschedulable(pod)
        for item in pod["status"]["conditions"]
        if item["type"] == "PodScheduled"
    ]
    if not waiting:
        return None
    wanted = ep.spec.resources.limits.keys() | ep.spec.resources.requests.keys()
    # Extended resources have a domain; the scheduler names what there is too little of.
    short = any(f"Insufficient {name}" in message for message in waiting for name in wanted if "/" in name)
    return Room(status.get("replicas", 0) - len(waiting), Limit.ACCELERATORS if short else Limit.UNSCHEDULABLE)


def is_full(found: Room | None, seconds: float) -> bool:
    """Whether to ask for more is idle. A cluster may make room for pods by itself, with another node.

    seconds: for how long there has been no room.
    """
    return found is not None and (found.limit in (Limit.QUOTA, Limit.PODS_NOT_CREATED) or seconds > FULL_SECONDS)


def is_rolling(deployment: Object) -> bool:
    """Whether there are, or soon will be, pods of two specs."""
    status = deployment.get("status") or {}
    unseen = status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0)
    return bool(unseen or status.get("replicas", 0) > status.get("updatedReplicas", 0))
