"""Requests that could be read in two ways: what becomes of each, in whatever pieces it comes."""

import pytest

from berth_gateway import reading
from tests.unit.gateway.corpus import LARGE_REQUESTS, REQUESTS, Outcome, cut, read


@pytest.mark.parametrize(("data", "outcome"), REQUESTS.values(), ids=REQUESTS.keys())
def test_a_request_is_read_or_refused(data: bytes, outcome: Outcome) -> None:
    reading._known.clear()
    assert read([data])[0] == outcome
    assert read([data])[0] == outcome, "from heads that were seen before"


@pytest.mark.parametrize(("data", "outcome"), REQUESTS.values(), ids=REQUESTS.keys())
def test_a_request_in_two_pieces_is_the_same_request(data: bytes, outcome: Outcome) -> None:
    for at in range(1, len(data)):
        assert read(cut(data, [at]))[0] == outcome, at


@pytest.mark.parametrize(("data", "outcome"), REQUESTS.values(), ids=REQUESTS.keys())
def test_a_request_byte_by_byte_is_the_same_request(data: bytes, outcome: Outcome) -> None:
    reading._known.clear()
    assert read(cut(data, range(len(data))))[0] == outcome


@pytest.mark.parametrize(("data", "outcome"), LARGE_REQUESTS.values(), ids=LARGE_REQUESTS.keys())
def test_a_large_request_is_read_or_refused_in_whatever_pieces(data: bytes, outcome: Outcome) -> None:
    near = {limit + by for limit in (8192, 65536, len(data)) for by in range(-6, 7)}
    assert read([data])[0] == outcome
    for at in sorted({*near, *range(1, len(data), 997)}):
        assert read(cut(data, [at]))[0] == outcome, at
    assert read(cut(data, range(0, len(data), 100)))[0] == outcome
    assert read(cut(data, [*near, *range(0, len(data), 1000)]))[0] == outcome
