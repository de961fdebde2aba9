"""A local server that speaks the Hugging Face hub's protocol, for `hf://` without the internet.

Enough for `huggingface_hub.snapshot_download`: model info, tree, resolve with redirects for large files, ranges,
revisions, tokens, gated and private repositories, with the hub's own status codes and X-Error-* headers, over TLS if
wanted. It serves directories `<root>/<org>/<name>`. Faults are settable, so that a test can cut or slow a transfer or
damage a file.

    python tests/hub.py --directory DIR [--address 0.0.0.0] [--port 8080] [--token T] [--gated org/name]…
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gguf")
"""Files of these kinds lie in the large-file store: the hub redirects to it and names their SHA-256."""
_STEP_BYTES = 1 << 18


@dataclass
class Faults:
    """What goes wrong next. cut_bytes: close the connection after so many bytes of a large file, `cuts` times."""

    cut_bytes: int = 0
    cuts: int = 0
    unavailable: int = 0
    """Answer so many requests with 503."""
    damaged: set[str] = field(default_factory=set)
    """Paths whose first byte is sent wrong."""
    hold: str = ""
    """Send only `cut_bytes` of this path, and the rest once `go_on` is set."""
    go_on: threading.Event = field(default_factory=threading.Event)
    bytes_per_second: int = 0
    """Send no file faster than this; 0 for no limit."""
    no_sizes: bool = False
    """Name no sizes and checksums in the list of a repository's files, as some mirrors."""
    together: threading.Barrier | None = None
    """Hold each large file back until so many are asked for at the same time; a broken barrier holds none back."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Quiet: clients that go away, or do not trust the certificate, are what tests are about."""


class Hub:
    """A running hub; a context manager. `url` is what HF_ENDPOINT wants.

    token: the one valid token. gated: repositories it has no access to, unless they are in `granted`.
    private: repositories that are invisible without it. certificate: of the TLS server, and its key; None for HTTP.
    """

    def __init__(
        self,
        root: Path,
        token: str | None = None,
        gated: Iterable[str] = (),
        granted: Iterable[str] = (),
        private: Iterable[str] = (),
        address: str = "127.0.0.1",
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.root = root
        self.token = token
        self.gated, self.granted, self.private = set(gated), set(granted), set(private)
        self.faults = Faults()
        self.requests: list[str] = []
        self.sent_bytes = 0
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = _Server((address, port), handler)
        # Large files come from another host: clients take a redirect to the same one for a renamed repository.
        self.store = _Server((address, 0), handler)
        self.scheme = "https" if certificate else "http"
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*certificate)
            for server in (self.server, self.store):
                server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.server.server_address[0]!s}:{self.server.server_address[1]}"

    def __enter__(self) -> Self:
        for server in (self.server, self.store):
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self.server, self.store):
            server.shutdown()
            server.server_close()

    def files(self, repo: str) -> dict[str, Path]:
        base = self.root / repo
        return {
            path.relative_to(base).as_posix(): path
            for path in sorted(base.rglob("*"))
            if path.is_file() and not path.relative_to(base).as_posix().startswith(".")
        }

    def commit(self, repo: str) -> str:
        """A commit id that depends on the content alone."""
        sha1 = hashlib.sha1(repo.encode())
        for name, path in self.files(repo).items():
            sha1.update(name.encode() + path.read_bytes())
        return sha1.hexdigest()


