"""Usage by account, with a bound on how many there are."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from berth_server import accounts
from berth_server.accounts import Accounts


def value(registry: CollectorRegistry, account: str, kind: str = "") -> float | None:
    if kind:
        return registry.get_sample_value("berth_account_tokens_total", {"account": account, "kind": kind})
    return registry.get_sample_value("berth_account_requests_total", {"account": account})


def test_requests_and_tokens_are_counted() -> None:
    registry = CollectorRegistry()
    counted = Accounts(registry)
    counted.count("a", 3, 2)
    counted.count("a", 4, 1)
    counted.count("", 1, 1)
    assert (value(registry, "a"), value(registry, "a", "prompt"), value(registry, "a", "completion")) == (2, 7, 3)
    assert value(registry, "none") == 1


def test_there_is_a_bound_on_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MOST_ACCOUNTS", 2)
    registry = CollectorRegistry()
    counted = Accounts(registry)
    for name in ("a", "b", "c", "d", "a"):
        counted.count(name, 1, 1)
    assert [value(registry, name) for name in ("a", "b", "c", "other")] == [2, 1, None, 2]


def test_the_series_are_documented() -> None:
    registry = CollectorRegistry()
    Accounts(registry).count("a", 1, 1)
    page = (Path(__file__).parents[3] / "docs" / "apis.md").read_text()
    for metric in registry.collect():
        assert f"`{metric.name}_total`" in page
