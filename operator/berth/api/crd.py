"""The CustomResourceDefinition, generated from the models: pydantic's JSON schema made structural."""

from typing import Any

from berth.api import names
from berth.api.fields import Fields
from berth.api.spec import Spec
from berth.api.status import Status, schema_defaults

Schema = dict[str, Any]

NAME_RULE = {
    "rule": "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 50",
    "message": "metadata.name must be a valid Service name of at most 50 characters: lower case letters, digits and "
    "'-', starting with a letter (llama-3-1-8b, not llama-3.1-8b)",
}

PRINTER_COLUMNS = [
    {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"},
    {"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason"},
    {"name": "Progress", "type": "string", "jsonPath": ".status.progress.message"},
    {"name": "URL", "type": "string", "jsonPath": ".status.url"},
    {"name": "Replicas", "type": "integer", "jsonPath": ".status.readyReplicas"},
    {"name": "Model", "type": "string", "jsonPath": ".spec.model.source"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]

# Limits that a pydantic union or an alias would lose do not occur here: what remains is dropped by name.
_DROPPED = ("title", "default", "$defs", "discriminator")


def _structural(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """One node without $ref, titles, defaults and null branches. Raises ValueError for what no CRD can say."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[1]]
        return _structural({**target, **{key: value for key, value in schema.items() if key != "$ref"}}, definitions)
    if "anyOf" in schema:
        branches = [branch for branch in schema["anyOf"] if branch.get("type") != "null"]
        if len(branches) != 1:
            raise ValueError(f"a structural schema has no union: {schema}")
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return _structural({**branches[0], **rest}, definitions)
    node = {key: value for key, value in schema.items() if key not in _DROPPED}
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if "properties" in node:
        node["properties"] = {name: _structural(child, definitions) for name, child in node["properties"].items()}
    if isinstance(node.get("additionalProperties"), dict):
        node["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    elif "additionalProperties" in node:
        del node["additionalProperties"]
    if "items" in node:
        node["items"] = _structural(node["items"], definitions)
    return node


def openapi(model: type[Fields]) -> Schema:
    """Structural OpenAPI schema of `model`."""
    raw = model.model_json_schema(by_alias=True)
    node = _structural(raw, raw.get("$defs", {}))
    for name, value in schema_defaults(model).items():
        node["properties"][name]["default"] = value
    return node


def crd() -> Schema:
    """The CustomResourceDefinition of ModelEndpoint."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.KIND.lower(),
                "shortNames": ["mep"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": PRINTER_COLUMNS,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "schema": {
                        "openAPIV3Schema": {
                            "description": "A language model served by vLLM: its pods, its Service, and what is wrong.",
                            "type": "object",
                            "required": ["spec"],
                            "x-kubernetes-validations": [NAME_RULE],
                            "properties": {
                                "apiVersion": {"type": "string"},
                                "kind": {"type": "string"},
                                "metadata": {"type": "object"},
                                "spec": openapi(Spec),
                                "status": openapi(Status),
                            },
                        }
                    },
                }
            ],
        },
    }
