"""A Secret on disk as the kubelet lays it out: https://pkg.go.dev/k8s.io/kubernetes/pkg/volume/util#AtomicWriter.

    one → ..data/one        ..data → ..version-1        ..version-1/one

A change is a new directory of a version, to which the link `..data` is moved at once; the old one is removed then.
"""

from pathlib import Path


def write_secret(mounted: Path, **entries: str) -> Path:
    """Makes `entries` the content of the volume at `mounted`, which it returns."""
    mounted.mkdir(exist_ok=True)
    link, old = mounted / "..data", (mounted / "..data").resolve()
    version = mounted / f"..version-{int(old.name.rpartition('-')[2]) + 1 if link.is_symlink() else 1}"
    version.mkdir()
    for name, text in entries.items():
        (version / name).write_text(text)
    moved = mounted / "..data_tmp"
    moved.symlink_to(version.name)
    moved.rename(link)
    for name in entries:
        if not (mounted / name).is_symlink():
            (mounted / name).symlink_to(Path("..data") / name)
    if old.name != "..data":
        for file in old.iterdir():
            file.unlink()
            if file.name not in entries:
                (mounted / file.name).unlink()
        old.rmdir()
    return mounted
