"""When a silent engine counts as stuck: from the text of vLLM's metrics and a clock value."""

from __future__ import annotations

import pytest

from berth_server import motion
from berth_server.motion import QUIET_SECONDS, STILL_SECONDS, Motion

T0 = 1000.0


def metrics(running: int = 0, waiting: int = 0, generated: int = 7, awake: int = 1, cache: float = 0.0) -> str:
    return (
        "# TYPE vllm:num_requests_running gauge\n"
        f'vllm:num_requests_running{{engine="0",model_name="a"}} {running}.0\n'
        f'vllm:num_requests_waiting{{engine="0",model_name="a"}} {waiting}.0\n'
        'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 4.0\n'
        f'vllm:kv_cache_usage_perc{{engine="0",model_name="a"}} {cache}\n'
        f'vllm:generation_tokens_total{{engine="0",model_name="a"}} {generated}.0\n'
        f'vllm:engine_sleep_state{{engine="0",sleep_state="awake"}} {awake}.0\n'
        'http_requests_total{handler="/v1/completions"} 3.0\n'
    )


def seen(*texts: str, each_seconds: float = 10.0) -> Motion:
    """After looks at these texts, the first at T0."""
    state = Motion()
    for step, text in enumerate(texts):
        state = motion.after(state, text, T0 + step * each_seconds)
    return state


def test_requests_in_flight_are_summed_over_engines_and_states() -> None:
    text = metrics(running=2, waiting=4) + 'vllm:num_requests_running{engine="1",model_name="a"} 1.0\n'
    assert motion.in_flight(text) == 7.0
    assert motion.in_flight("# nothing") is None


def test_requests_that_wait_over_a_still_engine_are_a_hang() -> None:
    state = seen(metrics(running=1), metrics(running=1))
    assert motion.still_seconds(state, T0 + 20) == 20
    assert not motion.stuck(state, T0 + STILL_SECONDS)
    assert motion.stuck(state, T0 + STILL_SECONDS + 1)


@pytest.mark.parametrize(
    "moved", [metrics(running=1, generated=8), metrics(running=2), metrics(running=1, waiting=1), metrics(1, cache=0.5)]
)
def test_any_gauge_or_counter_of_the_engine_is_motion(moved: str) -> None:
    state = seen(metrics(running=1), moved, each_seconds=STILL_SECONDS)
    assert not motion.stuck(state, T0 + STILL_SECONDS + 1)


def test_what_clients_do_is_no_motion() -> None:
    state = seen(metrics(running=1), metrics(running=1).replace("} 3.0", "} 4.0"), each_seconds=STILL_SECONDS + 1)
    assert motion.stuck(state, T0 + STILL_SECONDS + 1)


def test_an_idle_engine_is_no_hang_and_is_asked_only_while_somebody_is_connected() -> None:
    state, later = seen(metrics()), T0 + QUIET_SECONDS + 1
    assert motion.still_seconds(state, T0 + 10**6) == 0
    assert motion.must_ask(state, True, later)
    assert not motion.must_ask(state, False, later)
    assert not motion.must_ask(state, True, T0 + QUIET_SECONDS)
    # One that has requests needs no more of them.
    assert not motion.must_ask(seen(metrics(running=1)), True, later)


def test_a_token_that_does_not_come_is_a_hang() -> None:
    state = motion.asked(seen(metrics()), T0 + 100)
    assert not motion.must_ask(state, True, T0 + 10**6)
    assert not motion.stuck(state, T0 + 100 + STILL_SECONDS)
    assert motion.stuck(state, T0 + 101 + STILL_SECONDS)


def test_a_token_that_comes_late_ends_it() -> None:
    state = motion.asked(seen(metrics()), T0 + 100)
    moved = motion.after(state, metrics(generated=8), T0 + 120)
    assert motion.still_seconds(moved, T0 + 10**6) == 0
    answered = motion.answered(state, T0 + 120)
    assert motion.still_seconds(answered, T0 + 10**6) == 0
    assert not motion.must_ask(answered, True, T0 + 120 + QUIET_SECONDS)


@pytest.mark.parametrize("text", ["", "# --disable-log-stats\n", metrics(running=1, awake=0)])
def test_nothing_is_concluded_where_nothing_can_be_seen(text: str) -> None:
    state = seen(text, text, each_seconds=STILL_SECONDS)
    assert not motion.stuck(state, T0 + STILL_SECONDS + 1)
