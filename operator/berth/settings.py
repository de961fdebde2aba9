"""Settings of the operator, read from environment variables named BERTH_…: the source of the reference page."""

import json
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from berth.desired.platform import Platform

Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Settings of the operator."""

    model_config = SettingsConfigDict(env_prefix="BERTH_", use_attribute_docstrings=True, frozen=True)

    server_image: str = "vllm/vllm-openai:v0.32.0"
    """vLLM image of endpoints that name none in `spec.server.image`."""
    payload_image: str = "ghcr.io/berth-dev/berth-server:0.1.0"
    """Image with the launcher and the plugin, copied into every pod."""
    cluster_domain: str = "cluster.local"
    """DNS domain of the cluster, used in `status.url`."""
    accelerators: Names = Platform.accelerators
    """Resource names, separated by commas, whose count sets `tensor-parallel-size`. MIG and time slices do not belong
    here: they need an explicit `tensor-parallel-size`."""
    run_as_user: int | None = 65532
    """uid of the model server pods and their fsGroup. Empty: the cluster chooses (OpenShift)."""
    image_pull_secrets: Names = ()
    """Names, separated by commas, of pull Secrets in the namespaces of the endpoints."""
    pod_env: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """Environment variables of every server container as a JSON object: proxies, `HF_ENDPOINT`."""
    workers: int = Field(32, ge=1, le=256)
    """Endpoints reconciled at the same time."""
    resync_seconds: float = Field(480.0, ge=10.0)
    """Seconds between two comparisons of everything known with a fresh list, give or take a fifth."""
    lease_seconds: int = Field(8, ge=2, le=300)
    """Seconds after which a standby takes over from an operator that has vanished. The leader renews every quarter of
    it, and stops writing when it could not for five eighths. Raise it when the API server often answers late."""
    http_port: int = Field(8080, ge=0, le=65535)
    """Port of `/livez`, `/readyz`, `/metrics` and `/scaling`. 0 takes any free port and logs it."""
    url: str = Platform.url
    """Where KEDA reaches `/scaling`: the Service in front of that port, scheme and port included."""
    gateway_service: str = Field("", pattern=r"^([a-z0-9-]+/[a-z0-9-]+)?$")
    """Namespace and name of the gateway's Service, with a slash between. Empty: there is no gateway, and no endpoint
    may sleep."""
    gateway_namespaces: Names = ()
    """Namespaces, separated by commas, whose endpoints the gateway serves: in others none may sleep. Empty: all."""
    gateway_first_port: int = Field(20000, ge=1024, le=65535)
    """First of the ports that the gateway has for endpoints that sleep."""
    gateway_ports: int = Field(500, ge=1, le=10000)
    """How many of these ports there are: so many endpoints can have `spec.scaling.min: 0`."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level that is logged."""
    log_format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for people."""

    @field_validator("accelerators", "image_pull_secrets", "gateway_namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("pod_env", mode="before")
    @classmethod
    def _object(cls, value: object) -> object:
        try:
            found = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(item, str) for item in found.values()):
            raise ValueError('must be a JSON object of texts, for example {"HTTPS_PROXY": "http://proxy:3128"}')
        return found

    @field_validator("run_as_user", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    def endpoint_ports(self) -> range:
        """Those that the gateway has for endpoints that sleep."""
        return range(self.gateway_first_port, min(self.gateway_first_port + self.gateway_ports, 65536))

    def platform(self) -> Platform:
        """The part that shapes children."""
        return Platform(
            server_image=self.server_image,
            payload_image=self.payload_image,
            cluster_domain=self.cluster_domain,
            accelerators=self.accelerators,
            run_as_user=self.run_as_user,
            image_pull_secrets=self.image_pull_secrets,
            pod_env=tuple(sorted(self.pod_env.items())),
            url=self.url.rstrip("/"),
            gateway_service=self.gateway_service,
            gateway_namespaces=self.gateway_namespaces,
        )
