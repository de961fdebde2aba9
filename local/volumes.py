"""Directories of this machine as PersistentVolumes of the local cluster, so that `pvc://` needs no provisioner."""

import shutil
from pathlib import Path
from typing import Any

HOST_DIRECTORY = Path("/var/lib/berth-local/volumes")


def publish(namespace: str, claim: str, contents: dict[str, Path]) -> list[dict[str, Any]]:
    """Copy each directory of `contents` (name in the claim → source) to the node; returns the PV and the claim.

    What is there already with the same files is left alone; a copy appears whole or not at all.
    """
    root = HOST_DIRECTORY / namespace / claim
    root.mkdir(parents=True, exist_ok=True)
    for name, source in contents.items():
        if not _same(source, root / name):
            _copy(source, root / name)
    return [_volume(namespace, claim, root), _claim(namespace, claim)]


def _same(source: Path, target: Path) -> bool:
    def listing(directory: Path) -> dict[str, tuple[int, int]]:
        found = (path for path in directory.rglob("*") if path.is_file())
        return {str(path.relative_to(directory)): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}

    return target.is_dir() and listing(source) == listing(target)


def _copy(source: Path, target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, unfinished)
    for path in [unfinished, *unfinished.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    unfinished.rename(target)


def _volume(namespace: str, claim: str, root: Path) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{claim}"},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": namespace, "name": claim},
            "hostPath": {"path": str(root), "type": "Directory"},
        },
    }


def _claim(namespace: str, claim: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": namespace, "name": claim},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "10Gi"}},
            "storageClassName": "",
            "volumeName": f"{namespace}-{claim}",
        },
    }
