"""Whom a request is for: one of the gateway's own answers, or an endpoint by its model's name or by its port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth_apis import http, scale_egp
from berth_gateway import models, paths, refusing
from berth_gateway.access import allows
from berth_gateway.exchange import Exchange
from berth_gateway.table import Endpoint

if TYPE_CHECKING:
    from berth_gateway.relay import Relay

ENDPOINT_KEY = b"x-berth-endpoint-key"


def by_name(relay: Relay, exchange: Exchange) -> None:
    """By the model's name. Raises Refused."""
    asked, route = exchange.asked, exchange.route
    if route.kind == paths.HEALTH:
        exchange.answer(refusing.plain(200, "ok\n"))
        return
    if route.kind == paths.LIST:
        api = route.dialect.NAME
        found = [
            (name, endpoint)
            for name, endpoint in relay.table.reachable()
            if api in endpoint.apis and allows(exchange.caller, endpoint)
        ]
        _list(relay, exchange, found)
        return
    if route.kind == paths.NONE:
        raise http.refused(f"The gateway serves no {asked.method} {asked.path[:100]}.", 404)
    content_type = _header(asked.headers, b"content-type") if route.where == paths.FORM else b""
    named = paths.model_of(route, asked.query, content_type, exchange.body)
    if named is None:
        raise http.refused("No model is named: set model to one of the names that the list of models has.")
    model = named.model
    endpoint = relay.table.find(model, vendor=route.dialect is scale_egp)
    if endpoint is None or not allows(exchange.caller, endpoint):
        raise paths.unknown_model(route, model)
    if route.dialect.NAME not in endpoint.apis:
        apis = ", ".join(sorted(endpoint.apis))
        raise http.refused(f"{model[:100]!r} is not served in this API: it is served in {apis}.", 404)
    # The key of this gateway is nobody else's.
    key = asked.credentials
    if not relay.access.open:
        own = _header(asked.headers, ENDPOINT_KEY) if endpoint.own_keys else b""
        key = b"authorization: Bearer " + own + b"\r\n" if own else b""
    exchange.named, exchange.body = named, named.body
    if model not in endpoint.names:
        rest = model.partition("/")[2]
        known = rest if rest in endpoint.names else endpoint.names[0]
        exchange.target, exchange.body = paths.forwarded(route, named, asked.target, known)
    exchange.dispatch(endpoint, key)


def by_port(relay: Relay, exchange: Exchange, port: int) -> None:
    """By the port alone: what the request says of host and model is the endpoint's own to judge. Raises Refused."""
    owner, route = relay.owner(port), exchange.route
    if owner is None or owner is not exchange.client.bound:
        exchange.refuse(http.Failure(421, "This address belongs to another endpoint by now. Connect again."), True)
        return
    if not owner.ready:
        # A look must not wake it: load balancers look all the time.
        if route.kind == paths.HEALTH:
            exchange.answer(refusing.plain(200, "asleep\n"), close=True)
            return
        if route.kind == paths.LIST:
            _list(relay, exchange, [(name, owner) for name in owner.names])
            return
        if route.kind == paths.NONE and exchange.asked.method in ("GET", "HEAD"):
            raise http.Refused(relay.unready(owner))
    exchange.dispatch(owner, exchange.asked.credentials)


def _list(relay: Relay, exchange: Exchange, named: list[tuple[str, Endpoint]]) -> None:
    asked, route = exchange.asked, exchange.route
    request = http.Request(asked.method, route.rest, paths.query_of(asked.query), {}, exchange.body)
    exchange.answer(models.answer(route, request, named, relay.clock))


def _header(headers: tuple[tuple[bytes, bytes], ...], name: bytes) -> bytes:
    return next((value for found, value in headers if found == name), b"")
