"""The pod: payload init container, unmodified vLLM image, launcher as PID 1, restricted Pod Security.

Every volume and variable answers a trap of vLLM in a pod: 64 MiB /dev/shm stops multi-process executors, a read-only
root needs writable temp and cache directories, `getpwuid` fails for a uid without passwd entry unless USER is set,
and a Service called `vllm` injects a VLLM_PORT that breaks the worker (`enableServiceLinks: false`).
"""

from typing import Any

from berth.api import names
from berth.api.spec import APIS, Endpoint, VolumeChoice
from berth.desired.engine import GRACE_AFTER_DRAIN_SECONDS, command, image
from berth.desired.platform import Platform

SHM_SIZE = "1Gi"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
ENV = {
    "HOME": "/tmp",  # noqa: S108 - a volume of this pod
    "USER": "berth",
    "LOGNAME": "berth",
    "TMPDIR": "/tmp",  # noqa: S108
    "HF_HOME": "/tmp/huggingface",  # noqa: S108
    "VLLM_CACHE_ROOT": f"{names.ENGINE_CACHE_PATH}/vllm",
    "XDG_CACHE_HOME": names.ENGINE_CACHE_PATH,
    "TRITON_CACHE_DIR": f"{names.ENGINE_CACHE_PATH}/triton",
    "TORCHINDUCTOR_CACHE_DIR": f"{names.ENGINE_CACHE_PATH}/torchinductor",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # The launcher judges a start by its progress; vLLM's own deadline of 600 s would end a slow but healthy one.
    "VLLM_ENGINE_READY_TIMEOUT_S": "3600",
    # vLLM's own 5 s close connections under clients that use them again just then. The client or the load balancer
    # should end an idle one; of the common ones Google's waits longest, 600 s.
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "620",
}


def pod_template(ep: Endpoint, platform: Platform) -> dict[str, Any]:
    """The PodTemplateSpec without the user's `spec.podTemplate`."""
    drain = ep.spec.rollout.drain_seconds
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": drain + GRACE_AFTER_DRAIN_SECONDS,
        "securityContext": _pod_security(platform),
        "initContainers": [_payload(platform)],
        "containers": [_server(ep, platform)],
        "volumes": _volumes(ep, platform),
    }
    if platform.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in platform.image_pull_secrets]
    return {
        "metadata": {
            "labels": names.labels(ep.name),
            "annotations": {"kubectl.kubernetes.io/default-container": names.SERVER_CONTAINER},
        },
        "spec": spec,
    }


def _pod_security(platform: Platform) -> dict[str, Any]:
    security: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if platform.run_as_user is not None:
        security |= {
            "runAsUser": platform.run_as_user,
            "fsGroup": platform.run_as_user,
            "fsGroupChangePolicy": "OnRootMismatch",
        }
    return security


def _payload(platform: Platform) -> dict[str, Any]:
    small = {"cpu": "100m", "memory": "64Mi"}
    return {
        "name": names.PAYLOAD_CONTAINER,
        "image": platform.payload_image,
        "command": ["cp", "-R", "/payload/.", names.PAYLOAD_PATH],
        "resources": {"requests": small, "limits": small},
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": names.PAYLOAD_VOLUME, "mountPath": names.PAYLOAD_PATH}],
    }


def _server(ep: Endpoint, platform: Platform) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": names.SERVER_CONTAINER,
        "image": image(ep, platform),
        "command": ["python3", names.PAYLOAD_PATH],
        "args": [*_launcher_args(ep), "--", *command(ep, platform)],
        "env": _env(ep, platform),
        "ports": [
            {"name": names.SERVER_PORT_NAME, "containerPort": names.SERVER_PORT, "protocol": "TCP"},
            {"name": names.LAUNCHER_PORT_NAME, "containerPort": names.LAUNCHER_PORT, "protocol": "TCP"},
        ],
        "livenessProbe": _probe("/livez", period=10, failures=6) | {"terminationGracePeriodSeconds": 15},
        "readinessProbe": _probe("/readyz", period=2, failures=1),
        "lifecycle": {"preStop": {"exec": {"command": ["python3", names.PAYLOAD_PATH, "drain"]}}},
        "securityContext": RESTRICTED,
        "volumeMounts": _mounts(ep),
    }
    resources = {
        kind: {name: str(value) for name, value in values.items()}
        for kind, values in (("limits", ep.spec.resources.limits), ("requests", ep.spec.resources.requests))
        if values
    }
    if resources:
        container["resources"] = resources
    return container


