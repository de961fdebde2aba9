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
        dockerfile="images/server/Dockerfile",
        context="images",
        sources=("images/server", "images/apis"),
        expect="about 5s",
    ),
    "gateway": _Image(
        dockerfile="images/gateway/Dockerfile",
        context="images",
        sources=("images/gateway", "images/apis"),
        expect="about 30s; 5s when only its code changed",
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

    names: among base, operator, server, gateway, vllm-cpu.
    """
    references = {name: reference(name) for name in names}
    if set(references.values()) <= _imported():
        return references
    with builder() as store:
        for name in references:
            references[name] = build(store, name)
            if references[name] not in _imported():
                _import(store, name, references[name])
                _prune(store, name)
    return references


def reference(name: str) -> str:
    """The image's name and tag; the tag changes with anything that goes into the image."""
    if name == "base":
        return f"localhost/berth-base:{digest({}, _SUITE, *_PACKAGES)}"
    if name not in _IMAGES:
        raise LocalError(f"no such image: {name}; there are base, {', '.join(_IMAGES)}")
    return _reference(name, dict(_contents(_IMAGES[name])))


def _reference(name: str, contents: dict[str, bytes]) -> str:
    return f"localhost/berth-{name}:{digest(contents, reference('base'))}"


def build(store: Builder, name: str) -> str:
    """Reference of the image, which is in the builder's store afterwards."""
    if name == "base":
        ref = reference(name)
        if ref not in store.references():
            with step(f"building a Debian {_SUITE} base image", "about 50s"):
                store.debian(ref, _SUITE, _PACKAGES)
        return ref
    base = build(store, "base")
    image = _IMAGES[name]
    # Read once, so that the tag tells the truth about the contents also while somebody edits them.
    contents = dict(_contents(image))
    ref = _reference(name, contents)
    if ref not in store.references():
        with step(f"building the {name} image", image.expect), tempfile.TemporaryDirectory() as directory:
            _stage(contents, Path(directory))
            store.build(ref, Path(directory) / image.dockerfile, Path(directory) / image.context, {"BASE": base})
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


def _stage(contents: dict[str, bytes], directory: Path) -> None:
    """Writes the files of a build, with times and permissions that do not depend on the checkout."""
    for name, data in contents.items():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (0, 0))


def _imported() -> set[str]:
    """The images in containerd whose import went to its end."""
    return set(_ctr("images", "list", "--quiet", f'labels."{_IMPORTED}"==true').split())


def _import(store: Builder, name: str, ref: str) -> None:
    address = f"--address={runtime.socket(node.CONTAINERD)}"
    with step(f"importing the {name} image into the node", "about 2 min" if name == "vllm-cpu" else ""):
        store.save(ref, ["ctr", address, "--namespace=k8s.io", "images", "import", "-"])
    _ctr("images", "label", ref, f"{_IMPORTED}=true")


def _prune(store: Builder, name: str) -> None:
    """Drops all but the newest images of that name, in the builder's store and in containerd."""
    if name == "base":
        return
    of_name = [ref for ref in store.references() if ref.startswith(f"localhost/berth-{name}:")]
    kept, dropped = of_name[: _IMAGES[name].keep], of_name[_IMAGES[name].keep :]
    store.remove(dropped)
    # containerd lists an image under its tag and, for the kubelet, under the digest of its configuration.
    digests = {row[0]: row[2] for row in map(str.split, _ctr("images", "list").splitlines()[1:])}
    unused = {digests.get(ref) for ref in dropped} - {digests.get(ref) for ref in kept}
    names = [listed for listed, digest in digests.items() if listed in dropped or digest in unused]
    if names:
        _ctr("images", "remove", *names)


def _ctr(*arguments: str) -> str:
    return runtime.ctr(node.CONTAINERD, *arguments)
