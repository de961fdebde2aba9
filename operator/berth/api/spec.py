"""The fields of `spec`, with their limits and rules: the source of the schema, of parsing and of the reference page.

Rules that the API server can check are CEL (`x-kubernetes-validations`); their messages say what to write instead.
"""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from berth.api.fields import DnsName, Fields, IntOrPercent, Quantity, rules
from berth.api.flags import EXTRA_ARG_RULES, OWNED_FLAGS
from berth.api.scaling import Actuator, Scaling

ServedName = Annotated[
    str,
    Field(max_length=256),
    Field(
        json_schema_extra=rules(
            (
                "self.matches('^[A-Za-z0-9][A-Za-z0-9._:/@-]*$')",
                "a served name starts with a letter or digit and has only letters, digits and . _ : / @ -",
            )
        )
    ),
]
ExtraArg = Annotated[str, Field(max_length=4096), Field(json_schema_extra=rules(*EXTRA_ARG_RULES))]


class SecretKeyRef(Fields):
    """A Secret of the endpoint's namespace."""

    name: DnsName
    """Name of the Secret."""
    key: str | None = Field(None, max_length=253)
    """Key in the Secret. Default: `HF_TOKEN`, then `token`, whichever is there."""


class Model(Fields):
    """Which model, and under which names it is served."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.revision) || self.source.startsWith('hf://')",
                "spec.model.revision works with hf:// only: remove it, or put the version into the path",
            )
        )
    )

    source: str = Field(
        max_length=512,
        json_schema_extra=rules(
            (
                "size(self) > 0",
                "spec.model.source is empty: write where the model is, for example hf://org/name, pvc://claim/path "
                "or file:///path/in/the/image",
            ),
            (
                "size(self) == 0 || self.matches('^(hf|pvc|file)://')",
                "spec.model.source has an unknown scheme: use hf://org/name (a Hugging Face repository), "
                "pvc://claim/path (a PersistentVolumeClaim) or file:///path (a path in the image)",
            ),
            (
                "!self.startsWith('hf://') || "
                "self.matches('^hf://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$')",
                "after hf:// comes a repository such as org/name; a branch, tag or commit goes into "
                "spec.model.revision",
            ),
            (
                "!self.startsWith('pvc://') || "
                "self.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[A-Za-z0-9._@+=-]+)*/?$')",
                "after pvc:// comes the claim's name and the path in it, for example pvc://models/llama-3.1-8b",
            ),
            (
                "!self.startsWith('file://') || self.matches('^file://(/[A-Za-z0-9._@+=-]+)+/?$')",
                "after file:// comes an absolute path in the image, for example file:///models/llama",
            ),
            (
                "!self.matches('/[.][.](/|$)')",
                "spec.model.source must not contain '..': write the path itself",
            ),
        ),
    )
    """Where the model is: `hf://org/name` (Hugging Face repository), `pvc://claim/path` (directory on a
    PersistentVolumeClaim of the same namespace, mounted read-only) or `file:///path` (directory in the image)."""
    revision: str | None = Field(
        None,
        max_length=256,
        json_schema_extra=rules(
            (
                "self.matches('^[A-Za-z0-9][A-Za-z0-9._/-]*$')",
                "spec.model.revision must be a branch, a tag or a commit hash, for example main or a 40-digit commit",
            )
        ),
    )
    """Branch, tag or commit of an `hf://` repository. Pin a commit so that every pod has the same weights.
    Default: the repository's main branch."""
    served_names: list[ServedName] = Field(
        default_factory=list, max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """Names that clients may send as `model`; the first is the one reported. Default: the endpoint's name.
    The repository id of an `hf://` source is accepted too."""
    secret_ref: SecretKeyRef | None = None
    """Secret with the access token for the source. Keys: `HF_TOKEN` or `token`, unless `key` names another."""


Api = Literal["OpenAI", "LLMEngine", "ScaleEGP", "AlephAlpha"]
APIS: tuple[Api, ...] = get_args(Api)


class SecretRef(Fields):
    """A Secret of the endpoint's namespace."""

    name: DnsName
    """Name of the Secret."""


class ConfigKeySelector(Fields):
    """One key of a Secret or ConfigMap."""

    name: DnsName
    """Name of the object."""
    key: str = Field(max_length=253)
    """Key in the object."""
    optional: bool | None = None
    """True: the pod starts without it."""


class FieldSelector(Fields):
    """A field of the pod."""

    field_path: str = Field(max_length=253)
    """Path, for example status.podIP."""
    api_version: str | None = Field(None, max_length=16)
    """Version of the path's schema. Default: v1."""


class ResourceSelector(Fields):
    """A resource of a container."""

    resource: str = Field(max_length=253)
    """Resource, for example limits.memory."""
    container_name: str | None = Field(None, max_length=63)
    """Container. Default: this one."""
    divisor: Quantity | None = None
    """Unit of the value."""


class EnvVarSource(Fields):
    """Where the value of an environment variable comes from."""

    secret_key_ref: ConfigKeySelector | None = None
    """A key of a Secret."""
    config_map_key_ref: ConfigKeySelector | None = None
    """A key of a ConfigMap."""
    field_ref: FieldSelector | None = None
    """A field of the pod."""
    resource_field_ref: ResourceSelector | None = None
    """A resource of the container."""


class EnvVar(Fields):
    """An environment variable, as in core/v1."""

    name: str = Field(min_length=1, max_length=253)
    """Name of the variable."""
    value: str | None = Field(None, max_length=32768)
    """Value. Use `valueFrom` for secrets."""
    value_from: EnvVarSource | None = None
    """Source of the value."""


def _args_schema() -> dict[str, Any]:
    """CEL cannot see values of unknown keys: each owned flag is a declared property that nothing satisfies."""
    owned = {
        flag: {
            "x-kubernetes-int-or-string": True,
            "description": "Set by Berth.",
            **rules(("false", f"--{flag} is set by Berth: {instead}")),
        }
        for flag, instead in OWNED_FLAGS.items()
    }
    return {
        "type": "object",
        "maxProperties": 100,
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": owned,
    }


class Server(Fields):
    """The vLLM server."""

    image: str | None = Field(
        None,
        max_length=512,
        json_schema_extra=rules(("self.matches('^[^ ]+$')", "must be an image reference without spaces")),
    )
    """Any vLLM image from 0.26 on. Default: the operator's setting, the version that the tests run."""
    args: Annotated[dict[str, Any], WithJsonSchema(_args_schema())] = Field(default_factory=dict)
    """vLLM flags as a map, without the dashes in front: `true` is `--flag`, `false` is `--no-flag`, a list is one
    flag with several values, an object is passed as JSON."""
    extra_args: list[ExtraArg] = Field(
        default_factory=list, max_length=100, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """Arguments passed to vLLM as they are, after those of `args`: for flags given more than once."""
    env: list[EnvVar] = Field(
        default_factory=list,
        max_length=100,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """Environment variables of the server container."""
    api_key_secret_ref: SecretRef | None = None
    """Secret with the API keys: each line of each entry is one. With it every request needs a key, on every path but
    `/health`: as `x-api-key`, as `Authorization: Bearer` or as the user name of `Authorization: Basic`. Changes of the
    Secret take effect without a restart. Default: no key is needed."""
    apis: list[Api] = Field(
        default_factory=lambda: list(APIS),
        min_length=1,
        max_length=len(APIS),
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    """Completion APIs that the server answers. Default: all."""
    require_account: bool = False
    """True: ScaleEGP requests without an `account_id`, in the body or as a header, are refused. Default: false."""


class Resources(Fields):
    """Compute resources of the server container, as in core/v1."""

    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=32)
    """Limits. Accelerators go here, for example `nvidia.com/gpu: 1`; their count sets `tensor-parallel-size` unless
    `spec.server.args` does."""
    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=32)
    """Requests. Default: the limits."""


class EmptyDir(Fields):
    """A volume that lives as long as the pod."""

    medium: Literal["", "Memory"] | None = None
    """`Memory` for a RAM disk. Default: the node's disk."""
    size_limit: Quantity | None = None
    """The pod is evicted when the volume outgrows it."""


class ClaimRef(Fields):
    """A PersistentVolumeClaim of the endpoint's namespace."""

    claim_name: DnsName
    """Name of the claim."""


class VolumeChoice(Fields):
    """Where a directory lives: exactly one of the choices. Default: `emptyDir: {}`."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.emptyDir) != has(self.persistentVolumeClaim)",
                "name exactly one of emptyDir and persistentVolumeClaim",
            )
        )
    )

    empty_dir: EmptyDir | None = None
    """A volume that lives as long as the pod."""
    persistent_volume_claim: ClaimRef | None = None
    """A claim; with several replicas it must be ReadWriteMany."""


class Storage(Fields):
    """Where the server keeps what it downloads and compiles."""

    weights: VolumeChoice | None = None
    """For weights downloaded from `hf://`. A claim keeps them over restarts and shares them between replicas."""
    engine_cache: VolumeChoice | None = None
    """For the engine's compile caches. A claim makes later starts faster."""


class Service(Fields):
    """The Service in front of the pods."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """Type of the Service. Default: ClusterIP."""
    port: int = Field(80, ge=1, le=65535)
    """Port of the Service. Default: 80."""
    annotations: dict[str, Annotated[str, Field(max_length=4096)]] = Field(default_factory=dict, max_length=50)
    """Annotations of the Service, for example for a load balancer."""


class Rollout(Fields):
    """How pods are replaced when the spec changes, and how they leave."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!((has(self.maxSurge) && (self.maxSurge == 0 || self.maxSurge == '0%')) && "
                "(!has(self.maxUnavailable) || self.maxUnavailable == 0 || self.maxUnavailable == '0%'))",
                "maxSurge and maxUnavailable cannot both be 0, no pod could ever be replaced: set one of them to at "
                "least 1 (maxUnavailable: 1 when there is no spare GPU for a surge)",
            )
        )
    )

    max_surge: IntOrPercent = 1
    """Pods above `replicas` during a rollout, a number or a percentage. Default: 1."""
    max_unavailable: IntOrPercent = 0
    """Pods that may be missing during a rollout, a number or a percentage. Default: 0, old pods serve until new ones
    are proven."""
    drain_seconds: int = Field(120, ge=0, le=86400)
    """At most this long a leaving pod may finish its requests. It leaves sooner when none are left. Default: 120."""


