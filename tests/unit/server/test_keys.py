"""Keys: who is admitted, what others are told, and how a changed Secret arrives.

Input: directories as the kubelet lays them out, headers, ASGI scopes. Output: what reaches the application, and what
the client gets.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from berth_server import keys
from berth_server.closing import Message
from berth_server.engine import read_command, with_launcher_key
from berth_server.protocol import Failure
from tests.secret_volume import write_secret

OWN = "made-by-the-launcher"
APIS = ("OpenAI", "LLMEngine", "ScaleEGP")


def basic(pair: str) -> bytes:
    return b"Basic " + base64.b64encode(pair.encode())


FORMS = {
    "x-api-key": lambda key: (b"x-api-key", key.encode()),
    "Bearer": lambda key: (b"authorization", b"Bearer " + key.encode()),
    "bearer": lambda key: (b"Authorization", b"bearer  " + key.encode() + b" "),
    "Basic": lambda key: (b"authorization", basic(f"{key}:")),
    "Basic with a password": lambda key: (b"authorization", basic(f"{key}:anything:else")),
}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


class Client:
    """Asks the middleware; `reached` counts what comes through to the application."""

    def __init__(self, directory: Path | str) -> None:
        self.now = 100.0
        self.reached = 0
        self.guard = keys.Keys(self.application, str(directory), OWN, APIS, now=lambda: self.now)

    async def application(self, scope: Message, receive: Any, send: Any) -> None:
        self.reached += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})

    more = False

    async def ask(
        self, *headers: tuple[bytes, bytes], path: str = "/v1/models", body: bytes = b"", **scope: Any
    ) -> list[Message]:
        """The messages sent to the client."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": self.more}

        await self.guard({"type": "http", "path": path, "headers": list(headers), **scope}, receive, send)
        return sent

    async def status(self, *headers: tuple[bytes, bytes], **scope: Any) -> int:
        found: int = (await self.ask(*headers, **scope))[0]["status"]
        return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_secret(tmp_path / "keys", one="key-one\n", more="  key-two \r\n\n\tkey:three\n", empty=" \n")


def test_every_line_of_every_entry_is_a_key(directory: Path) -> None:
    expected = {hashlib.sha256(key).digest() for key in (b"key-one", b"key-two", b"key:three")}
    assert keys.read(str(directory)) == expected


def test_a_directory_that_no_kubelet_has_written_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("key-one")
    assert keys.read(str(tmp_path)) == {hashlib.sha256(b"key-one").digest()}


@forms
@pytest.mark.parametrize("key", ["key-one", "key-two"])
async def test_each_key_is_accepted_in_each_form(directory: Path, form: Any, key: str) -> None:
    client = Client(directory)
    assert await client.status(form(key)) == 200
    assert await client.status(form(key), type="websocket") == 200
    assert client.reached == 2


async def test_a_key_with_a_colon_is_accepted_with_an_empty_password(directory: Path) -> None:
    client = Client(directory)
    assert await client.status(FORMS["Basic"]("key:three")) == 200
    assert await client.status(FORMS["Basic with a password"]("key:three")) == 401


@forms
@pytest.mark.parametrize("key", ["", "key-on", "key-one1", "KEY-ONE", "key-one\nkey-two", "key-öne", "k" * 10_000])
async def test_nothing_else_is_a_key(directory: Path, form: Any, key: str) -> None:
    client = Client(directory)
    assert await client.status(form(key)) == 401
    assert client.reached == 0


async def test_a_key_that_is_not_quite_base64_is_none(directory: Path) -> None:
    value = basic("key-one:")
    client = Client(directory)
    assert await client.status((b"authorization", value)) == 200
    assert await client.status((b"authorization", value[:-4] + b"*" + value[-4:])) == 401


async def test_one_right_key_beside_wrong_ones_suffices_but_not_beside_any_number(directory: Path) -> None:
    wrong, right = FORMS["Bearer"]("wrong"), FORMS["x-api-key"]("key-one")
    client = Client(directory)
    assert await client.status(wrong, right) == await client.status(right, wrong) == 200
    assert await client.status(*[wrong] * 100, right) == 401


