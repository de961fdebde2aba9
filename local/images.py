"""The container images of the local cluster: built when what goes into them changed, and imported into the node.

The same Dockerfiles serve users with a registry; here only their base differs, one build argument, because no registry
is needed. An image's tag is the digest of everything that goes into it.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from local import node, runtime
from local.builder import Builder, builder
from local.errors import LocalError
from local.progress import step

_ROOT = Path(__file__).parent.parent
_SUITE = "bookworm"
# python3-dev: torch.compile builds Python extensions.
_PACKAGES = ("ca-certificates", "libnuma1", "python3", "python3-dev", "python3-venv")
# Set once an import went to its end; before that containerd may list an image that is not all there.
_IMPORTED = "berth.dev/imported"


@dataclass(frozen=True)
class _Image:
    """An image with a Dockerfile.

    context: the folder that the Dockerfile's COPY lines start from.  sources: what they read, and the Dockerfile.
    keep: how many states of the sources stay on the node, the latest included, for pods that were started from them.
    """

    dockerfile: str
    context: str
    sources: tuple[str, ...]
    expect: str
    keep: int = 5


_IMAGES = {
    "operator": _Image(
        dockerfile="images/operator/Dockerfile",
        context=".",
        sources=("images/operator/Dockerfile", "images/operator/requirements.lock", "operator/berth"),
        expect="about 30s; 5s when only its code changed",
    ),
    "server": _Image(
        dockerfile="images/server/Dockerfile", context="images", sources=("images/server",), expect="about 5s"
    ),
    "vllm-cpu": _Image(
        dockerfile="images/vllm-cpu/Dockerfile",
        context=".",
        sources=tuple(
            f"images/vllm-cpu/{name}" for name in ("Dockerfile", "requirements.lock", "name_distribution.py")
        ),
        expect="about 3 min",
        keep=1,
    ),
}


def ensure(names: Iterable[str]) -> dict[str, str]:
    """References of the named images, all of them in the node's containerd; the node must be up.

    names: among base, operator, server, vllm-cpu.
    """
    references = {name: reference(name) for name in names}
    missing = {name: ref for name, ref in references.items() if ref not in _imported()}
    if missing:
        with builder() as store:
            for name, ref in missing.items():
                if ref in _imported():  # by the process that had the builder before
                    continue
                build(store, name)
                with step(f"importing the {name} image into the node", "about 2 min" if name == "vllm-cpu" else ""):
                    store.save(
                        ref,
                        [
                            "ctr",
                            f"--address={runtime.socket(node.CONTAINERD)}",
                            "--namespace=k8s.io",
                            "images",
                            "import",
                            "-",
                        ],
                    )
                    runtime.ctr(node.CONTAINERD, "images", "label", ref, f"{_IMPORTED}=true")
                _prune(store, name)
    return references


def reference(name: str) -> str:
    """The image's name and tag; the tag changes with anything that goes into the image."""
    if name == "base":
        return f"localhost/berth-base:{digest({}, _SUITE, *_PACKAGES)}"
    if name not in _IMAGES:
        raise LocalError(f"no such image: {name}; there are base, {', '.join(_IMAGES)}")
    return f"localhost/berth-{name}:{digest(dict(_contents(_IMAGES[name])), reference('base'))}"


def build(store: Builder, name: str) -> str:
    """Reference of the image, which is in the builder's store afterwards."""
    ref = reference(name)
    if ref in store.references():
        return ref
    if name == "base":
        with step(f"building a Debian {_SUITE} base image", "about 50s"):
            store.debian(ref, _SUITE, _PACKAGES)
        return ref
    base = build(store, "base")
    image = _IMAGES[name]
    with step(f"building the {name} image", image.expect), tempfile.TemporaryDirectory() as directory:
        _stage(image, Path(directory))
        store.build(ref, _ROOT / image.dockerfile, Path(directory) / image.context, {"BASE": base})
    return ref


def digest(files: dict[str, bytes], *inputs: str) -> str:
    """Twelve hexadecimal digits that change with any file's name or contents and with any input.

    files: path → contents.
    """
    total = hashlib.sha256()
    for part in (*inputs, *(f"{path}={hashlib.sha256(data).hexdigest()}" for path, data in sorted(files.items()))):
        total.update(f"{len(part)}:{part}".encode())
    return total.hexdigest()[:12]


def _contents(image: _Image) -> Iterator[tuple[str, bytes]]:
    for source in image.sources:
        found = _ROOT / source
        for path in [found] if found.is_file() else found.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(_ROOT)), path.read_bytes()


def _stage(image: _Image, directory: Path) -> None:
    """Copies what the image is made of, with times and permissions that do not depend on the checkout."""
    for name, data in _contents(image):
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (0, 0))


def _imported() -> set[str]:
    """The images in containerd whose import went to its end."""
    return set(runtime.ctr(node.CONTAINERD, "images", "list", "--quiet", f'labels."{_IMPORTED}"==true').split())


def _prune(store: Builder, name: str) -> None:
    """Drops all but the newest images of that name, in the builder's store and in containerd."""
    if name == "base":
        return
    repository = reference(name).rpartition(":")[0]
    of_name = [ref for ref in store.references() if ref.rpartition(":")[0] == repository]
    dropped = of_name[_IMAGES[name].keep :]
    store.remove(dropped)
    if listed := [ref for ref in dropped if ref in _imported()]:
        runtime.ctr(node.CONTAINERD, "images", "remove", *listed)
