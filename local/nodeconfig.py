"""The daemons of the node with their configuration, in the stages in which they start."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from local import cgroup, components, network, runtime
from local.components import CLUSTER_DOMAIN, Site, answers
from local.supervisor import Daemon

NODE_NAME = "local"
_KUBELET_HEALTH_PORT = 10248
_PROXY_HEALTH_PORT = 10256
_PROXY_METRICS_PORT = 10249
_PROXY_RULES_WRITTEN = 'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"}'
_DNS_READY_PORT = 8181

# What CoreDNS reads, and nothing else.
DNS_ACCESS: list[dict[str, Any]] = [
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "berth-local:dns"},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "berth-local:dns"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "berth-local:dns"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "berth-local:dns"}],
    },
]


@dataclass(frozen=True)
class Place:
    """Where the node keeps its files.

    store: containerd's images, which outlive the cluster.  containerd: its state, thrown away like the rest.
    """

    site: Site
    store: Path
    containerd: Path
    logs: Path
    programs: Mapping[str, Path]

    @property
    def cni_config(self) -> Path:
        return self.site.state / "cni"

    @property
    def resolv_conf(self) -> Path:
        return self.site.state / "resolv.conf"

    @property
    def pod_logs(self) -> Path:
        return self.logs / "pods"


def store_stage(place: Place) -> list[Daemon]:
    """What everything else needs: the state's store and the container runtime."""
    site = place.site
    return [
        Daemon(components.commands(site)["etcd"], lambda: _etcd_serves(site)),
        Daemon(
            ["/usr/bin/containerd", f"--config={place.site.state / 'containerd.toml'}"],
            lambda: runtime.answers(place.containerd),
            {
                site.state / "containerd.toml": runtime.config(
                    place.store, place.containerd, place.cni_config, place.programs["pause"]
                )
            },
        ),
    ]


def api_stage(place: Place, api: httpx.Client) -> list[Daemon]:
    """The API server alone: the rest connects to it."""
    return [Daemon(components.commands(place.site)["kube-apiserver"], lambda: answers(api, "/readyz"))]


def node_stage(place: Place, api: httpx.Client) -> list[Daemon]:
    """Controllers, scheduler, kubelet, Service network and DNS."""
    site = place.site
    commands = components.commands(site)
    kubelet_config = site.state / "kubelet.json"
    proxy_config = site.state / "kube-proxy.json"
    corefile = site.state / "Corefile"
    return [
        Daemon(
            commands["kube-controller-manager"],
            lambda: (
                answers(api, f"https://{site.address}:{site.controller_manager_port}/healthz")
                # Pods are refused in a namespace without it.
                and answers(api, "/api/v1/namespaces/default/serviceaccounts/default")
            ),
        ),
        Daemon(
            commands["kube-scheduler"],
            lambda: answers(api, f"https://{site.address}:{site.scheduler_port}/readyz"),
        ),
        Daemon(
            [
                str(place.programs["kubelet"]),
                f"--config={kubelet_config}",
                f"--kubeconfig={site.kubeconfig('kubelet')}",
                f"--hostname-override={NODE_NAME}",
                f"--node-ip={site.address}",
                f"--root-dir={site.state / 'kubelet'}",
            ],
            lambda: answers(api, f"http://{site.address}:{_KUBELET_HEALTH_PORT}/healthz"),
            {kubelet_config: json.dumps(_kubelet(place)), place.resolv_conf: f"nameserver {site.address}\n"},
        ),
        Daemon(
            [str(place.programs["kube-proxy"]), f"--config={proxy_config}"],
            lambda: _proxy_serves(site, api),
            {proxy_config: json.dumps(_kube_proxy(site))},
            prepare=network.remove_service_rules,
        ),
        Daemon(
            [str(place.programs["coredns"]), f"-conf={corefile}"],
            lambda: answers(api, f"http://{site.address}:{_DNS_READY_PORT}/ready"),
            {corefile: _corefile(site)},
        ),
    ]


def _etcd_serves(site: Site) -> bool:
    with components.client(site.pki / "etcd-ca.crt", site.pki / "etcd-client") as etcd:
        return answers(etcd, f"https://{site.address}:{site.etcd_port}/health")


def _proxy_serves(site: Site, api: httpx.Client) -> bool:
    """Whether it has written its rules, and they are still there: it would not notice for an hour that they are gone.

    Its health endpoint answers with success before the first rule is written.
    """
    listed = subprocess.run(["nft", "list", "chain", "ip", "kube-proxy", "services"], capture_output=True, check=False)
    try:
        metrics = api.get(f"http://{site.address}:{_PROXY_METRICS_PORT}/metrics").text.splitlines()
    except httpx.TransportError:
        return False
    written = [line.split()[1] for line in metrics if line.startswith(_PROXY_RULES_WRITTEN)]
    return listed.returncode == 0 and any(float(seconds) > 0 for seconds in written)


def _kubelet(place: Place) -> dict[str, Any]:
    site = place.site
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": site.address,
        "healthzBindAddress": site.address,
        "healthzPort": _KUBELET_HEALTH_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(site.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(site.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(site.pki / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{runtime.socket(place.containerd)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup.PODS,
        "oomScoreAdj": 0,  # a negative one needs CAP_SYS_RESOURCE
        "failSwapOn": False,
        "clusterDNS": [site.address],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(place.resolv_conf),
        "podLogsDir": str(place.pod_logs),
        "volumePluginDir": str(site.state / "volume-plugins"),
        "makeIPTablesUtilChains": False,
        # Images come from no registry: one that is collected would have to be built again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "1%",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
    }


def _kube_proxy(site: Site) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(site.kubeconfig("kube-proxy"))},
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": network.POD_SUBNET,
        "healthzBindAddress": f"{site.address}:{_PROXY_HEALTH_PORT}",
        "metricsBindAddress": f"{site.address}:{_PROXY_METRICS_PORT}",
        # The machine's own connection tracking limits stay as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _corefile(site: Site) -> str:
    """Names of the cluster only; for any other the answer is at once that there is none."""
    return f"""\
{CLUSTER_DOMAIN} in-addr.arpa {{
    bind {site.address}
    errors
    ready {site.address}:{_DNS_READY_PORT}
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {site.kubeconfig("dns")}
    }}
}}
. {{
    bind {site.address}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
