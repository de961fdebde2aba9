"""Zero: whether an endpoint may sleep, and the next step on the way there and back.

    1 → 0   the Service leads to the gateway too; SETTLED_SECONDS later no replicas are asked for
    0 → n   n replicas are asked for; SETTLED_SECONDS after a pod is in the Service, the gateway goes out of it

The gateway is in the Service for as long as no pod is. In between both are: what goes to the gateway then is sent on
to a pod. SETTLED_SECONDS is what kube-proxy on every node has to learn of a change.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from berth.api.spec import Endpoint

Object = dict[str, Any]

SETTLED_SECONDS = 2.0
# What these say shapes no pod, or only how it is replaced.
_NOT_OF_PODS = {"replicas", "scaling", "service", "rollout", "suspend"}


class Seen(NamedTuple):
    """wanted: replicas decided on.  live: asked for now, 0 without a Deployment.  sleeps: it may have none.

    gateways: whether one is ready.  backed_seconds: for how long a ready gateway has been in the Service; None: none
    is.  serving_seconds: the same of a ready pod.
    """

    wanted: int
    live: int
    sleeps: bool
    gateways: bool
    backed_seconds: float | None
    serving_seconds: float | None


class Step(NamedTuple):
    """replicas: to ask for now.  backed: whether the gateway is to be in the Service.

    again_seconds: until the next step, if time brings it.
    """

    replicas: int
    backed: bool
    again_seconds: float | None = None


def step(seen: Seen) -> Step:
    """What comes next. Without a gateway the last replica stays, if it is one that a request would have to wake."""
    if seen.wanted == 0 and not seen.sleeps:
        return Step(0, False)
    if seen.wanted == 0:
        if seen.live == 0:
            return Step(0, True)
        if not seen.gateways:
            return Step(seen.live, True)
        left = SETTLED_SECONDS - (seen.backed_seconds or 0.0)
        return Step(seen.live, True, left) if left > 0 else Step(0, True)
    backed = seen.backed_seconds is not None
    if seen.serving_seconds is None:
        return Step(seen.wanted, seen.sleeps or backed)
    left = SETTLED_SECONDS - seen.serving_seconds
    return Step(seen.wanted, backed, left) if backed and left > 0 else Step(seen.wanted, False)


def sleeps(ep: Endpoint) -> bool:
    """Whether it may have no replicas while nobody asks for anything."""
    scaling = ep.spec.scaling
    return scaling is not None and scaling.min == 0 and not ep.spec.suspend


def proof(ep: Endpoint) -> str:
    """Which spec a ready pod proves: a hash of what the user says of pods.

    Without defaults, which a new version of Berth may change: it wakes nothing by that.
    """
    said = ep.spec.model_dump(mode="json", by_alias=True, exclude=_NOT_OF_PODS, exclude_unset=True)
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def proven(status: Mapping[str, Any] | None) -> str | None:
    """Which spec status says was proven last."""
    found: str | None = ((status or {}).get("scaling") or {}).get("proven")
    return found


def start_seconds(status: Mapping[str, Any] | None) -> float | None:
    """What status says a start takes."""
    found: float | None = ((status or {}).get("scaling") or {}).get("startSeconds")
    return found


def moved(before: Mapping[str, float | None], now: Mapping[str, float | None]) -> bool:
    """Whether a counter of requests is not where it was, so that one may have ended since.

    What counts for the first time, or anew, has had all that it tells; what cannot be read may have had any.
    """
    return any(count is None or count != before.get(name, 0.0) for name, count in now.items())


def about(seconds: float | None) -> str:
    """`about 40 s`, as a person says it; "" for what was never measured."""
    if seconds is None:
        return ""
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"