async def test_nothing_but_health_is_open(directory: Path) -> None:
    client = Client(directory)
    assert await client.status(path="/health") == 200
    assert client.reached == 1
    for path in (
        "/",
        "/health/",
        "/healthz",
        "/x/health",
        "/HEALTH",
        "/metrics",
        "/berth/info",
        "/ping",
        "/invocations",
    ):
        assert await client.status(path=path) == 401
    assert await client.status(method="OPTIONS", path="/v1/models") == 401
    assert client.reached == 1


async def test_a_refusal_has_the_shape_of_openai_and_says_what_to_send(directory: Path) -> None:
    start, end = await Client(directory).ask(FORMS["Bearer"]("sk-wrong"))
    headers = dict(start["headers"])
    assert (start["status"], headers[b"www-authenticate"]) == (401, b"Bearer")
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) == len(end["body"])
    error = json.loads(end["body"])["error"]
    assert (error["code"], error["type"]) == (401, "AuthenticationError")
    assert error.keys() == {"message", "type", "param", "code"}
    assert b"sk-wrong" not in end["body"]
    assert b"x-api-key" in end["body"]


class Shape(NamedTuple):
    path: str
    body: bytes
    content_type: bytes
    starts: bytes


@pytest.mark.parametrize(
    "case",
    [
        Shape("/llm-engine/v1/llm/completions-sync", b"{}", b"application/json", b'{"detail":"A key is needed'),
        Shape("/v1/llm/completions-stream", b'{"stream":true}', b"application/json", b'{"detail":"A key is needed'),
        Shape("/egp/v2/completions", b'{"stream":false}', b"application/json", b'{"detail":"A key is needed'),
        # Its client looks at no status of a stream: what it parses is no completion, and raises.
        Shape("/egp/v2/completions", b'{"stream":true}', b"text/event-stream", b"data: error 401: A key is needed"),
        Shape("/egp/v2/completions", b"\xff", b"application/json", b'{"detail":'),
        Shape("/invocations", b'{"stream":true}', b"application/json", b'{"error":'),
    ],
    ids=lambda case: f"{case.path} {case.body[:16]!r}",
)
async def test_a_refusal_has_the_shape_of_the_api_whose_path_it_is(directory: Path, case: Shape) -> None:
    start, end = await Client(directory).ask(path=case.path, method="POST", body=case.body)
    headers = dict(start["headers"])
    assert (start["status"], headers[b"www-authenticate"]) == (401, b"Bearer")
    assert headers[b"content-type"] == case.content_type
    assert end["body"].startswith(case.starts)


async def test_a_refusal_does_not_wait_for_a_body_that_does_not_end(directory: Path) -> None:
    client = Client(directory)
    client.more = True
    start, end = await client.ask(path="/egp/v2/completions", method="POST", body=b'{"stream":true}' + b" " * 1000)
    assert (start["status"], json.loads(end["body"]).keys()) == (401, {"detail"})


async def test_an_api_that_is_not_served_refuses_as_openai(directory: Path) -> None:
    client = Client(directory)
    client.guard = keys.Keys(client.application, str(directory), apis=("OpenAI",))
    _, end = await client.ask(path="/egp/v2/completions", method="POST", body=b'{"stream":true}')
    assert end["body"].startswith(b'{"error":')


