"""Reads that only a diagnosis needs, made on demand: nodes and their load, failed mounts, others' autoscalers."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from berth import errors
from berth.kube.cache import trim
from berth.kube.client import Client
from berth.kube.resources import AUTOSCALERS, DEPLOYMENTS, EVENTS, NODES, PODS, SCALED_OBJECTS

Object = dict[str, Any]

NODES_LIFE_SECONDS = 30.0
_MOUNT_REASONS = frozenset({"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"})


class Autoscaler(NamedTuple):
    """from_zero: it also adds pods where there are none, which only KEDA does."""

    name: str
    from_zero: bool


class Lookups:
    """Reads on demand. clock: monotonic seconds."""

    def __init__(self, client: Client, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._nodes: tuple[tuple[Object, ...], tuple[Object, ...]] = ((), ())
        self._nodes_at = float("-inf")
        self._reading_nodes = asyncio.Lock()

    async def nodes(self) -> tuple[tuple[Object, ...], tuple[Object, ...]]:
        """All nodes, and all pods that have one and have not finished; at most half a minute old.

        Empty when Berth may not read them: the scheduler's own message then has to do.
        """
        async with self._reading_nodes:  # many passes may want them at once
            if self._clock() - self._nodes_at > NODES_LIFE_SECONDS:
                fields = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
                try:
                    nodes, _ = await self._client.list(NODES)
                    pods, _ = await self._client.list(PODS, fields=fields, keep=partial(trim, PODS))
                except errors.Forbidden:
                    nodes, pods = [], []
                self._nodes = tuple(nodes), tuple(pods)
                self._nodes_at = self._clock()
            return self._nodes

    async def autoscaler(self, namespace: str, name: str) -> Autoscaler | None:
        """The HorizontalPodAutoscaler that scales this Deployment; behind each ScaledObject of KEDA is one."""
        try:
            found, _ = await self._client.list(AUTOSCALERS, namespace=namespace)
        except errors.Forbidden:
            return None
        for autoscaler in found:
            target, meta = autoscaler["spec"]["scaleTargetRef"], autoscaler["metadata"]
            group = target.get("apiVersion", "").partition("/")[0]
            if (group, target["kind"], target["name"]) == (DEPLOYMENTS.group, DEPLOYMENTS.kind, name):
                owners = {owner["kind"] for owner in meta.get("ownerReferences") or []}
                return Autoscaler(meta["name"], SCALED_OBJECTS.kind in owners)
        return None

    async def mount_events(self, pods: tuple[Object, ...]) -> dict[str, str]:
        """Last message of a failed mount or sandbox, by pod name; asked for pods that are placed and have no IP."""
        found: dict[str, str] = {}
        for pod in pods:
            if pod["status"].get("phase") != "Pending" or not pod["spec"].get("nodeName") or pod["status"].get("podIP"):
                continue
            meta = pod["metadata"]
            fields = f"involvedObject.uid={meta['uid']},type=Warning"
            try:
                events, _ = await self._client.list(EVENTS, namespace=meta["namespace"], fields=fields)
            except errors.Forbidden:
                return found
            failed = [event for event in events if event.get("reason") in _MOUNT_REASONS]
            if failed:
                last = max(failed, key=lambda event: int(event["metadata"]["resourceVersion"]))
                found[meta["name"]] = str(last.get("message", ""))
        return found
