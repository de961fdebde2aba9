"""The reference pages under docs/reference, written from the code that they describe."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase
from pydantic_settings import BaseSettings

from berth.api import names
from berth.api.conditions import REASON_EXPLANATION, TYPE_MEANING, Explanation
from berth.api.crd import crd
from berth.api.flags import OWNED_FLAGS
from berth.cli.markdown import page, table
from berth.settings import Settings
from berth.telemetry.metrics import DemandCollector, Metrics

README_START = "<!-- reasons: written by `make generate` -->"
README_END = "<!-- end of reasons -->"
Schema = Mapping[str, Any]

# The images stand together in the chart's values; every other setting has its own name there.
_IMAGE_VALUES = {"server_image": "image.server", "payload_image": "image.payload"}


def pages(launcher: Mapping[str, Any]) -> dict[str, str]:
    """File name → content of every reference page. launcher: the names in the payload's catalogue of reasons."""
    return {
        "modelendpoint.md": page("ModelEndpoint", _modelendpoint()),
        "conditions.md": page("Conditions and reasons", _conditions()),
        "server-reasons.md": page("Reasons and phases of the server", _server_reasons(launcher)),
        "settings.md": page("Settings", _settings()),
        "metrics.md": page("Metrics", _metrics()),
    }


def with_reasons(readme: str) -> str:
    """README.md with the present table of reasons between its two marks."""
    before, rest = readme.split(README_START)
    _, after = rest.split(README_END)
    reasons = table(["Reason", "Meaning", "What to do"], _reasons(REASON_EXPLANATION))
    return f"{before}{README_START}\n{reasons}\n{README_END}{after}"


def _modelendpoint() -> Iterator[str]:
    definition = crd()["spec"]
    version = definition["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    yield (
        f"`{names.API_VERSION}`, kind `{names.KIND}`, short name `{definition['names']['shortNames'][0]}`, namespaced, "
        "subresources `status` and `scale`. The API server refuses what the rules below say; what only Berth can judge "
        "shows as condition `Accepted`."
    )
    yield "## Name"
    yield f"- {root['x-kubernetes-validations'][0]['message']}"
    for part in ("spec", "status"):
        yield f"## {part}"
        yield root["properties"][part]["description"]
        yield from _fields(part, root["properties"][part])
    yield "## Flags that Berth sets itself"
    yield "Refused in `spec.server.args` and `spec.server.extraArgs`."
    yield table(["Flag", "Instead"], ([f"`--{flag}`", instead] for flag, instead in sorted(OWNED_FLAGS.items())))


def _fields(path: str, schema: Schema) -> Iterator[str]:
    """Table of one object's fields, the rules on them, then the objects inside, each in a section of its own."""
    required = schema.get("required", [])
    yield table(
        ["Field", "Type", "Meaning"],
        (
            [f"`{name}`", _type(child) + (", required" if name in required else ""), child.get("description", "")]
            for name, child in schema["properties"].items()
        ),
    )
    sections = {}
    rules = [*_rules(path, schema)]
    for name, child in schema["properties"].items():
        inner, suffix = (child["items"], "[]") if child.get("type") == "array" else (child, "")
        if "properties" in inner and not child.get("x-kubernetes-preserve-unknown-fields"):
            sections[f"{path}.{name}{suffix}"] = inner
        else:
            rules += _rules(f"{path}.{name}", child)
    if rules:
        yield "Refused, with this message:"
        yield "\n".join(rules)
    for inner_path, inner in sections.items():
        yield f"### {inner_path}"
        yield from _fields(inner_path, inner)


def _rules(path: str, schema: Schema) -> Iterator[str]:
    """The rules of one field, and of the plain values in a list or map."""
    for where, node in (
        (path, schema),
        (f"{path}[]", schema.get("items") or {}),
        (f"{path}.*", schema.get("additionalProperties") or {}),
    ):
        yield from (f"- `{where}`: {rule['message']}" for rule in node.get("x-kubernetes-validations", []))


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" if value else '`""`' for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" + _limits(schema, "maxItems", "at most {} items")
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}" + _limits(
            schema, "maxProperties", "at most {} entries"
        )
    text = str(schema["type"])
    text += _limits(schema, "maxLength", "at most {} characters")
    if "minimum" in schema:
        text += f" {schema['minimum']} to {schema['maximum']}" if "maximum" in schema else f" from {schema['minimum']}"
    return text


def _limits(schema: Schema, key: str, text: str) -> str:
    return f", {text.format(schema[key])}" if key in schema else ""


def _conditions() -> Iterator[str]:
    yield (
        "`status.conditions` follows the conventions of the Kubernetes API and is understood by kstatus and "
        "`kubectl wait --for=condition=Ready`. `status.problems` names what is wrong with each pod, with the same "
        "reasons."
    )
    yield "## Conditions"
    yield table(["Type", "Meaning"], ([f"`{kind}`", meaning] for kind, meaning in TYPE_MEANING.items()))
    yield "## Reasons"
    yield table(["Reason", "Meaning", "What to do"], _reasons(REASON_EXPLANATION))
    yield (
        "Why the server in a pod ended or cannot start is told by the launcher in front of it, with "
        "[reasons of its own](server-reasons.md)."
    )


