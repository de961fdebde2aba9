"""What the chart installs, as one plain file for `kubectl apply`."""

import subprocess
from pathlib import Path

from local import tools
from local.errors import LocalError

NAMESPACE = "berth-system"
_CHART = Path(__file__).parent.parent / "charts" / "berth"
_HEADER = f"""\
# Berth, as the Helm chart installs it with its default values into namespace {NAMESPACE}.
# kubectl apply --server-side -f install.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
"""


def write(path: Path) -> None:
    """Writes the manifest with namespace and CRD to `path`. Raises LocalError when the chart does not render."""
    helm = tools.ensure(["helm"])["helm"]
    command = [str(helm), "template", "berth", str(_CHART), f"--namespace={NAMESPACE}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"the chart does not render: {done.stderr.strip()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_HEADER + done.stdout)
