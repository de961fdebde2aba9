"""Answers by chance, right and tampered with, through a connection to a pod: the pieces they come in change nothing."""

from __future__ import annotations

import gc
import re
import sys
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from berth_gateway import http1
from berth_gateway.exchange import Exchange
from berth_gateway.table import Pod
from berth_gateway.upstream import Upstream
from tests.unit.gateway import messages
from tests.unit.gateway.corpus import cut

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Played:
    """Transport and exchange at once: keeps what is written to the client, and what becomes of the answer."""

    method, told_at, sent_bytes = "POST", 0.0, 0

    def __init__(self, version: str = "1.1") -> None:
        self.version = version
        self.asked = self.client = self.transport = self
        self.came: list[bytes] = []
        self.became = "open"
        self.tail = b""
        self.closing = False

    is_refused_by_drain = staticmethod(Exchange.is_refused_by_drain)
    pass_on = Exchange.pass_on

    def write(self, data: bytes) -> None:
        self.came.append(data)

    def begin_answer(self, head: http1.Head, rest: bytes) -> None:
        self.came += [head.head, rest]

    def end_answer(self, tail: bytes) -> None:
        self.became, self.tail = "ended", tail

    def lose_answer(self, why: str) -> None:
        self.became = "lost"

    def set_write_buffer_limits(self, high: int) -> None:
        """There is nothing to slow down."""

    def get_write_buffer_size(self) -> int:
        return 0

    def resume_reading(self) -> None:
        """It never stops."""

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True


def connected(played: Played) -> Upstream:
    """A connection that has sent a request."""
    upstream = Upstream(Pod("pod", "127.0.0.1", 1, ready=False), float)
    upstream.connection_made(cast(Any, played))
    upstream.ask(cast(Any, played), b"")
    played.came.clear()
    return upstream


def relayed(pieces: list[bytes], version: str = "1.1") -> tuple[str, bytes]:
    """What became of an answer, and what a client of this version of HTTP got of it."""
    played = Played(version)
    upstream = connected(played)
    for piece in pieces:
        if not played.closing:
            upstream.data_received(piece)
    return played.became, b"".join(played.came)


def at_lines(data: bytes) -> list[bytes]:
    """In pieces that end where a line does: among them are whole chunks."""
    return cut(data, [found.end() for found in re.finditer(rb"\r\n", data)])


def at_chunks(data: bytes) -> list[bytes]:
    """The head, and pieces of two lines: a chunk with its size, where it has no line in it."""
    head = data.find(b"\r\n\r\n") + 4
    return cut(data, [head, *[found.end() for found in re.finditer(rb"\r\n", data) if found.end() > head][1::2]])


@given(
    messages.answers().flatmap(lambda right: messages.tampered(right[0])) | messages.answers().map(lambda a: a[0]),
    st.sampled_from(["1.1", "1.0"]),
)
@example(HEAD + b"5\r\nhello\r\n" * 3 + b"0\r\n\r\n", "1.1")
@example(HEAD + b"5\r\nhello\r\n" * 3 + b"0\r\n\r\n", "1.0")
@example(HEAD + b"5\r\nhello\r\n" + b"5\r\nhellox\n" + b"0\r\n\r\n", "1.1")
@example(HEAD + b"5\r\nhello\r\n" + b"6\r\nhello\r\n" + b"0\r\n\r\n", "1.1")
@example(HEAD + b"14\r\n5\r\n12345\r\n6\r\n1234567\r\n" + b"0\r\n\r\n", "1.1")
def test_the_pieces_of_an_answer_change_nothing(data: bytes, version: str) -> None:
    whole = relayed([data], version)
    for pieces in (at_lines(data), at_chunks(data), cut(data, range(len(data)))):
        became, came = relayed(pieces, version)
        assert became == whole[0]
        # What comes before the fault is passed on, as nobody can know of it.
        assert came == whole[1] or (became == "lost" and came.startswith(whole[1]))


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8), st.data())
def test_a_piece_that_looks_like_a_whole_chunk_may_be_part_of_one(events: list[bytes], data: st.DataObject) -> None:
    inner = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    outer = HEAD + b"%x\r\n" % len(inner) + inner + b"\r\n" + b"0\r\n\r\n"
    begin = len(HEAD) + outer[len(HEAD) :].index(b"\r\n") + 2
    places, at = [begin], begin
    for event in events:
        at += len(b"%x" % len(event)) + 4 + len(event)
        places.append(at)
    chosen = data.draw(st.sets(st.sampled_from(places)))
    assert relayed(cut(outer, chosen)) == ("ended", HEAD[:-2] + outer[len(HEAD) :])


@pytest.mark.parametrize("chunk", [b"5\r\nhellox\n", b"5\r\nhello\rx", b"4\r\nhello\r\n", b"5\n\nhello\r\n"])
def test_a_piece_as_long_as_a_chunk_is_read(chunk: bytes) -> None:
    assert relayed([HEAD, b"5\r\nhello\r\n", chunk]) == ("lost", HEAD[:-2] + b"5\r\nhello\r\n")


def test_an_event_costs_one_call_and_a_write_and_leaves_what_a_look_needs() -> None:
    played = Played()
    upstream = connected(played)
    upstream.data_received(HEAD + b"5\r\nfirst\r\n")
    events = [b"5\r\nhello\r\n", b"100\r\n%s\r\n" % (b"x" * 256), b"3\r\nyou\r\n"]
    called: list[str] = []
    upstream.quiet_seconds = 9
    # Whoever is told of collections would be counted.
    gc.disable()
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        for event in events:
            upstream.data_received(event)
    finally:
        sys.setprofile(None)
        gc.enable()
    assert called == ["data_received", "write"] * len(events)
    assert upstream.quiet_seconds == 0
    assert played.sent_bytes == len(b"".join(events))
    upstream.data_received(b"0\r\n\r\n")
    assert played.tail == b"".join(events) + b"0\r\n\r\n"
