"""The kinds that Berth reads and writes, and their URLs."""

from typing import NamedTuple

from berth.api import names


class Resource(NamedTuple):
    """A kind: group ("" for core), version, plural, kind, and the label selector that bounds what is watched."""

    group: str
    version: str
    plural: str
    kind: str
    selector: str = ""

    @property
    def api_version(self) -> str:
        """`apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """URL path of the collection, or of one object."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        parts = [root + scope, self.plural, name, subresource]
        return "/".join(part for part in parts if part)


MANAGED = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"

ENDPOINTS = Resource(names.GROUP, names.VERSION, names.PLURAL, names.KIND)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment", MANAGED)
SERVICES = Resource("", "v1", "services", "Service", MANAGED)
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", MANAGED)
PODS = Resource("", "v1", "pods", "Pod", MANAGED)
NODES = Resource("", "v1", "nodes", "Node")
EVENTS = Resource("", "v1", "events", "Event")
DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")
AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", MANAGED)
SCALED_OBJECTS = Resource("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject", MANAGED)
SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", MANAGED)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview")

# Of every endpoint.
BASIC_CHILDREN = (DEPLOYMENTS, SERVICES, DISRUPTION_BUDGETS)
CHILDREN = (*BASIC_CHILDREN, AUTOSCALERS, SCALED_OBJECTS, SLICES)
# Kinds that a cluster need not have.
OPTIONAL = (SCALED_OBJECTS,)
WATCHED = (ENDPOINTS, *CHILDREN, PODS)
BY_KIND = {resource.kind: resource for resource in (*WATCHED, NODES, EVENTS)}
