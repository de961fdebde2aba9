"""What the builders know of the installation: the operator's settings that reach the children."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Platform:
    """Settings of the operator that shape children.

    server_image: vLLM image of endpoints that name none.  payload_image: image with the launcher and the plugin.
    cluster_domain: DNS domain of the cluster.  accelerators: resource names whose count sets tensor-parallel-size.
    run_as_user: uid of the pods, also their fsGroup; None leaves both to the cluster (OpenShift).
    image_pull_secrets: names of Secrets in the endpoint's namespace.  pod_env: variables of every server container.
    url: where the operator's own HTTP port is.  gateway_service: namespace/name of the gateway's Service, "" without
    one.  gateway_namespaces: those whose endpoints it serves, none for all.
    """

    server_image: str
    payload_image: str
    cluster_domain: str = "cluster.local"
    accelerators: tuple[str, ...] = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe")
    run_as_user: int | None = 65532
    image_pull_secrets: tuple[str, ...] = ()
    pod_env: tuple[tuple[str, str], ...] = ()
    url: str = "http://berth.berth-system.svc:8080"
    gateway_service: str = ""
    gateway_namespaces: tuple[str, ...] = ()

    def gateway_serves(self, namespace: str) -> bool:
        """Whether there is a gateway, and it serves the endpoints of a namespace."""
        return bool(self.gateway_service) and (not self.gateway_namespaces or namespace in self.gateway_namespaces)

    def within(self, namespace: str) -> "Platform":
        """What an endpoint of this namespace has of it: elsewhere the gateway is not there."""
        return self if self.gateway_serves(namespace) else replace(self, gateway_service="")