def _probe(path: str, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": names.LAUNCHER_PORT_NAME, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _launcher_args(ep: Endpoint) -> list[str]:
    words = ["serve", f"--source={ep.spec.model.source}"]
    if ep.spec.model.source.startswith("hf://"):
        words.append(f"--weights={names.WEIGHTS_PATH}")
        if ep.spec.model.revision:
            words.append(f"--revision={ep.spec.model.revision}")
        if ep.spec.model.secret_ref:
            words.append(f"--secret={ep.spec.model.secret_ref.name}")
    return [*words, f"--drain-seconds={ep.spec.rollout.drain_seconds}"]


def _env(ep: Endpoint, platform: Platform) -> list[dict[str, Any]]:
    """Ours, then the operator's settings, then the user's: the last one with a name wins."""
    env: dict[str, dict[str, Any]] = {name: {"name": name, "value": value} for name, value in ENV.items()}
    env |= {name: {"name": name, "value": value} for name, value in platform.pod_env}
    secret = ep.spec.model.secret_ref
    if secret and ep.spec.model.source.startswith("hf://"):
        env |= {entry["name"]: entry for entry in _token(secret.name, secret.key)}
    env |= {name: {"name": name, "value": value} for name, value in _plugin(ep).items()}
    for var in ep.spec.server.env:
        env[var.name] = var.model_dump(by_alias=True, exclude_none=True)
    return list(env.values())


def _plugin(ep: Endpoint) -> dict[str, str]:
    """What the plugin in vLLM's process must know beyond its defaults: a default changes no pod."""
    settings = {}
    if ep.spec.server.api_key_secret_ref:
        settings["BERTH_KEYS_DIR"] = names.KEYS_PATH
    if ep.apis != list(APIS):
        settings["BERTH_APIS"] = ",".join(ep.apis)
    if ep.spec.server.require_account and "ScaleEGP" in ep.apis:
        settings["BERTH_REQUIRE_ACCOUNT"] = "1"
    return settings


def _token(secret: str, key: str | None) -> list[dict[str, Any]]:
    """A named key must exist, the kubelet says so; of the two usual keys one may be missing, the launcher says so."""
    if key is not None:
        return [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}]
    return [
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": "HF_TOKEN", "optional": True}}},
        {"name": "BERTH_HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": "token", "optional": True}}},
    ]


def _mounts(ep: Endpoint) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": names.PAYLOAD_VOLUME, "mountPath": names.PAYLOAD_PATH, "readOnly": True},
        {"name": names.TMP_VOLUME, "mountPath": "/tmp"},  # noqa: S108
        {"name": names.SHM_VOLUME, "mountPath": "/dev/shm"},  # noqa: S108
        {"name": names.ENGINE_CACHE_VOLUME, "mountPath": names.ENGINE_CACHE_PATH},
    ]
    scheme = ep.spec.model.source.partition("://")[0]
    if scheme == "hf":
        mounts.append({"name": names.WEIGHTS_VOLUME, "mountPath": names.WEIGHTS_PATH})
    if scheme == "pvc":
        mounts.append({"name": names.MODEL_VOLUME, "mountPath": names.MODEL_PATH, "readOnly": True})
    if ep.spec.server.api_key_secret_ref:
        mounts.append({"name": names.KEYS_VOLUME, "mountPath": names.KEYS_PATH, "readOnly": True})
    return mounts


def _volumes(ep: Endpoint, platform: Platform) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": names.PAYLOAD_VOLUME, "emptyDir": {}},
        {"name": names.TMP_VOLUME, "emptyDir": {}},
        {"name": names.SHM_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": SHM_SIZE}},
        _volume(names.ENGINE_CACHE_VOLUME, ep.spec.storage.engine_cache),
    ]
    scheme, _, rest = ep.spec.model.source.partition("://")
    if scheme == "hf":
        volumes.append(_volume(names.WEIGHTS_VOLUME, ep.spec.storage.weights))
    if scheme == "pvc":
        claim = rest.split("/", 1)[0]
        volumes.append({"name": names.MODEL_VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    if keys := ep.spec.server.api_key_secret_ref:
        # The files' group is the pod's fsGroup. Without one the image's user is in no group that is known here.
        mode = 0o440 if platform.run_as_user is not None else 0o444
        volumes.append({"name": names.KEYS_VOLUME, "secret": {"secretName": keys.name, "defaultMode": mode}})
    return volumes


def _volume(name: str, choice: VolumeChoice | None) -> dict[str, Any]:
    source = choice.model_dump(by_alias=True, exclude_none=True) if choice else {"emptyDir": {}}
    return {"name": name, **source}
