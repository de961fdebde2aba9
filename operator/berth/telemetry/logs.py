"""Structured logs on standard error: an event in the past tense and key-values, `endpoint` bound once per pass."""

import logging
import re
import sys

import aiohttp
import kopf
import structlog
from kopf._cogs.clients.errors import APIError

# What the API server and the network do to kopf. Its watch ends with them, and that is told in one line of ours.
_EXPECTED = (APIError, kopf.LoginError, aiohttp.ClientError, TimeoutError)
_ATTEMPT = re.compile(r"Request attempt #(\d+)\S* failed")


def worth_telling(record: logging.LogRecord) -> bool:
    """False for tracebacks of kopf about an outage, and for all but attempts 1, 2, 4, 8 … of one request of it."""
    message = record.getMessage()
    if not record.name.startswith("kopf") and not (record.name == "asyncio" and "/kopf/" in message):
        return True
    if record.exc_info and isinstance(record.exc_info[1], _EXPECTED):
        return False
    if attempt := _ATTEMPT.match(message):
        return int(attempt[1]).bit_count() == 1
    return True


def configure(level: str, form: str) -> None:
    """Send our logs and kopf's through one formatter. form: json or console."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    handler.addFilter(worth_telling)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # kopf narrates every connection and resource at INFO; Berth says what matters itself.
    logging.getLogger("kopf").setLevel(max(logging.WARNING, root.level))
    # It warns that it does not take signals in a thread, which is meant.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
