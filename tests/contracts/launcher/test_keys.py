"""Keys in front of real vLLM: what is open, which headers are taken, and how a changed Secret arrives.

Inputs: a directory as the kubelet lays out a Secret, and requests to vLLM's port. Outputs: vLLM's answers, the
launcher's probes, and what its processes show of keys. One start serves all tests of this file, in their order.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.contracts.launcher.launched import CPU, EAGER, START_SECONDS, Launched, until
from tests.secret_volume import write_secret

KEYS = {"alice": "key-of-alice\n", "others": "key-of-bob\nkey-of-carol"}
BOB = {"x-api-key": "key-of-bob"}
# What vLLM serves beside its API and mostly does not list, or guards with nothing.
MORE = ("/", "/invocations", "/tokenize", "/metrics", "/load", "/ping", "/version", "/berth/info", "/docs", "/nothing",
        "/health/", "/v1/health", "/openapi.json", "/metrics/")  # fmt: skip


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Served(NamedTuple):
    launched: Launched
    secret: Path

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: object = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.launched.port, timeout=60)
        with contextlib.closing(connection):
            sent = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def status(self, headers: Mapping[str, str]) -> int:
        return self.ask("GET", "/v1/models", headers).status


@pytest.fixture(scope="module")
def served(python: Path, vllm_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("keys")
    secret = write_secret(directory / "secret", **KEYS)
    env = {**CPU, "BERTH_KEYS_DIR": str(secret), "VLLM_LOGGING_LEVEL": "DEBUG"}
    source = f"file://{vllm_model}"
    with Launched(directory, python.parent, source, vllm_model, flags=EAGER, env=env) as launched:
        yield Served(launched.until_ready(START_SECONDS), secret)


def test_no_route_but_health_answers_without_a_key(served: Served) -> None:
    described = json.loads(served.ask("GET", "/openapi.json", BOB).body)["paths"]
    assert {"/v1/completions", "/v1/chat/completions", "/v1/models", "/tokenize", "/invocations"} <= described.keys()
    routes = [(method.upper(), path) for path, methods in described.items() for method in methods]
    routes += [(method, path) for path in MORE for method in ("GET", "POST", "OPTIONS")]
    routes.remove(("GET", "/health"))
    for method, path in routes:
        for headers in ({}, {"Authorization": "Bearer key-of-mallory"}):
            answer = served.ask(method, path, headers, {} if method == "POST" else None)
            assert (answer.status, answer.headers.get("www-authenticate")) == (401, "Bearer"), (method, path)
            assert json.loads(answer.body)["error"]["code"] == 401, (method, path)
    assert served.ask("GET", "/health").status == 200


@pytest.mark.parametrize(
    "path",
    ["/llm-engine/v1/llm/completions-sync", "/v1/llm/completions-stream", "/egp/v4/completions", "/egp/user-info",
     "/aleph-alpha/complete", "/aleph-alpha/v1/version"],
)  # fmt: skip
def test_a_path_of_another_api_refuses_in_its_own_shape(served: Served, path: str) -> None:
    answer = served.ask("POST", path, {"x-api-key": "key-of-mallory"}, {"prompt": "the"})
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    found = json.loads(answer.body)
    assert "A key is needed" in str(found)
    assert "error" not in found or isinstance(found["error"], str), "the shape of OpenAI"
    assert served.ask("POST", path, BOB, {}).status != 401


def test_a_websocket_is_not_opened_without_a_key(served: Served) -> None:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    }
    assert served.ask("GET", "/v1/realtime", handshake).status == 401


@pytest.mark.parametrize("key", ["key-of-alice", "key-of-bob", "key-of-carol"])
def test_each_key_opens_everything_in_each_of_the_three_forms(served: Served, key: str) -> None:
    pair = base64.b64encode(f"{key}:".encode()).decode()
    completion = {"model": "tiny", "prompt": "the", "max_tokens": 2, "temperature": 0}
    for headers in ({"x-api-key": key}, {"Authorization": f"Bearer {key}"}, {"Authorization": f"Basic {pair}"}):
        answer = served.ask("POST", "/v1/completions", headers, completion)
        assert answer.status == 200, answer.body
        assert json.loads(answer.body)["usage"]["completion_tokens"] == 2
        assert served.ask("GET", "/metrics", headers).status == 200
        assert served.ask("POST", "/tokenize", headers, {"model": "tiny", "prompt": "the"}).status == 200


def test_no_key_is_in_the_log_the_environment_or_the_arguments_of_a_process(served: Served) -> None:
    members = served.launched.members()
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in members]
    (own,) = {
        value.decode()
        for environment in environments
        for name, _, value in (entry.partition(b"=") for entry in environment.split(b"\0"))
        if name == b"BERTH_LAUNCHER_KEY"
    }
    assert served.status({"x-api-key": own}) == 200
    arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in [*members, served.launched.process.pid]]
    told = served.launched.text().encode() + json.dumps(served.launched.progress()).encode()
    for key in (*"".join(KEYS.values()).split(), own):
        assert key.encode() not in b"".join([told, *arguments]), key
    assert b"key-of-" not in b"".join(environments)


def test_a_changed_secret_takes_effect_without_a_restart(served: Served) -> None:
    members = served.launched.members()
    dora = {"Authorization": "Bearer key-of-dora"}
    assert (served.status(dora), served.status(BOB)) == (401, 200)
    write_secret(served.secret, others="key-of-bob\nkey-of-dora")
    until(lambda: served.status(dora) == 200, 30, "the new key")
    assert (served.status(BOB), served.status({"x-api-key": "key-of-alice"})) == (200, 401)
    write_secret(served.secret, dora="key-of-dora")
    until(lambda: served.status(BOB) == 401, 30, "the end of the old key")
    assert served.status(dora) == 200
    assert served.launched.members() == members


def test_without_any_key_nobody_is_answered_and_the_launcher_goes_on(served: Served) -> None:
    dora = {"Authorization": "Bearer key-of-dora"}
    write_secret(served.secret, dora=" \n")
    until(lambda: served.status(dora) == 503, 30, "the end of the last key")
    answer = served.ask("POST", "/v1/completions", dora, {"model": "tiny", "prompt": "the"})
    assert "spec.server.apiKeySecretRef has no key in it" in json.loads(answer.body)["error"]["message"]
    assert served.ask("GET", "/health").status == served.launched.status("/readyz") == 200
    drain = served.launched.drain()
    until(lambda: served.launched.status("/readyz") == 503, 15, "unready")
    assert served.ask("GET", "/v1/models").headers["connection"] == "close"
    output, _ = drain.communicate(timeout=120)
    # It knows of no request in flight by vLLM's metrics alone.
    assert "nothing is in flight and nobody is connected" in output
    assert served.launched.terminate() == 0