class Spec(Fields):
    """What to serve and how."""

    SCHEMA_DEFAULTS: ClassVar[dict[str, Any]] = {"replicas": 1}

    model: Model
    """Which model, and under which names it is served."""
    server: Server = Field(default_factory=Server)
    """The vLLM server."""
    resources: Resources = Field(default_factory=Resources)
    """Compute resources of the server container."""
    storage: Storage = Field(default_factory=Storage)
    """Where the server keeps what it downloads and compiles."""
    replicas: int = Field(1, ge=0, le=1000)
    """Number of pods. Default: 1. 0 keeps everything but the pods, like `suspend`."""
    scaling: Scaling | None = None
    """As many replicas as the load needs; `spec.replicas` is without effect then. Default: `spec.replicas`."""
    service: Service = Field(default_factory=Service)
    """The Service in front of the pods."""
    rollout: Rollout = Field(default_factory=Rollout)
    """How pods are replaced when the spec changes, and how they leave."""
    pod_template: Annotated[
        dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    ] = Field(default_factory=dict)
    """Partial core/v1 PodTemplateSpec merged over Berth's: nodeSelector, tolerations, affinity, volumes, sidecars and
    so on. Lists merge by their core/v1 merge keys; tolerations are appended."""
    suspend: bool = False
    """True: no pods; everything else is kept. Default: false."""


