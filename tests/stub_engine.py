"""A stand-in for `vllm serve` where a scenario needs many starts: the launcher in front of it is the real one.

Behaves as environment variable STUB_ENGINE says, a JSON object:
  output: file whose lines are written to stderr at start, such as recorded output of vLLM
  exit: exit at once after the output, with this code (negative: by that signal)
  loading: do not open the port; "once" ends at the second SIGTERM as vLLM does, "deaf" at none
  plugin: whether /berth/info is known (default true);  completion: status of /v1/completions (default 200)
  orphans: start so many processes that outlive their parent
  witness: file to write its own command line and environment to
POST /stub with a JSON object sets `health` (status), `in_flight`, `hang` (seconds of silence), `exit` (code) later.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

METRICS = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="stub"}} {0}
vllm:num_requests_waiting{{engine="0",model_name="stub"}} 0.0
"""


def main() -> None:
    state: dict[str, Any] = json.loads(os.environ.get("STUB_ENGINE", "{}"))
    if "witness" in state:
        Path(state["witness"]).write_text(json.dumps({"command": sys.argv[1:], "environment": dict(os.environ)}))
    if "output" in state:
        sys.stderr.write(Path(state["output"]).read_text())
        sys.stderr.flush()
    for _ in range(state.get("orphans", 0)):
        subprocess.run(["sh", "-c", "sleep 0.05 &"], check=True)
    if "exit" in state:
        end(state["exit"])
    if state.get("loading"):
        load(deaf=state["loading"] == "deaf")
    port = int(sys.argv[sys.argv.index("--port") + 1])
    server = ThreadingHTTPServer(("127.0.0.1", port), handler(state))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(0.02)


def end(code: int) -> None:
    sys.stderr.flush()
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def load(deaf: bool) -> None:
    """Loses the first SIGTERM, as vLLM does while it waits for its engine."""
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(time.monotonic()))
    print("Starting to load model", file=sys.stderr, flush=True)
    while deaf or len(heard) < 2:
        signal.pause()
    end(-signal.SIGINT)


def handler(state: dict[str, Any]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(state.get("hang", 0))
            if self.path == "/health":
                self.answer(state.get("health", 200), "")
            elif self.path == "/metrics":
                self.answer(200, METRICS.format(float(state.get("in_flight", 0))))
            elif self.path == "/berth/info" and state.get("plugin", True):
                info = {"berth": "0", "vllm": "0.32.0", "apis": ["OpenAI"], "model": "stub", "max_num_seqs": 8}
                self.answer(200, json.dumps(info))
            else:
                self.answer(404, '{"detail":"Not Found"}')

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/stub":
                state.update(body)
                self.answer(200, "")
                if "exit" in body:
                    end(body["exit"])
            elif self.path == "/v1/completions" and state.get("completion", 200) == 200:
                state["proved"] = body
                self.answer(200, json.dumps({"choices": [{"text": "x", "finish_reason": "length"}]}))
            else:
                self.answer(state.get("completion", 404), '{"error": {"message": "refused by the stub"}}')

        def answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


if __name__ == "__main__":
    main()
