"""Which pod answers a request: the one with the fewest in flight, or the one that has seen such a prompt before.

Affinity is consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing with Bounded
Loads", 2017): a request goes to the first pod in the order of its key that has no more than BOUND times the mean. The
order is by rendezvous hashing (Thaler, Ravishankar 1998), which needs no ring to be kept. Times: monotonic seconds.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection
from typing import Any

import orjson

from berth_gateway.paths import Named
from berth_gateway.table import Endpoint, Pod

BOUND = 1.25
"""Of the mean of requests in flight a pod may have so much."""
PREFIX_CHARACTERS = 256
FAILURES = 3
"""So many in a row take a pod out."""
EJECTED_SECONDS = 10.0
MOST_EJECTED_SECONDS = 60.0

_PRIME = 2**61 - 1


def choose(endpoint: Endpoint, affinity: bytes | None, now: float, but: Collection[Pod] = ()) -> Pod | None:
    """The pod for a request, none of `but`; None when there is none.

    Of those that were taken out one is used only when there is no other.
    """
    ready = endpoint.ready
    if affinity is not None and len(ready) > 1:
        return _by_affinity(endpoint, affinity, now, but)
    size, best, place, least, second = len(ready), None, 0, 0, None
    turn = endpoint.turn
    for number in range(size):
        at = turn + number
        if at >= size:
            at %= size
        pod = ready[at]
        if but and pod in but:
            continue
        if pod.ejected_until > now:
            second = second or pod
        elif best is None or pod.in_flight < least:
            best, place, least = pod, at, pod.in_flight
    endpoint.turn = place + 1
    return best or second


def _by_affinity(endpoint: Endpoint, affinity: bytes, now: float, but: Collection[Pod]) -> Pod | None:
    pods = endpoint.ready
    if but:
        pods = [pod for pod in pods if pod not in but]
    for pod in pods:
        if pod.ejected_until > now:
            pods = [pod for pod in pods if pod.ejected_until <= now] or pods
            break
    if not pods:
        return None
    key = zlib.crc32(affinity)
    requests = 1
    for pod in pods:
        requests += pod.in_flight
    most = math.ceil(BOUND * requests / len(pods))
    best, highest = None, -1
    for pod in pods:
        if pod.in_flight < most and (score := key * pod.seed % _PRIME) > highest:
            best, highest = pod, score
    return best


def affinity_of(session: bytes, named: Named | None) -> bytes | None:
    """What requests have in common that had better go to one pod: a session, a user, or how the prompt begins."""
    if session:
        return b"session " + session
    content: dict[str, Any] = _content(named)
    for field in ("user", "prompt_cache_key"):
        found = content.get(field)
        if isinstance(found, str) and found:
            return f"{field} {found}".encode()
    for field in ("messages", "prompt", "prompts", "input"):
        if found := content.get(field):
            return b"prompt " + _beginning(found).encode()
    return None


def _content(named: Named | None) -> dict[str, Any]:
    if named is None:
        return {}
    if named.content is not None or not named.body:
        return named.content or {}
    try:
        found = orjson.loads(named.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _beginning(value: Any) -> str:
    """The first PREFIX_CHARACTERS of what a prompt says, whatever it is made of."""
    if type(value) is str:
        return value[:PREFIX_CHARACTERS]
    text, waiting = "", [value]
    while waiting and len(text) < PREFIX_CHARACTERS:
        value = waiting.pop()
        if isinstance(value, str):
            text += value[:PREFIX_CHARACTERS] + "\n"
        elif isinstance(value, dict):
            waiting += [value[name] for name in ("data", "text", "content", "role") if name in value]
        elif isinstance(value, list):
            waiting += reversed(value[:PREFIX_CHARACTERS])
        elif isinstance(value, int):
            text += f"{value} "
    return text[:PREFIX_CHARACTERS]


def failed(endpoint: Endpoint, pod: Pod, now: float) -> bool:
    """A pod could not be reached, or gave no answer. Whether it is taken out now: never more than half of all are."""
    # What was under way when it was taken out fails late.
    if pod.ejected_until > now:
        return False
    if pod.failures < FAILURES:
        pod.failures += 1
    out = sum([other.ejected_until > now for other in endpoint.ready])
    if pod.failures < FAILURES or out + 1 > len(endpoint.ready) // 2:
        return False
    seconds = EJECTED_SECONDS * 2 ** min(pod.failures - FAILURES, 8)
    pod.ejected_until = now + min(seconds, MOST_EJECTED_SECONDS)
    pod.failures += 1
    return True


def worked(pod: Pod) -> None:
    """A pod has answered."""
    if pod.failures:
        pod.failures = 0
        pod.ejected_until = 0.0
