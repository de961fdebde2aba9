"""Which of kopf's log lines are passed on."""

import logging
import sys
from types import TracebackType

import aiohttp
import pytest
from kopf._cogs.clients.errors import APIClientError, APIServerError

from berth.telemetry.logs import worth_telling

Raised = tuple[type[BaseException], BaseException, TracebackType | None]


def raised(error: Exception) -> Raised:
    try:
        raise error
    except type(error):
        kind, value, trace = sys.exc_info()
        assert kind is not None
        assert value is not None
        return kind, value, trace


def record(name: str, message: str, error: Exception | None = None) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "x.py", 1, message, (), raised(error) if error else None)


@pytest.mark.parametrize(
    "error",
    [
        APIClientError({"message": "too old resource version"}, status=410, headers={}),  # type: ignore[arg-type]
        APIServerError(None, status=503, headers={}),
        aiohttp.ClientConnectionError("reset"),
    ],
)
def test_an_outage_has_no_traceback_of_kopf(error: Exception) -> None:
    assert not worth_telling(record("kopf._core.reactor.orchestration", "Watcher for x has failed: …", error))
    lost = "Task exception was never retrieved\nfuture: <Task … defined at /x/kopf/_cogs/clients/scanning.py:60>"
    assert not worth_telling(record("asyncio", lost, error))


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    assert worth_telling(record("kopf._core.reactor.running", "Resource observer has failed: …", TypeError("x")))
    assert worth_telling(record("asyncio", "Task exception was never retrieved", aiohttp.ClientError("ours")))
    assert worth_telling(record("berth.workers", "reconcile_failed", aiohttp.ClientError("ours")))


def test_attempts_of_one_request_are_told_more_and_more_seldom() -> None:
    told = [
        attempt
        for attempt in range(1, 70)
        if worth_telling(record("kopf.x", f"Request attempt #{attempt} failed; will retry: GET http://x -> y"))
    ]
    assert told == [1, 2, 4, 8, 16, 32, 64]
