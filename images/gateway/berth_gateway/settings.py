"""Settings of the gateway, read from environment variables named BERTH_GATEWAY_…: the source of the reference page."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MOST_PORT = 65535
MIB = 1024 * 1024


class Settings(BaseSettings):
    """Settings of the gateway."""

    model_config = SettingsConfigDict(env_prefix="BERTH_GATEWAY_", use_attribute_docstrings=True, frozen=True)

    auth: Literal["Keys", "Open"] = "Keys"
    """`Keys`: who sends a request needs a key of the gateway. `Open`: everybody who reaches the gateway may use every
    endpoint that it serves."""
    namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces, separated by commas, whose endpoints are served. Empty: all."""
    namespace: str = Field("berth-system", min_length=1)
    """Namespace of the gateway, in which the Secrets with keys are."""
    port: int = Field(8080, ge=0, le=MOST_PORT)
    """Port of the one URL for every endpoint. 0 takes any free port and logs it."""
    admin_port: int = Field(9090, ge=0, le=MOST_PORT)
    """Port of `/livez`, `/readyz`, `/metrics` and `/demand`. 0 takes any free port and logs it."""
    first_endpoint_port: int = Field(20000, ge=1024, le=MOST_PORT)
    """First of the ports on which requests arrive that were sent to an endpoint's own Service while it is at zero."""
    endpoint_ports: int = Field(500, ge=1, le=10000)
    """How many of these ports there are: so many endpoints can have `spec.scaling.min: 0`."""
    connect_seconds: float = Field(5.0, gt=0.0)
    """Seconds within which a pod takes a connection."""
    first_byte_seconds: float = Field(900.0, gt=0.0)
    """Seconds within which a pod begins its answer."""
    between_bytes_seconds: float = Field(300.0, gt=0.0)
    """Seconds for which an answer may pause."""
    total_seconds: float = Field(3600.0, gt=0.0)
    """Seconds within which an answer ends, from when the request was sent to a pod."""
    most_body_bytes: int = Field(64 * MIB, ge=1024)
    """Bytes of a request's body; a longer one is refused."""
    most_bodies_bytes: int = Field(512 * MIB, ge=1024)
    """Bytes of all bodies that arrive or that a pod has not begun to answer, without the first MiB of each; what
    exceeds it is refused with 503."""
    hold_per_endpoint: int = Field(1000, ge=0)
    """Requests that wait for an endpoint to wake; a further one is refused with 503 and `Retry-After`."""
    hold_in_all: int = Field(5000, ge=0)
    """Requests that wait for all endpoints together."""
    hold_bytes_per_endpoint: int = Field(256 * MIB, ge=0)
    """Bytes of the requests that wait for one endpoint."""
    hold_bytes_in_all: int = Field(1024 * MIB, ge=0)
    """Bytes of all requests that wait. The memory limit of the gateway's container must be well above this and
    `most_bodies_bytes` together."""
    hold_seconds: float = Field(900.0, gt=0.0)
    """Seconds that a request waits at most."""
    further_seconds: float = Field(30.0, ge=0.0)
    """Seconds in which a gateway that is told to end still takes new requests, until everybody knows that it leaves."""
    drain_seconds: float = Field(300.0, ge=0.0)
    """Seconds after these in which the requests that it still has may end."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level that is logged."""

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        beyond = self.first_endpoint_port + self.endpoint_ports
        if beyond > MOST_PORT + 1:
            raise ValueError(f"BERTH_GATEWAY_FIRST_ENDPOINT_PORT and _ENDPOINT_PORTS end at {beyond - 1}: no such port")
        for name, port in (("PORT", self.port), ("ADMIN_PORT", self.admin_port)):
            if self.first_endpoint_port <= port < beyond:
                raise ValueError(f"BERTH_GATEWAY_{name} {port} is one of the endpoints' ports: choose another one")
        if self.port == self.admin_port != 0:
            raise ValueError(
                f"BERTH_GATEWAY_PORT and BERTH_GATEWAY_ADMIN_PORT are both {self.port}: choose another one"
            )
        return self
