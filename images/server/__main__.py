"""Entry point of the payload directory: `python3 /opt/berth serve|drain|fetch|inspect …`."""

import sys

from berth_server.cli import main

sys.exit(main(sys.argv[1:]))
