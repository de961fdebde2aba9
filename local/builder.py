"""Container images from Dockerfiles with buildah, without a daemon, a registry or anything outside the user's cache.

Every command runs in process and mount namespaces of its own that end with this process, so that a build which is
interrupted or killed leaves neither processes nor mounts; what it had half written is removed by the next one.
"""

import ast
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from local import packages
from local.errors import LocalError
from local.locks import held
from local.tools import cache_dir

_IN_NAMESPACES = (
    *("setpriv", "--pdeathsig=KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
)
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_LINES_SHOWN = 20

# Settings of package clients that reach into a build. Proxies do by themselves; paths of this machine do not.
_PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "timeout")
_UV_VARIABLES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_HTTP_TIMEOUT",
)

# $1 suite, $2 mirror, $3 packages, $4 reference; `buildah` is a function with the storage options.
_DEBIAN = """
container=$(buildah from scratch)
root=$(buildah mount "$container")
debootstrap --variant=minbase --include="$3" "$1" "$root" "$2"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/*
rm -rf "$root"/var/log/*.log
buildah umount "$container"
buildah config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit --quiet --rm "$container" "$4"
"""

# $1 image, $2 directory shown as /mnt, the rest a command.
_RUN = """
container=$(buildah from --pull-never "$1")
work=$2
shift 2
status=0
buildah run --isolation chroot --network host --volume "$work:/mnt" "$container" -- "$@" || status=$?
buildah rm "$container" >/dev/null
exit $status
"""


class Builder:
    """buildah with a store of its own. Made by `builder()`, which holds the store's lock."""

    def __init__(self, store: Path, scratch: Path) -> None:
        self._scratch = scratch
        # The state of mounts is kept with this process's scratch: mounts of an earlier process are gone.
        self._buildah = ["buildah", f"--root={store}", f"--runroot={scratch}/run", "--storage-driver=overlay"]
        if self._output("containers", "--quiet"):
            self._output("rm", "--all")

    def references(self) -> list[str]:
        """The tagged images in the store, newest first."""
        listed = self._output("images", "--format", "{{.Name}}:{{.Tag}}").split()
        return [reference for reference in listed if "<none>" not in reference]

    def debian(self, reference: str, suite: str, include: Sequence[str]) -> None:
        """A minimal Debian with the packages `include`, from the mirror that this machine's apt uses."""
        self._script(_DEBIAN, suite, _mirror(), ",".join(include), reference)

    def build(self, reference: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> None:
        """`docker build`: `dockerfile` over the folder `context`, with build arguments."""
        settings = self._scratch / "package-index"
        settings.touch(mode=0o600)
        pip = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
        )
        settings.write_text(package_index_settings(os.environ, pip.stdout))
        certificates = Path(os.environ.get("SSL_CERT_FILE") or _CERTIFICATES)
        self._output(
            *("bud", "--isolation=chroot", "--network=host", "--layers", "--pull-never", "--format=docker"),
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *([f"--volume={certificates}:{_CERTIFICATES}:ro"] if certificates.exists() else []),
            *(f"--secret=id=package-index,src={settings}", f"--file={dockerfile}", f"--tag={reference}", str(context)),
        )

    def run(self, reference: str, directory: Path, *command: str) -> str:
        """Output of `command` in a throwaway container of the image, with `directory` at /mnt."""
        return self._script(_RUN, reference, str(directory), *command)

    def save(self, reference: str, consumer: Sequence[str]) -> None:
        """Writes the image, as an uncompressed archive, to the standard input of the command `consumer`."""
        archive = f"docker-archive:/dev/stdout:{reference}"
        command = [*_IN_NAMESPACES, *self._buildah, "push", "--quiet", "--disable-compression", reference, archive]
        with subprocess.Popen(command, env=self._environment(), stdout=subprocess.PIPE) as writer:
            reader = subprocess.run(
                [*_IN_NAMESPACES[:2], *consumer], stdin=writer.stdout, capture_output=True, text=True, check=False
            )
            if reader.returncode:
                writer.kill()
        if reader.returncode or writer.returncode:
            raise LocalError(f"could not hand {reference} to `{shlex.join(consumer)}`: {reader.stderr.strip()}")

    def remove(self, references: Sequence[str]) -> None:
        """Drops images, and every layer that no tagged image needs."""
        if references:
            self._output("rmi", "--force", *references)
            self._output("rmi", "--prune", "--force")

    def _script(self, script: str, *arguments: str) -> str:
        prelude = f'set -eu\nbuildah() {{ command {shlex.join(self._buildah)} "$@"; }}\n'
        return self._checked(["sh", "-c", prelude + script, "sh", *arguments])

    def _output(self, *arguments: str) -> str:
        return self._checked([*self._buildah, *arguments])

    def _checked(self, command: Sequence[str]) -> str:
        done = subprocess.run(
            [*_IN_NAMESPACES, *command],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            end = "\n".join(done.stdout.splitlines()[-_LINES_SHOWN:])
            raise LocalError(f"building an image failed with exit code {done.returncode}:\n{end}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self._scratch)}


@contextmanager
def builder() -> Iterator[Builder]:
    """The machine's builder; waits while another process builds. Needs root."""
    if os.geteuid():
        raise LocalError("building images needs root: run this again as root")
    packages.ensure()
    home = cache_dir() / "images"
    with held(home / "lock", "building images"):
        for left in home.glob("scratch-*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(dir=home, prefix="scratch-") as scratch:
            yield Builder(home / "storage", Path(scratch))


def package_index_settings(environment: Mapping[str, str], pip_config: str) -> str:
    """A shell file with the settings of pip and uv that make a build install from where this machine does.

    pip_config: what `pip config list` prints, the environment's `PIP_…` included (as `:env:`).
    """
    options = dict(re.findall(r"^(?:global|install)\.([a-z-]+)=(.*)$", pip_config, re.MULTILINE))
    options |= dict(re.findall(r"^:env:\.([a-z-]+)=(.*)$", pip_config, re.MULTILINE))
    settings = {
        f"PIP_{option.upper().replace('-', '_')}": str(ast.literal_eval(options[option]))
        for option in _PIP_OPTIONS
        if option in options
    }
    if "PIP_INDEX_URL" in settings:
        settings["UV_DEFAULT_INDEX"] = settings["PIP_INDEX_URL"]
    settings |= {name: environment[name] for name in _UV_VARIABLES if environment.get(name)}
    settings |= {"PIP_CERT": str(_CERTIFICATES), "SSL_CERT_FILE": str(_CERTIFICATES)}
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(settings.items()))


def _mirror() -> str:
    """The package mirror of this machine's own release."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Identifier: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    for line in listed.stdout.splitlines():
        codename, _, uri = line.partition(" ")
        if codename == release:
            return uri
    raise LocalError(f"apt knows no mirror for {release!r}: add one to /etc/apt/sources.list.d")
