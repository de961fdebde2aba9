"""Which resource keeps a pod from every node, and by how much."""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from berth.api.quantity import format_quantity, parse_quantity

Requests = dict[str, Decimal]


class Shortage(NamedTuple):
    """No node has `needed` of `resource` free: the best has `free` of its `capacity`."""

    resource: str
    needed: Decimal
    free: Decimal
    capacity: Decimal
    node: str

    def __str__(self) -> str:
        missing = format_quantity(self.needed - self.free, self.resource)
        needed, free, capacity = (
            format_quantity(value, self.resource) for value in (self.needed, self.free, self.capacity)
        )
        if not self.node:
            return f"the pod needs {needed} {self.resource}, and no node has any"
        return (
            f"the pod needs {needed} {self.resource}; the node with the most left, {self.node}, has {free} of "
            f"{capacity} free: {missing} short"
        )


def pod_requests(pod: dict[str, Any]) -> Requests:
    """What the scheduler counts for a pod: the sum of its containers, or the largest init container if that is more.

    Source: Kubernetes documentation, "Init Containers", resource sharing within containers. Sidecars (restartable
    init containers) add to the sum.
    """
    total: Requests = defaultdict(Decimal)
    largest: Requests = defaultdict(Decimal)
    for container in pod["spec"].get("containers") or []:
        for name, value in _requests(container).items():
            total[name] += value
    for container in pod["spec"].get("initContainers") or []:
        for name, value in _requests(container).items():
            if container.get("restartPolicy") == "Always":
                total[name] += value
            else:
                largest[name] = max(largest[name], value)
    return {name: max(total[name], largest[name]) for name in {*total, *largest}}


def _requests(container: dict[str, Any]) -> Requests:
    resources = container.get("resources") or {}
    merged = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: value for name, text in merged.items() if (value := parse_quantity(text)) is not None}


def shortages(pod: dict[str, Any], nodes: Iterable[dict[str, Any]], bound: Iterable[dict[str, Any]]) -> list[Shortage]:
    """Resources of which no schedulable node has as much free as `pod` needs.

    Empty when each one fits somewhere, and when there is no node at all.

    nodes: core/v1 Nodes.  bound: pods with a node, of all namespaces, that have not finished.
    """
    used: dict[str, Requests] = defaultdict(lambda: defaultdict(Decimal))
    for other in bound:
        for name, value in pod_requests(other).items():
            used[other["spec"]["nodeName"]][name] += value
    usable = [node for node in nodes if not (node.get("spec") or {}).get("unschedulable")]
    found = []
    # Accelerators and other extended resources first: they are what is scarce.
    requests = sorted(pod_requests(pod).items(), key=lambda item: ("/" not in item[0], item[0]))
    for resource, needed in requests:
        best = Shortage(resource, needed, Decimal(0), Decimal(0), "")
        for node in usable:
            name = node["metadata"]["name"]
            capacity = parse_quantity(node["status"].get("allocatable", {}).get(resource, 0)) or Decimal(0)
            free = capacity - used[name][resource]
            if capacity > 0 and (not best.node or free > best.free):
                best = Shortage(resource, needed, max(free, Decimal(0)), capacity, name)
        if best.free < needed:
            found.append(best)
    return found if usable else []
