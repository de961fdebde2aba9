"""Structured logs on standard error: an event in the past tense and key-values, `endpoint` bound once per pass."""

import logging
import sys

import structlog


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
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # kopf narrates every connection and resource at INFO; Berth says what matters itself.
    logging.getLogger("kopf").setLevel(max(logging.WARNING, root.level))
    # It warns that it does not take signals in a thread, which is meant.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
