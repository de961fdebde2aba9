"""Answers of the gateway's own, as a client's HTTP library reads them."""

from __future__ import annotations

import http.client
import io
import json

import pytest

import berth_apis
from berth_apis import scale_egp
from berth_apis.http import Answer, Failure, Request
from berth_gateway import refusing


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def read(data: bytes, method: str = "POST") -> tuple[http.client.HTTPResponse, bytes]:
    """As a client reads it, and its body."""
    found = http.client.HTTPResponse(_Socket(data), method=method)  # type: ignore[arg-type]
    found.begin()
    return found, found.read()


@pytest.mark.parametrize("dialect", berth_apis.DIALECTS, ids=lambda dialect: dialect.NAME)
def test_a_refusal_arrives_in_the_shape_of_its_api(dialect: object) -> None:
    failure = Failure(503, "Not now.", retry_after_seconds=7)
    answer: Answer = dialect.failure(failure, Request("POST", "/", {}, {}, b""))  # type: ignore[attr-defined]
    response, body = read(refusing.written(answer, to_head=False, close=False))
    assert (response.status, response.reason, response.getheader("retry-after")) == (503, "Service Unavailable", "7")
    assert response.getheader("content-type") == "application/json"
    assert "Not now." in json.dumps(json.loads(body))
    assert not response.will_close


def test_an_error_of_a_stream_is_told_as_an_event() -> None:
    request = Request("POST", "/v2/completions", {}, {}, b'{"stream":true}')
    answer = scale_egp.failure(Failure(404, "No such model."), request)
    response, body = read(refusing.written(answer, to_head=False, close=True))
    assert (response.status, response.getheader("content-type")) == (404, "text/event-stream")
    assert body == b"data: error 404: No such model.\n\n"
    assert response.will_close


def test_a_head_request_is_answered_without_a_body() -> None:
    out = refusing.written(refusing.plain(200, "ok\n"), to_head=True, close=False)
    assert out.endswith(b"\r\n\r\n")
    response, body = read(out, "HEAD")
    assert (response.status, response.getheader("content-length"), body) == (200, "3", b"")


def test_a_header_more() -> None:
    answer = refusing.with_header(refusing.plain(401, "no"), "WWW-Authenticate", "Bearer")
    response, body = read(refusing.written(answer, to_head=False, close=False))
    assert (response.getheader("www-authenticate"), body) == ("Bearer", b"no")


@pytest.mark.parametrize(("status", "reason"), [(421, "Misdirected Request"), (599, "Unknown"), (413, None)])
def test_every_status_has_a_reason(status: int, reason: str | None) -> None:
    response, _ = read(refusing.written(refusing.plain(status, ""), to_head=False, close=False))
    assert response.status == status
    assert response.reason == reason if reason else response.reason
