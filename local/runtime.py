"""The node's own containerd, beside whatever the machine runs: its configuration, its pause image, its remains."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

from local.errors import LocalError

CNI_PROGRAMS = Path("/usr/lib/cni")
_NAMESPACE = "k8s.io"  # the kubelet's
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def config(root: Path, state: Path, cni_config: Path, pause: Path) -> str:
    """The text of containerd's configuration.

    root: content that outlives the daemon, such as images.  state: sockets, bundles, mounts.  pause: the program that
    holds a pod's namespaces.
    """
    return f"""\
version = 2
root = {json.dumps(str(root))}
state = {json.dumps(str(state))}

[grpc]
  address = {json.dumps(str(socket(state)))}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_reference(pause)}"
  # Machines without CAP_SYS_RESOURCE (most containers and sandboxes) refuse the score that pods ask for.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
    conf_dir = {json.dumps(str(cni_config))}

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = {json.dumps(str(state / "runc"))}
      SystemdCgroup = false
"""


def socket(state: Path) -> Path:
    """Where containerd listens."""
    return state / "containerd.sock"


def pause_reference(pause: Path) -> str:
    """The image of the pause program."""
    return f"localhost/berth-pause:{hashlib.sha256(pause.read_bytes()).hexdigest()[:12]}"


def ctr(state: Path, *args: str, stdin: bytes | None = None) -> str:
    """Standard output of `ctr args…` in the kubelet's namespace of containerd."""
    command = ["ctr", f"--address={socket(state)}", f"--namespace={_NAMESPACE}", *args]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise LocalError(f"`{' '.join(command)}` failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode()


def answers(state: Path) -> bool:
    """Whether containerd serves, its Kubernetes interface included."""
    command = ["ctr", f"--address={socket(state)}", "--timeout=5s", "plugins", "list", "id==cri"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.split()[-1:] == ["ok"]


def ensure_pause_image(state: Path, pause: Path) -> None:
    """Imports the pause image when containerd does not have it."""
    reference = pause_reference(pause)
    if reference not in ctr(state, "images", "list", "--quiet").split():
        ctr(state, "images", "import", "-", stdin=_image(reference, pause.read_bytes()))


def forget_containers(state: Path) -> bool:
    """Removes the records and file systems of containers that no longer run; images stay. Whether there were any."""
    containers = ctr(state, "containers", "list", "--quiet").split()
    if containers:
        ctr(state, "containers", "delete", *containers)
    return bool(containers)


def remove_shim_sockets(state: Path) -> None:
    """Removes the sockets of the containers' shims, which containerd keeps outside its state directory."""
    for address in state.glob("io.containerd.runtime.v2.task/*/*/address"):
        Path(address.read_text().strip().removeprefix("unix://")).unlink(missing_ok=True)


def _image(reference: str, program: bytes) -> bytes:
    """An image of one file, `/pause`, as `docker save` writes it."""
    layer = _tar({"pause": program})
    image_config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
    return _tar(
        {
            "layer.tar": layer,
            "config.json": json.dumps(image_config).encode(),
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