class Backend(BaseModel):
    """Where the Service leads while no pod serves: the gateway's port that is this endpoint's, at these addresses.

    No address while pods serve: the port stays the endpoint's, for connections that are still open.
    """

    model_config = ConfigDict(frozen=True)

    port: int
    addresses: tuple[str, ...] = ()
    family: Literal["IPv4", "IPv6"] = "IPv4"


class Endpoint(BaseModel):
    """A parsed ModelEndpoint: identity and spec. Everything after parsing takes this."""

    model_config = ConfigDict(frozen=True)

    namespace: str
    name: str
    uid: str
    generation: int
    spec: Spec
    decided_replicas: int | None = None
    """With `spec.scaling`: how many replicas there are to be."""
    autoscaler: Actuator | None = None
    """Whose autoscaler there is to be."""
    replicas_left: bool = False
    """The number of replicas is somebody else's: nothing of it is written."""
    gateway: Backend | None = None
    """With `spec.scaling.min: 0`."""

    @property
    def served_names(self) -> list[str]:
        """All names the server answers to; the first is reported. A `hf://` repository id comes last."""
        names = list(self.spec.model.served_names) or [self.name]
        scheme, _, rest = self.spec.model.source.partition("://")
        if scheme == "hf" and rest not in names:
            names.append(rest)
        return names

    @property
    def apis(self) -> list[Api]:
        """APIs that the server answers, in the order of their documentation: that of the spec means nothing."""
        return [api for api in APIS if api in self.spec.server.apis]

    @property
    def wanted_replicas(self) -> int:
        """Pods that should run: `spec.replicas`, or as many as were decided on; 0 while suspended."""
        if self.spec.suspend:
            return 0
        return self.spec.replicas if self.decided_replicas is None else self.decided_replicas
