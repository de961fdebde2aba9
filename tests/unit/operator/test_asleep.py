"""The steps to zero and back, and what may sleep."""

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.decide.asleep import SETTLED_SECONDS, Seen, Step, about, moved, proof, proven, sleeps, step
from tests.builders import parsed

SERVES = Seen(wanted=1, live=1, sleeps=True, gateways=True, backed_seconds=None, serving_seconds=60.0)
TIRED = SERVES._replace(wanted=0)
ASLEEP = TIRED._replace(live=0, backed_seconds=600.0, serving_seconds=None)
WAKES = ASLEEP._replace(wanted=3)


class Case(NamedTuple):
    name: str
    seen: Seen
    expect: Step


CASES = [
    Case("serves: pods alone", SERVES, Step(1, False)),
    Case("about to sleep: the gateway comes first", TIRED, Step(1, True, 2.0)),
    Case("the gateway is there for a moment", TIRED._replace(backed_seconds=0.5), Step(1, True, 1.5)),
    Case("the gateway is known by every node", TIRED._replace(backed_seconds=2.0), Step(0, True)),
    Case("no gateway is ready: the last one stays", TIRED._replace(gateways=False), Step(1, True)),
    Case("the gateway has gone again", TIRED._replace(gateways=False, backed_seconds=60.0), Step(1, True)),
    Case("asked for after all", SERVES._replace(backed_seconds=1.0), Step(1, False)),
    Case("asleep", ASLEEP, Step(0, True)),
    Case("asleep without a gateway", ASLEEP._replace(gateways=False, backed_seconds=None), Step(0, True)),
    Case("wakes with as many as are needed", WAKES, Step(3, True)),
    Case("starts", WAKES._replace(live=3), Step(3, True)),
    Case("a pod takes requests", WAKES._replace(live=3, serving_seconds=0.0), Step(3, True, 2.0)),
    Case("every node knows of the pod", WAKES._replace(live=3, serving_seconds=2.0), Step(3, False)),
    Case("its pods have failed", SERVES._replace(serving_seconds=None), Step(1, True)),
    Case("a first start", SERVES._replace(live=0, serving_seconds=None), Step(1, True)),
    Case("may not sleep any more, and starts", WAKES._replace(sleeps=False), Step(3, True)),
    Case("may not sleep any more, and a pod takes requests",
         WAKES._replace(sleeps=False, serving_seconds=1.0), Step(3, True, 1.0)),
    Case("may not sleep any more", WAKES._replace(sleeps=False, serving_seconds=2.0), Step(3, False)),
    Case("asleep, and zero is what the spec says now", ASLEEP._replace(sleeps=False), Step(0, False)),
    Case("zero is what the spec says", TIRED._replace(sleeps=False), Step(0, False)),
    Case("zero is what the spec says, and there is no gateway",
         TIRED._replace(sleeps=False, gateways=False), Step(0, False)),
    Case("never slept and starts", SERVES._replace(sleeps=False, serving_seconds=None), Step(1, False)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_step(case: Case) -> None:
    assert step(case.seen) == case.expect


SECONDS = st.none() | st.floats(0, 10)


@given(st.builds(Seen, st.integers(0, 3), st.integers(0, 3), st.booleans(), st.booleans(), SECONDS, SECONDS))
def test_the_last_replica_goes_only_when_the_gateway_has_long_been_in_its_place(seen: Seen) -> None:
    found = step(seen)
    if seen.live > 0 and found.replicas == 0 and seen.sleeps:
        assert seen.wanted == 0
        assert seen.gateways
        assert seen.backed_seconds is not None
        assert seen.backed_seconds >= SETTLED_SECONDS
    if found.replicas == 0:
        assert found.backed == seen.sleeps


@given(st.builds(Seen, st.integers(0, 3), st.integers(0, 3), st.just(True), st.booleans(), SECONDS, SECONDS))
def test_the_gateway_leaves_only_when_a_pod_has_long_taken_requests(seen: Seen) -> None:
    found = step(seen)
    if seen.backed_seconds is not None and not found.backed:
        assert seen.serving_seconds is not None
        assert seen.serving_seconds >= SETTLED_SECONDS


@given(st.integers(0, 3), st.integers(0, 3), st.floats(0, 10))
def test_time_alone_leads_to_the_end_and_nothing_more_is_to_do_there(wanted: int, live: int, starts_in: float) -> None:
    """A cluster that does what is asked, and a pod that is ready some time after the first replica was asked for."""
    seen = Seen(wanted, live, True, True, None, 5.0 if live else None)
    now, backed_at, ready_at = 0.0, None, -5.0 if live else None
    for _ in range(20):
        found = step(seen)
        if found.replicas and not seen.live:
            ready_at = now + starts_in
        backed_at = (now if backed_at is None else backed_at) if found.backed else None
        serves = found.replicas > 0 and ready_at is not None and now >= ready_at
        seen = seen._replace(
            live=found.replicas,
            backed_seconds=None if backed_at is None else now - backed_at,
            serving_seconds=now - ready_at if serves and ready_at is not None else None,
        )
        now += found.again_seconds or 1.0
    found = step(seen)
    assert (found, seen.live) == (Step(wanted, wanted == 0), wanted)


def test_only_what_has_a_lower_bound_of_zero_and_is_not_suspended_sleeps() -> None:
    assert sleeps(parsed(scaling={"min": 0, "max": 2}))
    assert not sleeps(parsed(scaling={"min": 1, "max": 2}))
    assert not sleeps(parsed(scaling={"min": 0, "max": 2}, suspend=True))
    assert not sleeps(parsed(replicas=0))


BASE: dict[str, Any] = {"scaling": {"min": 0, "max": 2}}


@pytest.mark.parametrize(
    "other",
    [{"scaling": {"min": 0, "max": 9}}, {"replicas": 3}, {"service": {"port": 81}}, {"rollout": {"maxSurge": 2}}],
    ids=lambda other: next(iter(other)),
)
def test_what_shapes_no_pod_needs_no_proof(other: dict[str, Any]) -> None:
    assert proof(parsed(**BASE | other)) == proof(parsed(**BASE))


@pytest.mark.parametrize(
    "other",
    [
        {"model": {"source": "hf://org/other"}},
        {"model": {"source": "hf://org/model", "servedNames": ["a"]}},
        {"server": {"args": {"seed": 1}}},
        {"resources": {"limits": {"memory": "1Gi"}}},
        {"storage": {"weights": {"emptyDir": {}}}},
        {"podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_shapes_a_pod_needs_another_proof(other: dict[str, Any]) -> None:
    assert proof(parsed(**BASE | other)) != proof(parsed(**BASE))


def test_a_default_that_a_new_version_changes_is_no_other_spec() -> None:
    said = parsed(**BASE, server={"args": {"seed": 1}})
    before = proof(said)
    said.spec.server.__dict__["image"] = "another/default"  # a value that nobody has set
    assert proof(said) == before


def test_what_was_proven_is_in_status() -> None:
    assert proven({"scaling": {"proven": "abc"}}) == "abc"
    assert proven({"scaling": {}}) is proven({}) is proven(None) is None


@pytest.mark.parametrize(
    ("before", "now", "expect"),
    [
        ({"a": 3.0}, {"a": 3.0}, False),
        ({"a": 3.0}, {"a": 4.0}, True),
        ({"a": 3.0}, {"a": 0.0}, True),
        ({"a": 3.0}, {}, False),
        ({}, {"a": 0.0}, False),
        ({}, {"a": 1.0}, True),
        ({"a": 3.0}, {"a": None}, True),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {"a": 3.0}, True),
    ],
    ids=["same", "more", "anew", "gone", "new and idle", "new and used", "unreadable", "still", "no longer"],
)
def test_counters_that_move_are_requests(
    before: dict[str, float | None], now: dict[str, float | None], expect: bool
) -> None:
    assert moved(before, now) == expect


def test_an_estimate_is_said_as_a_person_says_it() -> None:
    assert [about(seconds) for seconds in (None, 41.0, 100.0, 1200.0)] == [
        "",
        "about 41 s",
        "about 2 min",
        "about 20 min",
    ]
