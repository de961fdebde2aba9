"""Answers of pods: what becomes of each, in whatever pieces it comes, and where chunks end."""

import tracemalloc

import pytest

from berth_gateway import http1
from tests.unit.gateway.corpus import ANSWERS, LARGE_ANSWERS, TO_HEAD, Answered, cut, follow


@pytest.mark.parametrize(("data", "answered"), ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_is_understood_or_refused(data: bytes, answered: Answered) -> None:
    assert follow([data]) == answered


@pytest.mark.parametrize(("data", "answered"), ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_in_pieces_is_the_same_answer(data: bytes, answered: Answered) -> None:
    for at in range(1, len(data)):
        assert follow(cut(data, [at])) == answered, at
    assert follow(cut(data, range(len(data)))) == answered


@pytest.mark.parametrize(
    "name", ["JSON of uvicorn", "JSON of vLLM", "JSON of Berth's APIs", "a stream of vLLM", "a stream of Berth's APIs"]
)
def test_what_engines_send_is_read_at_a_glance(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(http1, "_read_head")
    data, answered = ANSWERS[name]
    assert follow([data]) == answered


@pytest.mark.parametrize(("data", "answered"), LARGE_ANSWERS.values(), ids=LARGE_ANSWERS.keys())
def test_a_large_head_is_understood_or_refused_in_whatever_pieces(data: bytes, answered: Answered) -> None:
    assert follow([data]) == answered
    for at in sorted({*range(65530, 65542), *range(len(data) - 12, len(data)), *range(1, len(data), 997)}):
        assert follow(cut(data, [at])) == answered, at
    assert follow(cut(data, range(0, len(data), 500))) == answered


@pytest.mark.parametrize(("data", "answered"), TO_HEAD.values(), ids=TO_HEAD.keys())
def test_an_answer_to_head_has_no_body_whatever_it_says(data: bytes, answered: Answered) -> None:
    assert follow([data], to_head=True) == answered
    assert follow(cut(data, range(len(data))), to_head=True) == answered


def test_a_head_is_read_from_where_it_begins() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    last = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    buffer = early + last + b"ok"
    first = http1.read_head(buffer, 0, False)
    assert first is not None
    assert (first[0].status, first[0].length, first[1]) == (103, 0, len(early))
    second = http1.read_head(buffer, first[1], False)
    assert second is not None
    assert (second[0].status, second[0].length, buffer[second[1] :]) == (200, 2, b"ok")
    assert second[0].head == last[:-2]


def test_the_data_of_chunks_is_given_when_it_is_wanted() -> None:
    body = b"3;a=b\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nx: 1\r\n\r\nmore"
    for _ in range(2):
        pieces: list[bytes] = []
        assert http1.Chunked().feed(body, pieces) == len(body) - len(b"more")
        assert pieces == [b"abc", b"0123456789abcdef"]
    assert http1.Chunked().feed(body) == len(body) - len(b"more")


def test_nothing_comes_after_the_last_chunk() -> None:
    chunked = http1.Chunked()
    assert chunked.feed(b"0\r\n\r\n") == 5
    assert chunked.feed(b"") == -1
    with pytest.raises(http1.BadAnswer):
        chunked.feed(b"0\r\n\r\n")


@pytest.mark.parametrize("size", [1, 9, 10, 254, 4095, 4096, 70000])
def test_a_size_that_was_seen_before_is_the_same_size(size: int) -> None:
    chunk = b"%x\r\n%s\r\n" % (size, b"\n" * size)
    chunked = http1.Chunked()
    for _ in range(3):
        assert chunked.feed(chunk) == -1
    assert chunked.feed(chunk * 3 + b"0\r\n\r\n") == len(chunk) * 3 + 5


@pytest.mark.parametrize("chunk", [b"5\r\nhello!\n", b"5\r\nhell\r\n\r\n", b"5\r\nhello\r\r", b"5\r\nhello\n\n"])
def test_a_size_that_was_seen_before_must_still_be_true(chunk: bytes) -> None:
    chunked = http1.Chunked()
    assert chunked.feed(b"5\r\nhello\r\n") == -1
    with pytest.raises(http1.BadAnswer):
        chunked.feed(chunk)


def test_a_usual_size_needs_the_end_of_its_line() -> None:
    chunked = http1.Chunked()
    # Two bytes where the chunk would end, were it counted from the beginning of the piece.
    chunk = b"1a\r\n" + b"x" * 23 + b"\r\n" + b"x\r\n"
    assert chunked.feed(chunk) == -1
    assert chunked.feed(chunk + b"1a\r") == -1
    assert chunked.feed(chunk[3:] + b"0\r\n\r\n") == len(chunk) - 3 + 5


@pytest.mark.parametrize("sizes", [(b"5", b"1"), (b"05", b"001")], ids=["as engines write", "otherwise"])
def test_chunks_are_bounded_together(sizes: tuple[bytes, bytes]) -> None:
    hello, x = (b"%s\r\n%s\r\n" % pair for pair in zip(sizes, (b"hello", b"x"), strict=True))
    chunked = http1.Chunked(most_bytes=11)
    assert chunked.feed(hello) == -1
    assert chunked.feed(hello) == -1
    assert chunked.feed(x) == -1
    with pytest.raises(http1.TooLarge):
        chunked.feed(x)


def test_a_whole_chunk_is_known_by_its_length() -> None:
    lines = dict(http1.SIZE_LINES)
    for size in range(1, 4096):
        line = b"%x\r\n" % size
        assert lines.pop(len(line) + size + 2) == line
    assert not lines


def test_following_a_long_stream_holds_nothing_of_it() -> None:
    chunked = http1.Chunked()
    chunk = b"1000\r\n" + bytes(4096) + b"\r\n"
    chunked.feed(chunk)
    tracemalloc.start()
    try:
        for _ in range(1000):
            chunked.feed(chunk[:100])
            chunked.feed(chunk[100:])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2000
