"""What went wrong with a download: an exception as plain data in the child, a reason for people in the launcher."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from berth_server.protocol import Failure

# Of every HTTP library that huggingface_hub has used, and its own.
_TRANSPORT_ERRORS = {
    "TransportError",
    "TimeoutException",
    "Timeout",
    "ConnectionError",
    "FileMetadataError",
    "XetDownloadError",
}


class ChecksumMismatch(Exception):
    """A downloaded file is not what the hub says it is."""


class CertificatesMissing(Exception):
    """A file of CA certificates that the environment names cannot be read."""


class LeaseLost(Exception):
    """Another pod took this one for dead and downloads now."""

    def __init__(self) -> None:
        super().__init__(
            "this pod stood still for so long that another one took the download over; the next start waits"
        )


def described(error: BaseException, token: str | None) -> dict[str, Any]:
    """An exception as plain data: class names along its causes, HTTP status, errno and message, without the token."""
    names: list[str] = []
    status: int | None = None
    number: int | None = None
    hub_message: str | None = None
    link: BaseException | None = error
    while link is not None and len(names) < 100:
        names += [base.__name__ for base in type(link).__mro__]
        response = getattr(link, "response", None)
        if status is None and response is not None:
            status = response.status_code
            hub_message = response.headers.get("X-Error-Message")
        if number is None and isinstance(link, OSError):
            number = link.errno
        link = link.__cause__ or link.__context__
    message = " ".join(str(error).split())[:1000]
    if token:
        message = message.replace(token, "…")
    return {
        "names": names,
        "status": status,
        "errno": number,
        "message": message,
        "hub": hub_message,
        "token": bool(token),
    }


def unreachable(error: Mapping[str, Any]) -> bool:
    """Whether the hub, or the way to it, is at fault for now: worth another try. `error` as for `failure`."""
    names, status = set(error["names"]), error["status"]
    if "OfflineModeIsEnabled" in names or _untrusted(error) or _full(error):
        return False
    if status is not None:
        return bool(status == 429 or status >= 500)
    return bool(names & _TRANSPORT_ERRORS)


def _full(error: Mapping[str, Any]) -> bool:
    return error["errno"] in (errno.ENOSPC, errno.EDQUOT)


def _denied(error: Mapping[str, Any]) -> bool:
    """Whether a file may not be written. A firewall and an SSL error have the same numbers."""
    denied = error["errno"] in (errno.EACCES, errno.EPERM, errno.EROFS) and error["status"] is None
    return denied and not _TRANSPORT_ERRORS.intersection(error["names"])


def _untrusted(error: Mapping[str, Any]) -> bool:
    return "CertificatesMissing" in error["names"] or "certificate_verify_failed" in error["message"].lower()


def failure(error: Mapping[str, Any], source: str, revision: str, secret: str) -> Failure:
    """The reason for a failed download. `error` is what `described` made of it; secret: name of the token's Secret."""
    names, status, message, had_token = set(error["names"]), error["status"], error["message"], error["token"]
    repo = source.removeprefix("hf://")
    name_one = "Name a Secret with a Hugging Face token in spec.model.secretRef."
    token = f"the token of Secret {secret}" if secret else "the token"
    if _full(error):
        return Failure("DiskFull", f"No room for {source}: {message}.", "Give spec.storage.weights a larger volume.")
    if _denied(error):
        return Failure("VolumeNotWritable", f"The weights volume cannot be written by uid {error['uid']}: {message}.")
    if "RevisionNotFoundError" in names:
        return Failure(
            "RevisionNotFound",
            f"{source} has no revision {revision}.",
            "Set spec.model.revision to a branch, tag or commit of that repository.",
        )
    if "GatedRepoError" in names:
        if had_token:
            return Failure(
                "ModelGated",
                f"{source} is gated and {token} has no access to it.",
                f"Ask for access on the page of {repo} with the account of the token, or use another token.",
            )
        return Failure("TokenMissing", f"{source} is gated: it can only be downloaded with a token.", name_one)
    if status == 401 and had_token:
        said = f" The hub says: {error['hub']}." if error["hub"] else ""
        return Failure("TokenRejected", f"The hub does not accept {token}.{said}", "Put a valid token into the Secret.")
    if status == 403:
        reason = "TokenRejected" if had_token else "TokenMissing"
        return Failure(reason, f"The hub refuses {source}: {message}.", name_one)
    if "RepositoryNotFoundError" in names or status in (401, 404):
        if had_token:
            return Failure(
                "ModelNotFound",
                f"The hub has no model {repo} that {token} can see.",
                "Correct spec.model.source, or use a token that has access.",
            )
        return Failure(
            "ModelNotFound",
            f"The hub has no public model {repo}: it does not exist, or it is private.",
            f"Correct spec.model.source. If it is private: {name_one}",
        )
    if "ChecksumMismatch" in names:
        return Failure("WeightsCorrupt", f"Downloaded from {source}: {message}.", "The next start fetches it again.")
    if "OfflineModeIsEnabled" in names:
        suggestion = "Remove HF_HUB_OFFLINE from spec.server.env."
        return Failure("HubUnreachable", "HF_HUB_OFFLINE forbids downloads.", suggestion)
    if _untrusted(error):
        suggestion = (
            "For a hub or a proxy with a private CA mount its certificate into container server with spec.podTemplate, "
            "and name the file in the variable SSL_CERT_FILE."
        )
        return Failure("HubUnreachable", f"The hub at {error['endpoint']} is not trusted: {message}.", suggestion)
    if "HFValidationError" in names:
        return Failure("ModelNotFound", f"{repo} is no repository name: {message}.", "Correct spec.model.source.")
    if "ImportError" in names:
        return Failure("VllmMissing", f"The image lacks what every vLLM image has: {message}.")
    if unreachable(error):
        answered = f" answered {status}" if status is not None else " cannot be reached"
        return Failure("HubUnreachable", f"The hub at {error['endpoint']}{answered}: {message}.")
    return Failure("DownloadFailed", f"The download of {source} failed: {message}.")
