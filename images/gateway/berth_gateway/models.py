"""What the gateway answers itself, in each API: above all the list of the models that the caller may use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote

import berth_apis
from berth_apis import http, open_ai
from berth_apis.http import Answer, Object, Refused, Request, Serving
from berth_gateway import paths
from berth_gateway.paths import Route
from berth_gateway.table import Endpoint


@dataclass(frozen=True)
class _Known(Serving):
    """Of models that have nothing to do with each other: none is another one's adapter."""

    def context_tokens(self, name: str) -> int:
        """The longest context of a model, 0 when it is not known."""
        return int((self.model(name) or {}).get("max_model_len") or 0)


def answer(route: Route, request: Request, named: Iterable[tuple[str, Endpoint]], clock: Callable[[], float]) -> Answer:
    """The answer to a LIST call. named: what the caller may use; of that counts what is served in this API."""
    models = tuple(_model(name, endpoint) for name, endpoint in named if route.dialect.NAME in endpoint.apis)
    if route.dialect is open_ai:
        return _open_ai(route, request, models)
    operation = berth_apis.operate(route.dialect, request, _Known(models, clock))
    try:
        next(operation)
    except StopIteration as end:
        found: Answer = end.value
        return found
    raise AssertionError(f"{route.rest} asks the engine")


def _model(name: str, endpoint: Endpoint) -> Object:
    """As vLLM lists one."""
    known = {} if endpoint.context_tokens is None else {"max_model_len": endpoint.context_tokens}
    return {
        "id": name,
        "object": "model",
        "created": _seconds(endpoint.created),
        "owned_by": endpoint.namespace,
        **known,
    }


def _seconds(stamp: str) -> int:
    """Since 1970, of a time as Kubernetes writes it; 0 for none."""
    return int(datetime.fromisoformat(stamp).timestamp()) if stamp else 0


def _open_ai(route: Route, request: Request, models: tuple[Object, ...]) -> Answer:
    name = unquote(route.rest.removeprefix("/v1/models").removeprefix("/"))
    if not name:
        return http.answer({"object": "list", "data": models})
    found = next((model for model in models if model["id"] == name), None)
    if found is not None:
        return http.answer(found)
    refusal: Refused = paths.unknown_model(route, name)
    refused: Answer = open_ai.failure(refusal.failure, request)
    return refused
