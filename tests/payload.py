"""The directory that the payload image holds, put together from this checkout."""

from pathlib import Path

IMAGES = Path(__file__).parents[1] / "images"


def assembled() -> Path:
    """Links to the sources, as images/server/Dockerfile copies them."""
    payload = IMAGES.parent / ".local" / "payload"
    payload.mkdir(parents=True, exist_ok=True)
    (dist_info,) = (IMAGES / "server").glob("*.dist-info")
    for source in (
        *(IMAGES / "server" / name for name in ("__main__.py", "berth_server")),
        dist_info,
        IMAGES / "apis" / "berth_apis",
    ):
        link = payload / source.name
        if link.is_symlink() and link.readlink() == source:
            continue
        link.unlink(missing_ok=True)
        link.symlink_to(source)
    return payload