async def test_a_websocket_is_refused_before_it_is_accepted(directory: Path) -> None:
    client = Client(directory)
    (closed,) = await client.ask(type="websocket", path="/health")
    assert closed["type"] == "websocket.close"
    start, end = await client.ask(type="websocket", extensions={"websocket.http.response": {}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert (end["type"], client.reached) == ("websocket.http.response.body", 0)


async def test_the_lifespan_of_the_application_needs_no_key(directory: Path) -> None:
    client = Client(directory)
    await client.ask(type="lifespan")
    assert client.reached == 1


async def test_a_changed_secret_takes_effect_within_a_second(directory: Path, capsys: Any) -> None:
    client = Client(directory)
    old, new = FORMS["Bearer"]("key-one"), FORMS["Bearer"]("key-new")
    assert await client.status(old) == 200
    write_secret(directory, one="key-one", next="key-new")
    assert await client.status(new) == 401
    client.now += keys.LOOK_SECONDS
    assert await client.status(new) == await client.status(old) == 200
    write_secret(directory, next="key-new")
    client.now += keys.LOOK_SECONDS
    assert (await client.status(new), await client.status(old)) == (200, 401)
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"(berth) The keys have changed: there are {count} now." for count in (2, 1)]
    assert said.out == ""


async def test_a_version_that_is_replaced_while_it_is_read_is_read_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.listdir

    def replaced_meanwhile(path: str) -> list[str]:
        found = listed(path)
        monkeypatch.undo()
        write_secret(directory, one="key-new")
        return found

    client = Client(directory)
    monkeypatch.setattr(os, "listdir", replaced_meanwhile)
    assert await client.status(FORMS["Bearer"]("key-new")) == 200


async def test_without_any_key_nobody_is_admitted_but_the_launcher(directory: Path, capsys: Any) -> None:
    client = Client(directory)
    write_secret(directory, one="\n")
    for _ in range(2):
        client.now += keys.LOOK_SECONDS
        start, end = await client.ask(FORMS["Bearer"]("key-one"))
        assert start["status"] == 503
        assert b"spec.server.apiKeySecretRef has no key in it" in end["body"]
        assert await client.status(FORMS["Bearer"]("")) == 503
    assert await client.status(FORMS["x-api-key"](OWN)) == 200
    assert len(capsys.readouterr().err.splitlines()) == 1
    write_secret(directory, one="key-one")
    client.now += keys.LOOK_SECONDS
    assert await client.status(FORMS["Bearer"]("key-one")) == 200


@pytest.mark.parametrize("directory", ["", "/nowhere/keys", "/proc/self/environ"])
async def test_without_a_readable_directory_nobody_is_admitted(directory: str) -> None:
    start, end = await Client(directory).ask(FORMS["Bearer"]("key-one"))
    assert start["status"] == 503
    assert b"spec.server.apiKeySecretRef cannot be read: " in end["body"]
    assert await Client(directory).status(path="/health") == 200


async def test_without_a_key_of_its_own_the_launcher_is_a_stranger(directory: Path) -> None:
    client = Client(directory)
    ((middleware, options),) = keys.layer({keys.DIRECTORY_VARIABLE: str(directory)}, APIS)
    client.guard = middleware(client.application, **options)
    assert await client.status(FORMS["x-api-key"]("")) == 401
    assert await client.status(FORMS["x-api-key"](OWN)) == 401
    assert await client.status(FORMS["x-api-key"]("key-one")) == 200


def test_keys_are_checked_only_where_a_directory_is_named() -> None:
    assert keys.layer({keys.LAUNCHER_VARIABLE: "x"}, APIS) == []
    ((_, options),) = keys.layer({keys.DIRECTORY_VARIABLE: "", keys.LAUNCHER_VARIABLE: "x"}, APIS)
    assert options == {"directory": "", "own": "x", "apis": APIS}


def test_the_launcher_makes_a_key_of_its_own_at_each_start_where_keys_are_needed() -> None:
    command = ["vllm", "serve", "/m"]
    given = {keys.DIRECTORY_VARIABLE: "/keys", keys.LAUNCHER_VARIABLE: "from-outside"}
    made = [read_command(command, with_launcher_key(given)).launcher_key for _ in range(2)]
    assert made[0] != made[1]
    assert all(key and len(key) > 30 for key in made)


def test_a_start_without_any_key_says_why(directory: Path, tmp_path: Path) -> None:
    keys.check({})
    keys.check({keys.DIRECTORY_VARIABLE: str(directory)})
    write_secret(directory)
    for where, why in ((directory, "has no key in it"), (tmp_path / "nowhere", "cannot be read by uid")):
        with pytest.raises(Failure, match=why) as raised:
            keys.check({keys.DIRECTORY_VARIABLE: str(where)})
        assert raised.value.reason == "KeysMissing"
        assert "spec.server.apiKeySecretRef" in str(raised.value)
