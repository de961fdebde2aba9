"""`python -m berth_gateway`: run the gateway."""

import logging
import os
import resource
import sys

import structlog
import uvloop
from pydantic import ValidationError

from berth_gateway.connection import NoConnection
from berth_gateway.process import PortTaken, run
from berth_gateway.settings import Settings


def main() -> int:
    """Returns the exit code: 0 after a stop, 2 for a wrong setting, a taken port or no cluster to talk to."""
    try:
        settings = Settings()
    except ValidationError as error:
        for item in error.errors():
            # One of the settings; without a place it is about several of them, and says which.
            where = "".join(f"setting BERTH_GATEWAY_{name.upper()}: " for name in map(str, item["loc"][:1]))
            given = f" (got {item['input']!r})" if where else ""
            print(f"berth-gateway: {where}{item['msg']}{given}", file=sys.stderr)
        return 2
    log_to_stderr(settings.log_level)
    # Each client and each pod's connection is a file; the usual soft limit of containers is 1,024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        uvloop.run(run(settings, os.environ.get("KUBECONFIG"), os.environ))
    except (NoConnection, PortTaken) as error:
        print(f"berth-gateway: {error}", file=sys.stderr)
        return 2
    return 0


def log_to_stderr(level: str) -> None:
    """What the gateway says of itself, one JSON object a line; standard output is the access log's."""
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    sys.exit(main())
