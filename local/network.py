"""The node's network: one bridge, one address for everything, a table that lets pods out; and its complete removal.

The bridge's address is where the API server, the kubelet and DNS listen, the address of the node, and the gateway of
the pods: nothing listens on the machine's other interfaces.
"""

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

from local.components import SERVICE_SUBNET
from local.errors import LocalError

BRIDGE = "berth0"
ADDRESS = "10.253.0.1"
POD_SUBNET = "10.253.0.0/20"
_NETWORK = "berth-local"
# A bridge without a fixed address takes a port's, and answers for the old one no more.
_BRIDGE_MAC = "0a:58:0a:fd:00:01"
_CNI_RESULTS = Path("/var/lib/cni/results")

# What we need, and what the kubelet and the CNI plugins change at their start: all is put back by `remove`.
_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    # A reply between two pods on the bridge must pass the translation that its request went through.
    "net.bridge.bridge-nf-call-iptables": "1",
    "vm.overcommit_memory": None,
    "kernel.panic": None,
    "kernel.panic_on_oops": None,
    "kernel.keys.root_maxkeys": None,
    "kernel.keys.root_maxbytes": None,
}

_RULES = f"""
table ip {_NETWORK}
delete table ip {_NETWORK}
table ip {_NETWORK} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        ip saddr {POD_SUBNET} oifname != "{BRIDGE}" masquerade
    }}
}}
"""


def create(saved_sysctls: Path, cni_config: Path, cni_state: Path) -> None:
    """Makes everything that is not there yet.

    saved_sysctls: file for the kernel settings as they were before.  cni_config: directory that containerd reads.
    cni_state: directory for the addresses in use.
    """
    _change_sysctls(saved_sysctls)
    if not _links("dev", BRIDGE):
        _run("ip", "link", "add", BRIDGE, "address", _BRIDGE_MAC, "type", "bridge")
    prefix = POD_SUBNET.split("/")[1]
    _run("ip", "address", "replace", f"{ADDRESS}/{prefix}", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    # Addresses are translated after routing: without a route a machine with no default route cannot reach a Service.
    # A route through the bridge would make the kernel tell pods (ICMP redirect) that a Service without endpoints is on
    # their link, which they then believe for minutes.
    _run("ip", "route", "replace", SERVICE_SUBNET, "dev", "lo", "src", ADDRESS)
    _run("nft", "-f", "-", stdin=_RULES)
    cni_config.mkdir(parents=True, exist_ok=True)
    (cni_config / "10-bridge.conflist").write_text(json.dumps(_cni(cni_state)))


def exists() -> bool:
    """Whether the bridge is there. Pods do not survive its removal."""
    return bool(_links("dev", BRIDGE))


def remove(saved_sysctls: Path) -> None:
    """Removes the node's interfaces, routes, tables, tracked connections and CNI files; puts kernel settings back."""
    _try("ip", "route", "delete", SERVICE_SUBNET, "dev", "lo")
    for link in [*_links("master", BRIDGE), *_links("dev", BRIDGE)]:
        _try("ip", "link", "delete", link["ifname"])  # a veth goes together with its other end
    _try("nft", "delete", "table", "ip", _NETWORK)
    remove_service_rules()
    for subnet in (POD_SUBNET, SERVICE_SUBNET):
        for side in ("--orig-src", "--orig-dst", "--reply-src"):
            _try("conntrack", "-D", side, subnet)
    for result in _CNI_RESULTS.glob(f"{_NETWORK}-*"):
        result.unlink()
    if saved_sysctls.exists():
        for name, value in json.loads(saved_sysctls.read_text()).items():
            _sysctl(name).write_text(value)
        saved_sysctls.unlink()


def remove_service_rules() -> None:
    """Removes what kube-proxy wrote.

    One that starts takes a chain that exists for a chain that is filled, and its predecessor empties those of a pod
    that is not ready a second before it removes them: killed in between, it would leave a Service without an answer.
    """
    for family in ("ip", "ip6"):
        _try("nft", "delete", "table", family, "kube-proxy")


def _cni(state: Path) -> dict[str, Any]:
    return {
        "cniVersion": "1.0.0",
        "name": _NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": True,
                "hairpinMode": True,  # a pod may call itself through its Service
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(state),
                    "ranges": [[{"subnet": POD_SUBNET, "gateway": ADDRESS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }


def _change_sysctls(saved: Path) -> None:
    if not _sysctl("net.bridge.bridge-nf-call-iptables").exists():
        _run("modprobe", "br_netfilter")
    if not saved.exists():
        saved.parent.mkdir(parents=True, exist_ok=True)
        unfinished = saved.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({name: _sysctl(name).read_text() for name in _SYSCTLS}))
        unfinished.rename(saved)
    for name, value in _SYSCTLS.items():
        if value is not None:
            _sysctl(name).write_text(value)


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")


def _links(*selector: str) -> list[dict[str, Any]]:
    """Interfaces as `ip -json link` shows them; none when the selector matches none."""
    shown = subprocess.run(["ip", "-json", "link", "show", *selector], capture_output=True, text=True, check=False)
    with contextlib.suppress(json.JSONDecodeError):
        return [link for link in json.loads(shown.stdout) if link]
    return []


def _run(*command: str, stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


def _try(*command: str) -> None:
    """For removals: that there is nothing to remove is fine."""
    subprocess.run(command, capture_output=True, check=False)