class _Refused(Exception):
    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve(body=True)

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        try:
            if self.hub.faults.unavailable > 0:
                self.hub.faults.unavailable -= 1
                raise _Refused(503, None, "Service Unavailable")
            if path.startswith("/api/models/"):
                self._json(self._api(path.removeprefix("/api/models/").split("/")), body)
            elif path.startswith("/large/"):
                _, _, org, name, *rest = path.split("/")
                self._content(self.hub.files(f"{org}/{name}")["/".join(rest)], "/".join(rest), {}, body)
            else:
                self._resolve(path.strip("/").split("/"), body)
        except _Refused as refused:
            payload = json.dumps({"error": refused.message}).encode()
            self.send_response(refused.status)
            if refused.code:
                self.send_header("X-Error-Code", refused.code)
            self.send_header("X-Error-Message", refused.message)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            if body:
                self.wfile.write(payload)

    def _token(self) -> str | None:
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ").strip() or None
        if sent is not None and sent != self.hub.token:
            raise _Refused(401, None, "Invalid credentials in Authorization header")
        return sent

    def _repository(self, repo: str) -> None:
        token = self._token()
        if not (self.hub.root / repo).is_dir() or (repo in self.hub.private and token is None):
            raise _Refused(404 if token else 401, "RepoNotFound", "Repository not found")

    def _revision(self, repo: str, revision: str) -> str:
        commit = self.hub.commit(repo)
        if revision not in ("main", commit):
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _api(self, parts: list[str]) -> Any:
        repo, rest = "/".join(parts[:2]), parts[2:]
        self._repository(repo)
        commit = self._revision(repo, rest[1] if len(rest) > 1 else "main")
        files = self.hub.files(repo)
        if rest and rest[0] == "tree":
            return [self._tree_entry(name, path) for name, path in files.items()]
        return {
            "id": repo,
            "modelId": repo,
            "sha": commit,
            "private": repo in self.hub.private,
            "gated": "auto" if repo in self.hub.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [self._sibling(name, path) for name, path in files.items()],
        }

    def _sibling(self, name: str, path: Path) -> dict[str, Any]:
        if self.hub.faults.no_sizes:
            return {"rfilename": name}
        size = path.stat().st_size
        entry: dict[str, Any] = {"rfilename": name, "size": size, "blobId": _blob(path)}
        if name.endswith(LARGE):
            entry["lfs"] = {"sha256": _sha256(path), "size": size, "pointerSize": 134}
        return entry

    def _tree_entry(self, name: str, path: Path) -> dict[str, Any]:
        size = path.stat().st_size
        entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": _blob(path)}
        if name.endswith(LARGE):
            entry["lfs"] = {"oid": _sha256(path), "size": size, "pointerSize": 134}
        return entry

    def _resolve(self, parts: list[str], body: bool) -> None:
        if len(parts) < 5 or parts[2] != "resolve":
            raise _Refused(404, None, "Not Found")
        repo, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        self._repository(repo)
        if repo in self.hub.gated and not (self._token() and repo in self.hub.granted):
            raise _Refused(403 if self._token() else 401, "GatedRepo", f"Access to model {repo} is restricted.")
        commit = self._revision(repo, revision)
        path = self.hub.files(repo).get(name)
        if path is None:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        if name.endswith(LARGE):
            self.send_response(302)
            host = self.headers["Host"].partition(":")[0]
            self.send_header(
                "Location", f"{self.hub.scheme}://{host}:{self.hub.store.server_address[1]}/large/{repo}/{name}"
            )
            self.send_header("X-Repo-Commit", commit)
            self.send_header("X-Linked-Size", str(path.stat().st_size))
            self.send_header("X-Linked-Etag", f'"{_sha256(path)}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._content(path, name, {"X-Repo-Commit": commit, "ETag": f'"{_blob(path)}"'}, body)

    def _content(self, path: Path, name: str, headers: dict[str, str], body: bool) -> None:
        data = path.read_bytes()
        if name in self.hub.faults.damaged:
            data = bytes([data[0] ^ 1]) + data[1:]
        first = int(self.headers["Range"].removeprefix("bytes=").split("-")[0]) if "Range" in self.headers else 0
        part = data[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if not body:
            return
        faults = self.hub.faults
        if faults.cuts > 0 and name.endswith(LARGE):
            faults.cuts -= 1
            part = part[: faults.cut_bytes]
            self.close_connection = True
        if name == faults.hold:
            self.wfile.write(part[: faults.cut_bytes])
            self.hub.sent_bytes += faults.cut_bytes
            faults.go_on.wait(60)
            part = part[faults.cut_bytes :]
        if faults.together and name.endswith(LARGE):
            with contextlib.suppress(threading.BrokenBarrierError):
                faults.together.wait(30)
        with contextlib.suppress(ConnectionError):
            for begin in range(0, len(part), _STEP_BYTES):
                step = part[begin : begin + _STEP_BYTES]
                if faults.bytes_per_second:
                    time.sleep(len(step) / faults.bytes_per_second)
                self.wfile.write(step)
                self.hub.sent_bytes += len(step)

    def _json(self, value: Any, body: bool) -> None:
        payload = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if body:
            self.wfile.write(payload)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _blob(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--token")
    parser.add_argument("--gated", action="append", default=[])
    options = parser.parse_args()
    hub = Hub(options.directory, options.token, options.gated, address=options.address, port=options.port)
    print(f"serving {options.directory} at {hub.url}", flush=True)
    with hub:
        threading.Event().wait()


if __name__ == "__main__":
    main()
