"""Keys in a request: where clients put them, and how they are compared. Kept and compared as SHA-256 digests."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from collections.abc import Iterable

# No client sends more, and each costs a comparison with every key.
_MOST_PRESENTED = 8


def digest(key: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key).digest()


def presented(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """What may be a key in a request: x-api-key, the user name of Basic, the token of Bearer. Never raises."""
    found = []
    for name, value in headers:
        if name.lower() == b"x-api-key":
            found.append(value.strip())
        elif name.lower() == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                found.append(rest.strip())
            elif scheme.lower() == b"basic":
                with contextlib.suppress(ValueError):
                    pair = base64.b64decode(rest.strip(), validate=True)
                    # A user name ends at the first colon; a key that has one works with an empty password.
                    found += [pair.partition(b":")[0], pair.removesuffix(b":")]
    return [key for key in found[:_MOST_PRESENTED] if key]


def matches(offered: Iterable[bytes], digests: Iterable[bytes]) -> bool:
    """Whether one of `offered` is a key. Compares each with every key: the time tells nothing of them."""
    found = False
    for each in [digest(key) for key in offered]:
        for known in digests:
            found |= hmac.compare_digest(each, known)
    return found


def presents(headers: Iterable[tuple[bytes, bytes]], key: str) -> bool:
    """Whether a request comes with this key."""
    return bool(key) and matches(presented(headers), {digest(key.encode())})
