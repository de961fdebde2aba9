"""The benchmark of the APIs: that it asks the same of both ways, and what it makes of figures."""

import asyncio

import pytest

from tests.bench import apis


@pytest.mark.parametrize("stream", [False, True])
def test_every_api_answers_what_the_benchmark_asks(stream: bool) -> None:
    for case in apis.cases(stream):
        app = apis.Replay()
        asyncio.run(apis.ask(apis.translated(app), *case.at(engine=False)))
        asyncio.run(apis.ask(app, *case.at(engine=True)))
    with pytest.raises(RuntimeError, match="status 404"):
        asyncio.run(apis.ask(apis.translated(app), "/egp/v4/nothing", "", b""))


def test_memory_of_open_streams_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apis, "STREAMS", 20)
    assert 1 < asyncio.run(apis.open_streams_kb(apis.cases(stream=True)[0])) < 100


def test_the_interval_holds_the_median() -> None:
    median, low, high = apis.interval([1.0, 1.1, 1.2, 1.3, 9.0])
    assert (median, low, high) == (1.2, 1.0, 9.0)


def test_the_page_has_the_bounds_beside_the_figures() -> None:
    page = apis.render([["X", "0.100", "0.0100", "9.0"]], [["X", "whole", "1.01", "1.00 … 1.02"]], 7)
    assert "| X | 0.100 | 0.0100 | 9.0 |" in page
    assert "| *bound* | ≤ 0.5 | ≤ 0.1 |  |" in page
    assert "7 turns" in page
