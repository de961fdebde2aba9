"""Names that are part of the contract: API group, labels, containers, ports, volumes and paths."""

from dataclasses import dataclass

GROUP = "berth.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ModelEndpoint"
PLURAL = "modelendpoints"

FIELD_MANAGER = "berth"
HANDOVER_MANAGER = "berth-handover"
"""Holds the number of replicas from when Berth lets go of it until an autoscaler writes another one."""
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "berth"
ENDPOINT_LABEL = f"{GROUP}/endpoint"
# Hash of the complete intent of the last apply: a field that left the intent shows as a changed hash.
INTENT_ANNOTATION = f"{GROUP}/intent"
REPLICAS_LEFT_ANNOTATION = f"{GROUP}/replicas-left"
"""Of a Deployment whose number of replicas Berth does not write."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""Annotation of a pod: of several the ReplicaSet controller removes the one with the lowest first."""
LEASE = "berth"

SERVICE_LABEL = "kubernetes.io/service-name"
"""Of an EndpointSlice: whose it is. The controller copies the Service's own labels as well."""
SLICE_MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
SLICE_CONTROLLER = "endpointslice-controller.k8s.io"
ADMIN_PORT_NAME = "admin"
"""Port of the gateway's Service at which gateways tell what they hold."""

SERVER_CONTAINER = "server"
PAYLOAD_CONTAINER = "berth-payload"

SERVER_PORT_NAME = "http"
SERVER_PORT = 8000
LAUNCHER_PORT_NAME = "berth"
LAUNCHER_PORT = 8001

PAYLOAD_VOLUME = "berth-payload"
WEIGHTS_VOLUME = "berth-weights"
MODEL_VOLUME = "berth-model"
ENGINE_CACHE_VOLUME = "berth-engine-cache"
TMP_VOLUME = "berth-tmp"
SHM_VOLUME = "berth-shm"
KEYS_VOLUME = "berth-keys"

PAYLOAD_PATH = "/opt/berth"
WEIGHTS_PATH = "/var/lib/berth/weights"
MODEL_PATH = "/var/lib/berth/model"
ENGINE_CACHE_PATH = "/var/cache/berth"
KEYS_PATH = "/var/run/secrets/berth.dev/keys"


@dataclass(frozen=True, order=True)
class Key:
    """Which ModelEndpoint: namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def gateway_slice(name: str) -> str:
    """Name of the EndpointSlice that leads from the Service of endpoint `name` to the gateway."""
    return f"{name}-gateway"


def selector(name: str) -> dict[str, str]:
    """Labels that select the pods of endpoint `name`. Immutable: a Deployment's selector cannot change."""
    return {ENDPOINT_LABEL: name}


def labels(name: str) -> dict[str, str]:
    """Labels of every child and pod of endpoint `name`."""
    return {MANAGED_BY_LABEL: MANAGED_BY, **selector(name)}
