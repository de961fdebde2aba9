"""The load's judge of answers, and its ways to send: what the drain tests and those of zero count."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest

from local.model import PAGE as PAGE_OF_THE_MODEL
from tests import load
from tests.load import Load
from tests.waiting import eventually

BODY, STREAMED = ({"max_tokens": 3, **more} for more in ({}, {"stream": True}))
PAGE = " harbour at dawn"


def event(text: str = "", reason: str | None = None, tokens: int = 3, **more: Any) -> dict[str, Any]:
    choices = [{"text": text, "finish_reason": reason}]
    return {"choices": choices, "usage": {"completion_tokens": tokens}, **more}


def whole(**changes: Any) -> str:
    return json.dumps(event(**{"text": " harbour", "reason": "length", **changes}))


def stream(*events: Any) -> str:
    return "".join(f"data: {item if isinstance(item, str) else json.dumps(item)}\n\n" for item in events)


LAST = {"choices": [], "usage": {"completion_tokens": 3}}


@pytest.mark.parametrize(
    ("body", "status", "text", "wrong"),
    [
        (BODY, 200, whole(), None),
        (BODY, 500, "cannot schedule new futures after shutdown", "failed"),
        (BODY, 200, whole(reason="abort"), "cut off"),
        (BODY, 200, whole(reason=None), "cut off"),
        (BODY, 200, whole(tokens=2), "cut off"),
        (BODY, 200, whole(text=" harbor"), "cut off"),
        (BODY, 200, whole(text=""), "cut off"),
        (STREAMED, 200, stream(event(" har"), event("bour", "length"), LAST, "[DONE]"), None),
        (STREAMED, 200, stream(event(" har"), event("bour", "length"), LAST), "cut off"),
        (STREAMED, 200, stream(event(" har"), event("bour", "abort"), LAST, "[DONE]"), "cut off"),
        (STREAMED, 200, stream(event(" har"), event("bour"), LAST, "[DONE]"), "cut off"),
        (STREAMED, 200, stream(event(" bour", "length"), LAST, "[DONE]"), "cut off"),
        (STREAMED, 200, stream(event(" har"), {"error": {"code": 500}}, "[DONE]"), "failed"),
        (STREAMED, 200, "", "cut off"),
    ],
)
def test_only_whole_and_true_answers_pass(body: dict[str, Any], status: int, text: str, wrong: str | None) -> None:
    found = load.problem(body, PAGE, status, text)
    assert (found or "").partition(":")[0] == (wrong or "")


def test_every_question_is_asked_streamed_and_not() -> None:
    asked = [load.question("m", number)[0] for number in range(2 * len(load.QUESTIONS))]
    assert len({(body["prompt"], body.get("stream", False)) for body in asked}) == 2 * len(load.QUESTIONS)


def test_the_table_counts_by_scenario_and_client() -> None:
    answers = [
        load.Answer("roll", "httpx", None),
        load.Answer("roll", "httpx", "failed: 500"),
        load.Answer("roll", "httpx", "cut off: abort"),
    ]
    assert load.table(answers).splitlines()[-1] == "| roll | httpx | 3 | 1 | 1 |"


class _Server(ThreadingHTTPServer):
    request_queue_size = 512  # all come at once


class Knowing:
    """A server that knows the page by heart; a context manager. keys: of all requests.  connections: how many came.

    idle: cleared, requests wait until it is set.
    """

    def __enter__(self) -> Self:
        self.keys: list[str | None] = []
        self.connections = 0
        self.idle = threading.Event()
        self.idle.set()
        self.server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,)).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def _handler(knowing: Knowing) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            knowing.connections += 1

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            knowing.keys.append(self.headers["Authorization"])
            knowing.idle.wait(120)
            page = PAGE_OF_THE_MODEL
            text = page[page.index(body["prompt"]) + len(body["prompt"]) :][:8]
            whole_event = event(text, "length", body["max_tokens"])
            # A comment, as of a gateway that waits for a pod, is no part of the answer.
            streamed = ": waking, about 40 s\n\n" + stream(whole_event, "[DONE]")
            answer = (streamed if body.get("stream") else json.dumps(whole_event)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.mark.parametrize("fresh", [False, True], ids=["pooled", "fresh"])
def test_requests_share_connections_or_have_one_each_and_bear_the_key(fresh: bool) -> None:
    with (
        Knowing() as server,
        Load(server.url, "m", 1, every_seconds=0.02, key="sk-a", fresh=fresh, way="by url") as clients,
    ):
        eventually(lambda: len(clients.answers) >= 60, 30, "answers")
    assert clients.problems() == []
    assert clients.waiting == 0
    assert set(server.keys) == {"Bearer sk-a"}
    assert {answer.client.split(", ", 1)[1] for answer in clients.answers} == {"by url", "by url, seldom"}
    if fresh:
        assert server.connections == len(clients.answers)
    else:
        assert server.connections < len(clients.answers) / 2


def test_a_timetable_is_kept_and_what_it_missed_is_not_made_up_for() -> None:
    moments = iter([10.0, 10.1, 10.2, 30.0, 30.1])
    ticks = load.timetable(0.5, lambda: next(moments))
    assert [next(ticks) for _ in range(5)] == [(0, 10.0), (1, 10.5), (2, 11.0), (3, 30.0), (4, 30.5)]


def test_a_pause_lets_what_was_sent_be_answered_and_keeps_the_pools() -> None:
    with Knowing() as server, Load(server.url, "m", 1, every_seconds=0.02) as clients:
        eventually(lambda: clients.answers, 30, "an answer")
        server.idle.clear()
        eventually(lambda: clients.waiting >= 3, 30, "requests that wait")
        clients.pause()
        server.idle.set()
        eventually(lambda: not clients.waiting, 30, "their answers")
        sent, connections = len(server.keys), server.connections
        assert not server_is_asked(server, sent, 10 * 0.02)
        clients.resume()
        eventually(lambda: len(server.keys) > sent, 30, "requests again")
        clients.pause()
        eventually(lambda: not clients.waiting, 30, "their answers")
        assert server.connections - connections < len(server.keys) - sent, "the pools are the same"
    assert clients.problems() == []


def server_is_asked(server: Knowing, sent: int, seconds: float) -> bool:
    """Whether another request comes within that time."""
    waiting = threading.Event()

    def look() -> None:
        while len(server.keys) == sent and not waiting.is_set():
            waiting.wait(0.02)

    looking = threading.Thread(target=look)
    looking.start()
    looking.join(seconds)
    waiting.set()
    looking.join()
    return len(server.keys) != sent


def test_many_wait_at_once() -> None:
    with Knowing() as server:
        server.idle.clear()
        with Load(server.url, "m", 60, every_seconds=float("inf"), fresh=True) as clients:
            # Those that ask seldom go on asking.
            eventually(lambda: clients.waiting >= 3 * 60 + 3, 60, "all of them")
            eventually(lambda: len(server.keys) >= 3 * 60 + 3, 60, "all of them, also those of threads")
            clients.pause()
            server.idle.set()
            eventually(lambda: not clients.waiting, 60, "their answers")
    often = [answer for answer in clients.answers if "seldom" not in answer.client]
    assert len(often) == 3 * 60
    assert len(clients.answers) == len(server.keys) == server.connections
    assert clients.problems() == []
    assert max(answer.seconds for answer in clients.answers) > 0
