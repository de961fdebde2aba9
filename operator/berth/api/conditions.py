"""Conditions and their reasons, each with its meaning: the one source of status, tests and the reference page."""

from enum import StrEnum
from typing import NamedTuple


class Type(StrEnum):
    """Condition types, in the order in which status lists them."""

    READY = "Ready"
    ACCEPTED = "Accepted"
    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    SCALING_ACTIVE = "ScalingActive"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


TYPE_MEANING = {
    Type.READY: "The current spec is accepted, is the one serving, and a pod has proven it with a token. Derived.",
    Type.ACCEPTED: "The spec can be carried out. False: nothing was changed, pods of the last valid spec keep serving.",
    Type.AVAILABLE: "Requests are answered: at least one pod serves, or the gateway holds them and wakes one.",
    Type.PROGRESSING: "Pods are being brought to the current spec.",
    Type.SCALING_ACTIVE: "With `spec.scaling`, or an autoscaler of somebody else: replicas follow the load. It never "
    "decides on Ready.",
    Type.RECONCILING: "Present and True only while work goes on (kstatus).",
    Type.STALLED: "Present and True only while nothing will get better without a person (kstatus).",
}


class Reason(StrEnum):
    """Reasons of conditions and problems."""

    SERVING = "Serving"
    ASLEEP = "Asleep"
    WAKING = "Waking"
    SUSPENDED = "Suspended"
    STARTING = "Starting"
    ROLLING_OUT = "RollingOut"
    SCALING = "Scaling"
    COMPLETE = "Complete"
    LOAD_KNOWN = "LoadKnown"
    NO_READY_PODS = "NoReadyPods"
    PODS_UNREACHABLE = "PodsUnreachable"
    METRICS_MISSING = "MetricsMissing"
    FOREIGN_AUTOSCALER = "ForeignAutoscaler"
    AUTOSCALER_ACTIVE = "AutoscalerActive"
    AUTOSCALER_FAILED = "AutoscalerFailed"
    KEDA_MISSING = "KEDAMissing"
    GATEWAY_MISSING = "GatewayMissing"
    GATEWAY_NOT_READY = "GatewayNotReady"
    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    INVALID_POD_TEMPLATE = "InvalidPodTemplate"
    NAME_TAKEN = "NameTaken"
    WAITING_FOR_DELETION = "WaitingForDeletion"
    FORBIDDEN = "Forbidden"
    CONFLICTED = "Conflicted"
    UNSCHEDULABLE = "Unschedulable"
    PODS_NOT_CREATED = "PodsNotCreated"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_INVALID = "ContainerConfigInvalid"
    OUT_OF_MEMORY = "OutOfMemory"
    CONTAINER_FAILED = "ContainerFailed"
    POD_FAILED = "PodFailed"
    NODE_NOT_READY = "NodeNotReady"
    MOUNT_FAILED = "MountFailed"


class Explanation(NamedTuple):
    """What a reason means and what to do, as the reference page prints it."""

    meaning: str
    action: str


