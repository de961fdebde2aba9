"""docs/reference/gateway.md, written from the gateway's own settings and metrics."""

from collections.abc import Iterable
from typing import Protocol

from pydantic_settings import BaseSettings

from berth.cli.markdown import page, table
from berth.cli.reference import settings_table

# The release's own namespace.
COMPUTED = frozenset({"namespace"})

_VALUES = {
    "auth": "gateway.auth",
    "namespaces": "gateway.namespaces",
    "first_endpoint_port": "gateway.ports.first",
    "endpoint_ports": "gateway.ports.count",
}

METRICS = """Served by each gateway at `/metrics` on port `admin` of the headless Service whose name ends in
`-gateway-admin`, beside the `process_…` metrics of the Prometheus client."""


class Described(Protocol):
    """A metric. name: as /metrics has it.  kind: counter, gauge or histogram."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def help(self) -> str: ...


def value_path(field: str) -> str:
    """Where the chart's values have the setting `field` of the gateway, "" when the chart itself knows it."""
    first, *rest = field.split("_")
    if field in COMPUTED:
        return ""
    return _VALUES.get(field) or f"gateway.settings.{first}{''.join(map(str.capitalize, rest))}"


def gateway_page(settings: type[BaseSettings], metrics: Iterable[Described]) -> str:
    """The page. settings, metrics: those of `berth_gateway`."""
    return page(
        "The gateway: settings and metrics",
        [
            "## Settings",
            "Values of the chart, which sets the environment variable beside it.",
            settings_table(settings, value_path),
            "## Metrics",
            METRICS,
            table(
                ["Metric", "Type", "Labels", "Meaning"],
                (
                    [f"`{metric.name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help]
                    for metric in metrics
                ),
            ),
        ],
    )
