"""Quantities: the grammar of Kubernetes, values compared as numbers."""

from decimal import Decimal
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.api.quantity import format_quantity, parse_quantity


class Case(NamedTuple):
    name: str
    given: object
    expect: Decimal | None


CASES = [
    Case("an integer", 3, Decimal(3)),
    Case("an integer as text", "3", Decimal(3)),
    Case("a decimal", "0.5", Decimal("0.5")),
    Case("a decimal without digits in front", ".5", Decimal("0.5")),
    Case("a decimal without digits behind", "5.", Decimal(5)),
    Case("a sign", "-1", Decimal(-1)),
    Case("nano", "1n", Decimal("1e-9")),
    Case("micro", "1u", Decimal("1e-6")),
    Case("milli", "1500m", Decimal("1.5")),
    Case("kilo is a small k", "2k", Decimal(2000)),
    Case("mega", "2M", Decimal(2_000_000)),
    Case("giga", "1.5G", Decimal(1_500_000_000)),
    Case("kibi", "1Ki", Decimal(1024)),
    Case("gibi", "16Gi", Decimal(16 * 1024**3)),
    Case("exa is not an exponent", "1E", Decimal(10**18)),
    Case("exbi", "1Ei", Decimal(1024**6)),
    Case("exponent", "2e3", Decimal(2000)),
    Case("capital exponent with a sign", "2E-3", Decimal("0.002")),
    Case("a capital K is none", "1K", None),
    Case("a byte unit is none", "16GB", None),
    Case("a space is none", "16 Gi", None),
    Case("empty is none", "", None),
    Case("a word is none", "lots", None),
    Case("nothing is none", None, None),
    Case("a truth value is none", True, None),
    Case("a line feed at the end is none", "1\n", None),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_parse(case: Case) -> None:
    assert parse_quantity(case.given) == case.expect


@given(st.integers(0, 2**50), st.integers(0, 2**50))
def test_order_is_that_of_the_numbers(one: int, other: int) -> None:
    low, high = parse_quantity(f"{one}m"), parse_quantity(f"{other}m")
    assert low is not None and high is not None
    assert (low < high) == (one < other)


@given(st.integers(0, 2**40))
def test_spellings_of_one_value_are_equal(kibi: int) -> None:
    assert parse_quantity(f"{kibi}Ki") == parse_quantity(kibi * 1024) == parse_quantity(f"{kibi * 1024 * 1000}m")


def test_every_suffix_is_larger_than_the_one_before() -> None:
    suffixes = ["n", "u", "m", "", "k", "Ki", "M", "Mi", "G", "Gi", "T", "Ti", "P", "Pi", "E", "Ei"]
    values = [parse_quantity(f"1{suffix}") for suffix in suffixes]
    assert None not in values
    assert values == sorted(values)  # type: ignore[type-var]


class Text(NamedTuple):
    name: str
    given: tuple[str, str]
    expect: str


TEXTS = [
    Text("gpus are whole", ("8", "nvidia.com/gpu"), "8"),
    Text("hundreds are not an exponent", ("100", "nvidia.com/gpu"), "100"),
    Text("part of a cpu", ("1500m", "cpu"), "1.5"),
    Text("memory in GiB", ("1536Mi", "memory"), "1.5Gi"),
    Text("a whole GiB", ("1Gi", "memory"), "1.0Gi"),
    Text("just under a GiB", ("1023Mi", "memory"), "1023Mi"),
    Text("little memory in MiB", ("10Mi", "memory"), "10Mi"),
    Text("no memory", ("0", "memory"), "0Mi"),
    Text("disk", ("40Gi", "ephemeral-storage"), "40.0Gi"),
]


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case.name)
def test_format(case: Text) -> None:
    value = parse_quantity(case.given[0])
    assert value is not None
    assert format_quantity(value, case.given[1]) == case.expect
