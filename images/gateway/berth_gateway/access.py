"""Who asks, and what they may use: keys of this gateway, from Secrets in its own namespace.

A Secret has `sha256` (a hexadecimal digest per line), `owner`, `namespaces` and `models`. Keys themselves are nowhere.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from berth_apis import credentials
from berth_gateway.claims import Age, Claims
from berth_gateway.table import Endpoint

Object = dict[str, Any]


class Caller(NamedTuple):
    """Who asks. namespaces, models: what they may use; None: all."""

    owner: str
    namespaces: frozenset[str] | None
    models: frozenset[str] | None


ANYBODY = Caller("", None, None)

_MOST_KNOWN = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OWNER = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._@-]{0,62})")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Access:
    """The keys. open: everybody may use everything.  problems: what is wrong with a Secret, by its name."""

    def __init__(self, open: bool = False) -> None:  # noqa: A002
        self.open = open
        self.problems: dict[str, str] = {}
        # By digest: a comparison that takes longer the more of a digest is right tells nothing of a key, as nobody can
        # make keys with a digest that begins as they like and keys are too long to be tried.
        self._callers: Claims[bytes, Caller] = Claims()
        self._of_secret: dict[str, tuple[Age, frozenset[bytes]]] = {}
        # Until a Secret changes, who comes with the same lines again is the same.
        self._known: dict[bytes, Caller] = {}

    def caller(self, headers: Iterable[tuple[bytes, bytes]], lines: bytes = b"") -> Caller | None:
        """Who sends a request with these headers; None: nobody known. lines: those that may have a key, together."""
        if self.open:
            return ANYBODY
        known = self._known.get(lines)
        if known is not None:
            return known
        for key in credentials.presented(headers):
            found = self._callers.holder(credentials.digest(key))
            if found is not None:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                if lines:
                    self._known[lines] = found
                return found
        return None

    def put_secret(self, obj: Object) -> None:
        """A Secret is there, or has changed. What is wrong with it is in `problems`; the rest of it holds."""
        metadata = obj["metadata"]
        name, age = metadata["name"], (metadata.get("creationTimestamp") or "", metadata["name"])
        self.drop_secret(name)
        data = {key: _text(value) for key, value in (obj.get("data") or {}).items()}
        problems: list[str] = []
        caller = _caller(name, data, problems)
        digests = _digests(data.get("sha256", ""), problems) if caller is not None else frozenset()
        if caller is not None:
            for digest in digests:
                self._callers.add(digest, age, caller)
        self._known.clear()
        self._of_secret[name] = (age, digests)
        if problems:
            self.problems[name] = "; ".join(problems)

    def drop_secret(self, name: str) -> None:
        """A Secret is gone; nothing happens if it was not there."""
        self._known.clear()
        self.problems.pop(name, None)
        age, digests = self._of_secret.pop(name, ((), frozenset()))
        for digest in digests:
            self._callers.remove(digest, age)


def allows(caller: Caller, endpoint: Endpoint) -> bool:
    """Whether the caller may use this endpoint, under whatever name it was asked for.

    `models` are served names or namespace/name, and mean the endpoint that has them. A name that was asked for is none
    of them: with a vendor in front it may be what another team's endpoint was called.
    """
    if caller.namespaces is not None and endpoint.namespace not in caller.namespaces:
        return False
    models = caller.models
    return models is None or endpoint.key in models or not models.isdisjoint(endpoint.holds)


def _text(value: str) -> str:
    return base64.b64decode(value).decode("utf-8", "replace")


def _caller(name: str, data: dict[str, str], problems: list[str]) -> Caller | None:
    owner = data.get("owner", "").strip() or name
    if not _OWNER.fullmatch(owner):
        problems.append("owner must be at most 63 letters, digits and . _ @ -: none of its keys is accepted")
        return None
    namespaces, wrong = _list(data.get("namespaces", ""))
    wrong = wrong or (namespaces is not None and not all(map(_NAMESPACE.fullmatch, namespaces)))
    if wrong or namespaces == frozenset():
        problems.append(
            "namespaces must list the namespaces that its keys may use, or be * alone for all: none of its keys is "
            "accepted"
        )
        return None
    models, wrong = _list(data.get("models", "*"))
    if wrong:
        problems.append("models must list names, or be * alone for all: none of its keys is accepted")
        return None
    return Caller(owner, namespaces, models)


def _list(text: str) -> tuple[frozenset[str] | None, bool]:
    """Words between commas and blanks, None for all; and whether it is neither."""
    words = frozenset(text.replace(",", " ").split())
    if words == {"*"}:
        return None, False
    return words, "*" in words


def _digests(text: str, problems: list[str]) -> frozenset[bytes]:
    found = set()
    lines = [(number, line.strip().lower()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    for number, line in lines:
        if _DIGEST.fullmatch(line):
            found.add(bytes.fromhex(line))
        else:
            problems.append(f"line {number} of sha256 is no SHA-256 digest of 64 hexadecimal digits")
    if not lines:
        problems.append("sha256 has no digest: nobody can use it")
    return frozenset(found)
