"""What the fields of the resource are made of: their base, and types that several of them have."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Schema extension for CEL rules given as (rule, message)."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


class Fields(BaseModel):
    """Base of all parts of the resource: camelCase outside, frozen; unknown fields were pruned by the API server."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True, extra="ignore"
    )


_QUANTITY_RULE = rules(
    (
        "type(self) == int ? self >= 0 : isQuantity(self) && !self.startsWith('-')",
        "must be a quantity such as 1, 500m, 16Gi or 1.5G, and not negative",
    )
)
Quantity = Annotated[
    int | str,
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 64, **_QUANTITY_RULE}),
]
IntOrPercent = Annotated[
    int | str,
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 8,
            **rules(
                (
                    "type(self) == int ? self >= 0 : self.matches('^[0-9]+%$')",
                    "must be a number of pods such as 1, or a percentage such as '25%'",
                )
            ),
        }
    ),
]
DnsName = Annotated[
    str,
    Field(max_length=253),
    Field(
        json_schema_extra=rules(
            (
                "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
                "must be the name of an object: lower case letters, digits, '-' and '.'",
            )
        )
    ),
]
