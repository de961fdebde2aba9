"""The components of a Kubernetes control plane: their files and their commands, for a test and for the node alike."""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from local import pki

SERVICE_SUBNET = "10.253.16.0/20"
CLUSTER_DOMAIN = "cluster.local"
_KUBERNETES_SERVICE_ADDRESS = "10.253.16.1"  # the first of SERVICE_SUBNET

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True)
class Site:
    """Where a control plane keeps its files and listens.

    programs: from `tools.ensure`.  advertise: address under which pods reach the API server; None where there are none.
    controller_manager_port, scheduler_port: where these tell their health; 0 for nowhere.
    """

    state: Path
    programs: Mapping[str, Path]
    address: str
    apiserver_port: int
    etcd_port: int
    etcd_peer_port: int
    advertise: str | None = None
    controller_manager_port: int = 0
    scheduler_port: int = 0

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def audit_log(self) -> Path:
        return self.state / "audit.jsonl"

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.apiserver_port}"

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig of admin, controller-manager, scheduler or a user that the caller added."""
        return self.state / f"{user}.kubeconfig"


def write_files(site: Site) -> pki.Authority:
    """Writes certificates, kubeconfig files and the audit policy; returns the authority for further clients."""
    cluster = pki.Authority(site.pki / "ca")
    etcd = pki.Authority(site.pki / "etcd-ca")
    front_proxy = pki.Authority(site.pki / "front-proxy-ca")
    etcd.issue(site.pki / "etcd", "etcd", hosts=[site.address])
    etcd.issue(site.pki / "etcd-client", "kube-apiserver")
    front_proxy.issue(site.pki / "front-proxy-client", "front-proxy-client")
    names = ["kubernetes" + suffix for suffix in ("", ".default", ".default.svc", f".default.svc.{CLUSTER_DOMAIN}")]
    cluster.issue(
        site.pki / "apiserver",
        "kube-apiserver",
        hosts=[site.address, "127.0.0.1", _KUBERNETES_SERVICE_ADDRESS, "localhost", *names],
    )
    cluster.issue(site.pki / "kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"])
    pki.write_signing_key(site.pki / "service-accounts.key")
    for user, name, groups in (
        ("admin", "berth-local-admin", ["system:masters"]),
        ("controller-manager", "system:kube-controller-manager", []),
        ("scheduler", "system:kube-scheduler", []),
    ):
        write_kubeconfig(site, cluster, user, name, groups)
    (site.state / "audit-policy.json").write_text(json.dumps(_AUDIT_POLICY))
    return cluster


def write_kubeconfig(site: Site, authority: pki.Authority, user: str, name: str, groups: list[str]) -> None:
    """A kubeconfig with a client certificate, in `pki` too. user: name of the file.  name, groups: who that is."""
    pair = authority.issue(site.pki / user, name, groups, hosts=[site.address])
    pki.write_private(site.kubeconfig(user), pki.kubeconfig(site.url, authority.pair.certificate, pair))


def commands(site: Site, share_ports: bool = False) -> dict[str, list[str]]:
    """The command of each component, in the order in which they start.

    share_ports: listen with SO_REUSEPORT, so that the caller can keep a port reserved while nobody listens on it.
    """
    keys = site.pki
    etcd_url = f"https://{site.address}:{site.etcd_port}"
    peer_url = f"https://{site.address}:{site.etcd_peer_port}"
    etcd = {
        "name": "local",
        "data-dir": site.state / "etcd",
        "listen-client-urls": etcd_url,
        "advertise-client-urls": etcd_url,
        "listen-peer-urls": peer_url,
        "initial-advertise-peer-urls": peer_url,
        "initial-cluster": f"local={peer_url}",
        "cert-file": keys / "etcd.crt",
        "key-file": keys / "etcd.key",
        "trusted-ca-file": keys / "etcd-ca.crt",
        "client-cert-auth": "true",
        "peer-cert-file": keys / "etcd.crt",
        "peer-key-file": keys / "etcd.key",
        "peer-trusted-ca-file": keys / "etcd-ca.crt",
        "peer-client-cert-auth": "true",
        "unsafe-no-fsync": "true",  # the state is thrown away with the cluster
        "socket-reuse-port": str(share_ports).lower(),
        "log-level": "warn",
    }
    apiserver = {
        "bind-address": site.address,
        "secure-port": site.apiserver_port,
        "permit-port-sharing": str(share_ports).lower(),
        "etcd-servers": etcd_url,
        "etcd-cafile": keys / "etcd-ca.crt",
        "etcd-certfile": keys / "etcd-client.crt",
        "etcd-keyfile": keys / "etcd-client.key",
        "tls-cert-file": keys / "apiserver.crt",
        "tls-private-key-file": keys / "apiserver.key",
        "client-ca-file": keys / "ca.crt",
        "kubelet-certificate-authority": keys / "ca.crt",
        "kubelet-client-certificate": keys / "kubelet-client.crt",
        "kubelet-client-key": keys / "kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP",
        "requestheader-client-ca-file": keys / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": keys / "front-proxy-client.crt",
        "proxy-client-key-file": keys / "front-proxy-client.key",
        "service-account-issuer": f"https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        "service-account-key-file": keys / "service-accounts.key",
        "service-account-signing-key-file": keys / "service-accounts.key",
        "service-cluster-ip-range": SERVICE_SUBNET,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "audit-policy-file": site.state / "audit-policy.json",
        "audit-log-path": site.audit_log,
        "audit-log-maxsize": 512,  # MB
        "audit-log-maxbackup": 1,
        # Without pods nobody needs the `kubernetes` Service, and a loopback address may not be its endpoint.
        "advertise-address": site.advertise or "192.0.2.1",
        "endpoint-reconciler-type": "lease" if site.advertise else "none",
    }
    controller_manager = {
        "kubeconfig": site.kubeconfig("controller-manager"),
        "bind-address": site.address,
        "secure-port": site.controller_manager_port,
        "tls-cert-file": keys / "controller-manager.crt",
        "tls-private-key-file": keys / "controller-manager.key",
        "leader-elect": "false",
        # With the default of 20 a second, making the controllers' own service accounts takes most of the start.
        "kube-api-qps": 200,
        "kube-api-burst": 400,
        "pvclaimbinder-sync-period": "1s",  # a claim may wait this long for its volume
        "use-service-account-credentials": "true",
        "root-ca-file": keys / "ca.crt",
        "flex-volume-plugin-dir": site.state / "volume-plugins",
        "service-account-private-key-file": keys / "service-accounts.key",
    }
    scheduler = {
        "kubeconfig": site.kubeconfig("scheduler"),
        "bind-address": site.address,
        "secure-port": site.scheduler_port,
        "tls-cert-file": keys / "scheduler.crt",
        "tls-private-key-file": keys / "scheduler.key",
        "leader-elect": "false",
    }
    return {
        name: [str(site.programs[name]), *(f"--{flag}={value}" for flag, value in flags.items())]
        for name, flags in (
            ("etcd", etcd),
            ("kube-apiserver", apiserver),
            ("kube-controller-manager", controller_manager),
            ("kube-scheduler", scheduler),
        )
    }


def client(authority: Path, pair: Path) -> httpx.Client:
    """A client with a certificate. authority: PEM file.  pair: its `.crt` and `.key` without the suffix."""
    context = ssl.create_default_context(cafile=str(authority))
    context.load_cert_chain(pair.with_name(f"{pair.name}.crt"), pair.with_name(f"{pair.name}.key"))
    return httpx.Client(verify=context, timeout=10, trust_env=False)


def api_client(site: Site) -> httpx.Client:
    """A client of the API server with all rights; paths are relative to its URL."""
    api = client(site.pki / "ca.crt", site.pki / "admin")
    api.base_url = site.url
    return api


def answers(http: httpx.Client, url: str) -> bool:
    """Whether a GET is answered with success."""
    try:
        return http.get(url).is_success
    except httpx.TransportError:
        return False
