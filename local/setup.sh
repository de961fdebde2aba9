#!/usr/bin/env bash
# Makes .venv of the checkout $1 from requirements.lock. Needs Python 3.11 or newer; installs Debian's venv module when it is missing.
set -euo pipefail
root=$1
started=$SECONDS
cd "$root"
python=$(command -v python3.11 || command -v python3)
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: $python is older than Python 3.11: install python3.11" >&2; exit 1; }
if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    echo "setup: making .venv with $("$python" --version)"
    rm -rf .venv
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-venv >/dev/null
    fi
    "$python" -m venv .venv
fi
echo "setup: installing requirements.lock"
if [ ! -x .venv/bin/uv ]; then
    .venv/bin/python -m pip install -q --require-hashes -r <(awk '/^[a-z0-9]/{keep=($1 ~ /^uv==/)} keep' requirements.lock)
fi
VIRTUAL_ENV="$root/.venv" .venv/bin/uv pip install -q --require-hashes -r requirements.lock
touch .venv/ready
echo "setup: done in $((SECONDS - started))s"
