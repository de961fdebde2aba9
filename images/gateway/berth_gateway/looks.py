"""What lasts too long: a look a second at each connection of a client, and at each request under way."""

from __future__ import annotations

from berth_gateway import holding
from berth_gateway.client import Client
from berth_gateway.exchange import Exchange
from berth_gateway.settings import Settings

CLIENT_IDLE_SECONDS = 620
"""A connection of a client without a request is left to the client for so long, as the pods do."""
HEAD_SECONDS = 30
BODY_PAUSE_SECONDS = 60
UNSENT_SECONDS = 60
"""For so long a client may take nothing of the rest of an answer that has ended."""
LINGER_SECONDS = 3


def look_at_connection(client: Client, settings: Settings) -> None:
    """A second has passed."""
    exchange = client.exchange
    if exchange is not None and exchange.endpoint is not None:
        if client.has_left():
            client.transport.abort()
        return
    client.quiet_seconds += 1
    if client.lingers or client.full or client.transport.is_closing():
        _look_at_rest(client)
    elif client.is_reading:
        client.reading_seconds += 1
        most = settings.total_seconds if exchange is not None else HEAD_SECONDS
        if client.reading_seconds > most or client.quiet_seconds > BODY_PAUSE_SECONDS:
            client.refuse_slow()
    elif client.quiet_seconds > CLIENT_IDLE_SECONDS:
        client.transport.close()


def _look_at_rest(client: Client) -> None:
    """At what is left of answers that have ended: nothing is said behind it, and the connection waits only for it."""
    unsent = client.transport.get_write_buffer_size()
    if unsent:
        if unsent != client.unsent_bytes:
            client.unsent_bytes, client.unsent_seconds = unsent, 0
        client.unsent_seconds += 1
        if client.unsent_seconds > UNSENT_SECONDS:
            client.transport.abort()
    elif client.lingers:
        client.reading_seconds += 1
        if client.reading_seconds > LINGER_SECONDS:
            client.transport.abort()


def look_at_exchange(exchange: Exchange, now: float, settings: Settings) -> None:
    """now: monotonic seconds."""
    upstream, endpoint = exchange.upstream, exchange.endpoint
    if exchange.held_at:
        told_at = max(exchange.held_at, exchange.told_at)
        if exchange.wants_comments and now - told_at >= holding.COMMENT_SECONDS and endpoint is not None:
            exchange.tell(holding.comment(endpoint, now), now)
    elif now - exchange.since - exchange.held_seconds > settings.total_seconds:
        exchange.time_out(f"The answer took longer than {settings.total_seconds:.0f} s.")
    elif upstream is not None and not exchange.client.transport.get_write_buffer_size():
        upstream.quiet_seconds += 1
        most = settings.between_bytes_seconds if exchange.first_byte_at else settings.first_byte_seconds
        if upstream.quiet_seconds > most:
            exchange.time_out(f"The pod sent nothing for {most:.0f} s.")