REASON_EXPLANATION: dict[Reason, Explanation] = {
    Reason.SERVING: Explanation("A pod answers requests.", "Nothing."),
    Reason.ASLEEP: Explanation(
        "`spec.scaling.min` is 0 and nobody has asked for anything for `idleSeconds`: no pods. The gateway holds a "
        "request, which wakes the endpoint and is answered.",
        "Nothing. To keep a pod, set `spec.scaling.min` to 1.",
    ),
    Reason.WAKING: Explanation(
        "A request has woken the endpoint: the gateway holds what comes until a pod is ready; the message names its "
        "phase and how long a start takes.",
        "Wait.",
    ),
    Reason.SUSPENDED: Explanation(
        "`spec.suspend` is true or `spec.replicas` is 0: no pods, on purpose.", "Undo it to serve."
    ),
    Reason.STARTING: Explanation(
        "A pod runs and is not ready yet; the message names the launcher's phase.", "Wait; the phase should move."
    ),
    Reason.ROLLING_OUT: Explanation(
        "Pods of the new spec are being started; the old ones serve until they are proven.", "Wait."
    ),
    Reason.SCALING: Explanation("Pods are being added or removed.", "Wait."),
    Reason.COMPLETE: Explanation("Every wanted pod runs the current spec and is ready.", "Nothing."),
    Reason.LOAD_KNOWN: Explanation("Every ready pod tells its load, and replicas follow it.", "Nothing."),
    Reason.NO_READY_PODS: Explanation(
        "No pod is ready, so none has a load: the number of replicas stays as it is.",
        "Wait for the pods, or follow the reason of Ready.",
    ),
    Reason.PODS_UNREACHABLE: Explanation(
        "The operator cannot ask pods for their load at port 8001. Replicas are added for what the others tell, and "
        "none is taken away.",
        "Let the operator's pods reach port 8001 of the endpoint's: look for a NetworkPolicy.",
    ),
    Reason.METRICS_MISSING: Explanation(
        "Launchers answer, but a vLLM tells no numbers of requests, or not in time. Replicas are added for what others "
        "tell, and none is taken away.",
        "Remove `disable-log-stats` from `spec.server.args`; if it is not there, look whether vLLM is short of CPU.",
    ),
    Reason.FOREIGN_AUTOSCALER: Explanation(
        "A HorizontalPodAutoscaler that Berth has not made, or the ScaledObject behind it, sets the number of replicas "
        "of the Deployment. Berth leaves it alone: two writers would undo each other.",
        "Delete that autoscaler. One of your own may target the ModelEndpoint, without `spec.scaling`.",
    ),
    Reason.AUTOSCALER_ACTIVE: Explanation(
        "The autoscaler of `spec.scaling.actuator` has a metric and sets the number of replicas.", "Nothing."
    ),
    Reason.AUTOSCALER_FAILED: Explanation(
        "The autoscaler of `spec.scaling.actuator` cannot follow its metric: the message has its own words. The number "
        "of replicas stays as it is.",
        "With HPA: see that the metric of `spec.scaling.metric` is served in this cluster. With KEDA: look at its log.",
    ),
    Reason.KEDA_MISSING: Explanation(
        "`spec.scaling.actuator` is KEDA, and this cluster has no ScaledObjects: the number stays as it is.",
        "Install KEDA, which is noticed within two minutes, or use the actuator Builtin.",
    ),
    Reason.GATEWAY_MISSING: Explanation(
        "`spec.scaling.min` is 0, and no gateway is installed that could hold requests, or the one that is does not "
        "serve this namespace. Nothing is changed: what serves stays, and what is asleep sleeps on.",
        "Install the chart with `gateway.enabled: true` and with this namespace in `gateway.namespaces`, unless that "
        "is empty, or set `spec.scaling.min` to 1 or more.",
    ),
    Reason.GATEWAY_NOT_READY: Explanation(
        "No pod of the gateway is ready, or one does not tell the operator what it holds. An endpoint that serves "
        "keeps its last pod; one that is asleep cannot be woken.",
        "Look at the gateway's pods, and let the operator's pods reach their port `admin`.",
    ),
    Reason.ACCEPTED: Explanation("The spec can be carried out.", "Nothing."),
    Reason.INVALID_SPEC: Explanation(
        "A field that the schema cannot check is wrong; the message names it.", "Change the field."
    ),
    Reason.INVALID_POD_TEMPLATE: Explanation(
        "`spec.podTemplate` has a field that Kubernetes does not know, a value it refuses, or one that Berth sets.",
        "Change or remove the field that the message names.",
    ),
    Reason.NAME_TAKEN: Explanation(
        "An object with the name that a child needs exists and belongs to somebody else. Berth never takes it over.",
        "Rename the endpoint, or delete the other object.",
    ),
    Reason.WAITING_FOR_DELETION: Explanation(
        "A child of a deleted endpoint of the same name is still being removed.",
        "Wait for the garbage collector; if it lasts, look for finalizers on that object.",
    ),
    Reason.FORBIDDEN: Explanation(
        "Berth may not write a child; the message has the API server's words.",
        "Grant the permission that is named, or lift the policy.",
    ),
    Reason.CONFLICTED: Explanation(
        "Something sets a field of a child to another value each time Berth writes it. Berth stops writing that child. "
        "When an admission webhook or policy of the cluster does it, the endpoint can be Ready all the same.",
        "Make the other one leave this field alone, or give the endpoint the value that it sets.",
    ),
    Reason.UNSCHEDULABLE: Explanation(
        "No node can take the pod; the message says which resource is short and by how much.",
        "Ask for less, free some, or add nodes.",
    ),
    Reason.PODS_NOT_CREATED: Explanation(
        "Kubernetes refused to create the pods: a quota, Pod Security, or a webhook.",
        "Follow the message of the API server.",
    ),
    Reason.IMAGE_PULL_FAILED: Explanation(
        "An image cannot be pulled.", "Check its name, the registry and the pull secrets."
    ),
    Reason.CONTAINER_CONFIG_INVALID: Explanation(
        "A container cannot be created: usually a Secret, a ConfigMap or a key of one is missing.",
        "Create what the message names; the kubelet retries by itself.",
    ),
    Reason.OUT_OF_MEMORY: Explanation(
        "The kernel killed the container at its memory limit.", "Raise `spec.resources.limits.memory`."
    ),
    Reason.CONTAINER_FAILED: Explanation(
        "A container ended and left no reason of its own.", "Read its log: `kubectl logs --previous`."
    ),
    Reason.POD_FAILED: Explanation(
        "The pod as a whole failed, for example evicted by the node.", "Follow the message; Kubernetes replaces it."
    ),
    Reason.NODE_NOT_READY: Explanation(
        "The pod is well, but its node has stopped reporting, so the pod gets no requests.",
        "Look at the node; Kubernetes replaces the pod when the node stays away.",
    ),
    Reason.MOUNT_FAILED: Explanation(
        "A volume cannot be mounted.", "Create or repair the claim, Secret or ConfigMap that the message names."
    ),
}

READY_NEEDS = (Type.ACCEPTED, Type.AVAILABLE)
