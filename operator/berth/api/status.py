"""The fields of `status`: the source of the schema and of the reference page. Status itself is built as a dict."""

from typing import Annotated, Any

from pydantic import Field, JsonValue, WithJsonSchema

from berth.api.fields import Fields
from berth.api.scaling import ScalingStatus

ATOMIC: dict[str, JsonValue] = {"x-kubernetes-list-type": "atomic"}
Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
MAX_PROBLEMS = 10


class Urls(Fields):
    """What the base-URL setting of each API's client wants."""

    open_ai: str | None = Field(None, alias="OpenAI")
    """Base URL for OpenAI clients."""
    llm_engine: str | None = Field(None, alias="LLMEngine")
    """Base URL for clients of Scale LLM Engine: `LLM_ENGINE_BASE_PATH`."""
    scale_egp: str | None = Field(None, alias="ScaleEGP")
    """Base URL for clients of Scale EGP and SGP: `EGP_ENDPOINT_URL`, `SGP_CLIENT_BASE_URL`, or their argument."""
    aleph_alpha: str | None = Field(None, alias="AlephAlpha")
    """Base URL for Aleph Alpha clients: their argument `host`."""


class Engine(Fields):
    """The server as it is planned, and the version found running."""

    image: str | None = None
    """Image of the server container."""
    command: list[str] = Field(default_factory=list, json_schema_extra=ATOMIC)
    """The command that the launcher runs, word by word."""
    version: str | None = None
    """Version of vLLM that a running pod reported."""


class Model(Fields):
    """The model as it is in the pods."""

    revision: str | None = None
    """Commit of the `hf://` weights, as the youngest pod that told it has them. Pods that started at different times
    have different ones when `spec.model.revision` is a branch that moved."""


class Progress(Fields):
    """How far a start is."""

    phase: str
    """Phase of the launcher, of the starting pod that is furthest on."""
    message: str
    """The same in words; of a download also what has come, how fast, and how long the rest will take."""


class Problem(Fields):
    """Something that is wrong with a pod or with creating one."""

    pod: str = ""
    """Name of the pod; empty when no pod could be created."""
    container: str = ""
    """Name of the container; empty when it concerns the pod as a whole."""
    reason: str
    """Stable CamelCase reason."""
    message: str
    """What happened."""
    suggestion: str = ""
    """What to do; empty when nothing proven is known."""
    since: Timestamp
    """When Berth first saw it."""


class Ignored(Fields):
    """A field of the spec that is without effect."""

    field: str
    """Path of the field."""
    why: str
    """Why it is without effect."""


class Condition(Fields):
    """A condition, as in meta/v1."""

    type: str
    """Type of the condition."""
    status: Annotated[str, WithJsonSchema({"type": "string", "enum": ["True", "False", "Unknown"]})]
    """True, False or Unknown."""
    observed_generation: int | None = None
    """Generation of the spec that this was judged on."""
    last_transition_time: Timestamp
    """When `status` last flipped."""
    reason: str
    """CamelCase reason."""
    message: str
    """A sentence for people."""


class Status(Fields):
    """What is, as of `observedGeneration`. Written by Berth alone."""

    observed_generation: int | None = None
    """Generation of the spec that this status describes."""
    url: str | None = None
    """Where the endpoint's Service listens inside the cluster."""
    urls: Urls | None = None
    """What the base-URL setting of the client of each API in `spec.server.apis` wants."""
    replicas: int | None = None
    """Pods that exist."""
    ready_replicas: int | None = None
    """Pods that serve."""
    selector: str | None = None
    """Label selector of the pods, for autoscalers."""
    engine: Engine | None = None
    """The server as it is planned, and the version found running."""
    model: Model | None = None
    """The model as it is in the pods."""
    progress: Progress | None = None
    """How far a start is; only while a pod is starting, at most ten seconds old."""
    scaling: ScalingStatus | None = None
    """Why there are so many replicas; with `spec.scaling` only."""
    problems: list[Problem] = Field(default_factory=list, max_length=MAX_PROBLEMS, json_schema_extra=ATOMIC)
    """What is wrong, the most important first; empty when healthy."""
    problem_count: int | None = None
    """Number of problems, also of those beyond the tenth."""
    ignored: list[Ignored] = Field(default_factory=list, max_length=50, json_schema_extra=ATOMIC)
    """Fields of the spec that are without effect, and why."""
    conditions: list[Condition] = Field(
        default_factory=list,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """Ready, Accepted, Available, Progressing; ScalingActive with `spec.scaling`; Reconciling and Stalled only while
    true."""


def schema_defaults(model: type[Fields]) -> dict[str, Any]:
    """Defaults that the API server fills in. All others are filled when a spec is parsed."""
    return dict(getattr(model, "SCHEMA_DEFAULTS", {}))