def _server_reasons(launcher: Mapping[str, Any]) -> Iterator[str]:
    reasons = launcher["REASONS"]
    yield (
        "Told by the launcher, the first process of container `server`, in the container's termination message, and by "
        "Berth in `status.problems` of the endpoint, with a message that names what the table leaves open. *Stalled*: "
        "a restart will not mend it, the endpoint gets condition `Stalled`."
    )
    yield table(
        ["Reason", "Stalled", "Meaning", "What to do"],
        (
            [f"`{name}`", "yes" if reason.permanent else "", reason.meaning, _with_code(reason.suggestion)]
            for name, reason in reasons.items()
        ),
    )
    yield "## How each is seen, and how far that is proven"
    yield (
        "*real*: the named test in tests/contracts/launcher makes it happen to the launcher in front of vLLM. "
        "*recorded*: output that others published is replayed, since it takes an accelerator. *unproven*: known from "
        "the sources alone, so nothing is suggested."
    )
    yield table(
        ["Reason", "Seen by", "Evidence", "From"],
        (
            [f"`{name}`", _with_code(reason.detected), reason.evidence, _source(reason.proof)]
            for name, reason in reasons.items()
        ),
    )
    yield "## Phases of a start"
    yield "The message of a pod with reason `Starting` names the phase."
    yield table(["Phase", "Meaning"], ([f"`{phase}`", meaning] for phase, meaning in launcher["PHASES"].items()))


def _with_code(text: str) -> str:
    """The launcher speaks plain text: fields, settings and flags of vLLM get their backticks here."""
    return re.sub(
        r"(?<![`\w])((?:spec|settings)\.[\w.]*\w|config\.json|[A-Z]+_[A-Z_]+|chmod -R a\+rX)(?!`)", r"`\1`", text
    )


def _source(proof: str) -> str:
    """A test as code, an issue of GitHub as a link."""
    found = [
        re.sub(r"^([\w.-]+/[\w.-]+)#(\d+)$", r"[\g<0>](https://github.com/\1/issues/\2)", part)
        for part in proof.split(", ")
    ]
    return f"`{proof.partition('::')[2]}`" if "::" in proof else ", ".join(found)


def _reasons(explained: Mapping[Any, Explanation]) -> Iterator[tuple[str, str, str]]:
    for reason, (meaning, action) in explained.items():
        yield f"`{reason}`", meaning, action


# Settings that follow from where the chart is installed.
COMPUTED = frozenset({"url", "gateway_service", "gateway_namespaces", "gateway_first_port", "gateway_ports"})


def value_path(field: str) -> str:
    """Where the chart's values have the setting `field`, "" when the chart itself knows it."""
    first, *rest = field.split("_")
    if field in COMPUTED:
        return ""
    return _IMAGE_VALUES.get(field) or f"settings.{first}{''.join(map(str.capitalize, rest))}"


def _settings() -> Iterator[str]:
    yield "Settings of the operator: values of the chart, which sets the environment variable beside it."
    yield settings_table(Settings, value_path)


def settings_table(settings: type[BaseSettings], value_path: Callable[[str], str]) -> str:
    """All fields of a program's settings. value_path: where the chart's values have a field, "" where they do not."""
    return table(
        ["Value", "Variable", "Default", "Meaning"],
        (
            [
                f"`{path}`" if (path := value_path(name)) else "set by the chart",
                f"`{settings.model_config['env_prefix']}{name.upper()}`",
                _default(settings.model_fields[name].default),
                _meaning(field),
            ]
            for name, field in settings.model_json_schema()["properties"].items()
        ),
    )


def _meaning(field: Schema) -> str:
    limits = f" {field['minimum']:g} to {field['maximum']:g}." if "maximum" in field else ""
    limits = limits or (f" At least {field['minimum']:g}." if "minimum" in field else "")
    limits = limits or (f" More than {field['exclusiveMinimum']:g}." if "exclusiveMinimum" in field else "")
    choice = f" One of {', '.join(field['enum'])}." if "enum" in field else ""
    return str(field["description"]) + limits + choice


def _default(value: object) -> str:
    if isinstance(value, tuple):
        value = ",".join(value)
    return f"`{value}`" if isinstance(value, str | int | float) and value != "" else ""


def _metrics() -> Iterator[str]:
    yield (
        "Served by the operator at `/metrics` on port `http` of the chart's Service, beside the `process_…` metrics of "
        "the Prometheus client. vLLM's own metrics are at `/metrics` of each endpoint's pods."
    )
    found = [metric for metric in vars(Metrics()).values() if isinstance(metric, MetricWrapperBase)]
    yield table(
        ["Metric", "Type", "Labels", "Meaning"],
        tuple(
            [
                f"`{metric._name}{'_total' if isinstance(metric, Counter) else ''}`",
                str(metric._type),
                ", ".join(f"`{label}`" for label in metric._labelnames),
                metric._documentation,
            ]
            for metric in found
        )
        + tuple(
            [f"`{family.name}`", family.type, "`namespace`, `name`", family.documentation]
            for family in DemandCollector().collect()
        ),
    )
