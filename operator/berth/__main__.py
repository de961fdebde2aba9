"""`python -m berth`: run the operator."""

import argparse
import asyncio
import os
import sys

from pydantic import ValidationError

from berth import __version__
from berth.kube.connection import NoConnection
from berth.process import PortTaken, run
from berth.settings import Settings
from berth.telemetry import logs


def main() -> int:
    """Returns the exit code: 0 after a stop, 2 for a wrong setting or no cluster to talk to."""
    parser = argparse.ArgumentParser(
        prog="berth", description="Operator for ModelEndpoints. Settings: BERTH_… variables."
    )
    parser.add_argument("--kubeconfig", default=os.environ.get("KUBECONFIG"), help="default: the pod's service account")
    parser.add_argument("--version", action="version", version=__version__)
    args = parser.parse_args()
    try:
        settings = Settings()
    except ValidationError as error:
        for item in error.errors():
            name = "_".join(["BERTH", *map(str, item["loc"])]).upper()
            print(f"berth: setting {name}: {item['msg']} (got {item['input']!r})", file=sys.stderr)
        return 2
    logs.configure(settings.log_level, settings.log_format)
    try:
        asyncio.run(run(settings, args.kubeconfig))
    except (NoConnection, PortTaken) as error:
        print(f"berth: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
