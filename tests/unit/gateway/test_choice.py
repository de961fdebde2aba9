"""Which pod a request goes to.

Input: pods with requests in flight, prompts, failures at times that the test says. Output: the pod.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth_gateway import choice, paths
from berth_gateway.choice import affinity_of, choose, failed, worked
from berth_gateway.paths import Named
from berth_gateway.table import Endpoint, Pod, Table
from tests.unit.gateway.objects import endpoint, pods_slice

NOW = 1000.0


def made(*in_flight: int) -> Endpoint:
    """An endpoint whose pods, 1, 2 and so on, have so many requests in flight."""
    table = Table()
    found = table.put_endpoint(endpoint("a/llama"))
    table.put_slice(pods_slice("a/llama", *[str(number + 1) for number in range(len(in_flight))]))
    for pod, count in zip(found.ready, in_flight, strict=True):
        pod.in_flight = count
    return found


def chosen(found: Endpoint, times: int, affinity: bytes | None = None) -> list[str]:
    """Hosts of so many choices, one after the other, of requests that end at once."""
    pods = [choose(found, affinity, NOW) for _ in range(times)]
    return [pod.host for pod in pods if pod is not None]


def test_without_a_ready_pod_there_is_none_to_choose() -> None:
    assert choose(made(), None, NOW) is None
    assert choose(made(), b"x", NOW) is None


def test_the_pod_with_the_fewest_in_flight_is_chosen() -> None:
    assert chosen(made(3, 1, 2), 3) == ["2", "2", "2"]


def test_equal_pods_take_turns() -> None:
    assert chosen(made(0, 0, 0), 6) == ["1", "2", "3", "1", "2", "3"]


def test_turns_are_fair_beside_a_pod_that_is_busy() -> None:
    assert Counter(chosen(made(0, 5, 0, 0), 300)) == {"1": 100, "3": 100, "4": 100}


def test_turns_go_on_when_pods_come_and_go() -> None:
    found = made(0, 0, 0)
    chosen(found, 3)
    found.ready = found.ready[:1]
    assert chosen(found, 2) == ["1", "1"]


def test_requests_that_stay_are_spread_evenly() -> None:
    found = made(0, 0, 0)
    for _ in range(31):
        pod = choose(found, None, NOW)
        assert pod is not None
        pod.in_flight += 1
    assert sorted(pod.in_flight for pod in found.ready) == [10, 10, 11]


@pytest.mark.parametrize("affinity", [None, b"x"])
def test_a_pod_that_was_tried_is_not_chosen_again(affinity: bytes | None) -> None:
    found = made(0, 9, 9)
    tried: tuple[Pod, ...] = ()
    for _ in range(3):
        pod = choose(found, affinity, NOW, tried)
        assert pod is not None
        assert pod not in tried
        tried = (*tried, pod)
    assert choose(found, affinity, NOW, tried) is None


# Affinity.


def test_requests_that_begin_alike_go_to_one_pod_and_others_are_spread() -> None:
    found = made(*[0] * 5)
    assert all(len(set(chosen(found, 5, b"prompt %d" % number))) == 1 for number in range(50))
    counts = Counter(chosen(found, 1, b"prompt %d" % number)[0] for number in range(5000))
    assert set(counts) == {"1", "2", "3", "4", "5"}
    # Of 5,000 in five shares: eight standard deviations.
    assert all(abs(count - 1000) < 8 * math.sqrt(5000 * 0.2 * 0.8) for count in counts.values())


def test_a_pod_that_leaves_moves_only_its_own_prompts() -> None:
    found = made(*[0] * 5)
    keys = [b"prompt %d" % number for number in range(500)]
    before = {key: chosen(found, 1, key)[0] for key in keys}
    found.ready = [pod for pod in found.ready if pod.host != "3"]
    after = {key: chosen(found, 1, key)[0] for key in keys}
    assert {key for key in keys if before[key] != after[key]} == {key for key in keys if before[key] == "3"}


def test_the_order_of_pods_does_not_matter() -> None:
    found = made(*[0] * 5)
    before = chosen(found, 1, b"x")
    found.ready.reverse()
    assert chosen(found, 1, b"x") == before


def test_another_gateway_chooses_the_same_pod() -> None:
    program = (
        "from tests.unit.gateway.test_choice import chosen, made\n"
        "print([chosen(made(0, 0, 0, 0, 0), 1, b'prompt %d' % number)[0] for number in range(50)])\n"
    )
    root = Path(__file__).parents[3]
    path = ":".join(str(root / each) for each in (".", "images/gateway", "images/apis"))
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={"PYTHONPATH": path, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {f"{[chosen(made(*[0] * 5), 1, b'prompt %d' % number)[0] for number in range(50)]}\n"}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.binary(max_size=10), st.integers(0, 200))
def test_no_pod_is_given_more_than_its_bound_of_the_mean(counts: list[int], key: bytes, seed: int) -> None:
    found = made(*counts)
    for _ in range(20):
        pod = choose(found, key, NOW)
        assert pod is not None
        pod.in_flight += 1
        mean = sum(each.in_flight for each in found.ready) / len(counts)
        assert pod.in_flight <= math.ceil(1.25 * mean)


def test_a_flood_of_one_prompt_reaches_all_pods() -> None:
    found = made(0, 0, 0, 0)
    for _ in range(100):
        pod = choose(found, b"the same", NOW)
        assert pod is not None
        pod.in_flight += 1
    assert max(pod.in_flight for pod in found.ready) == math.ceil(1.25 * 25)
    assert min(pod.in_flight for pod in found.ready) > 0


def test_a_single_pod_is_chosen_whatever_it_has() -> None:
    assert chosen(made(50), 1, b"x") == ["1"]


def named(body: Any, target: str = "/v1/chat/completions") -> Named:
    """What was read of a request."""
    data = orjson.dumps(body)
    found = paths.model_of(paths.route("POST", target), "model_endpoint_name=m", b"", data)
    assert found is not None
    return found


PROMPT = "You are a poet. " * 16  # 256 characters


def common(*bodies: Any, target: str = "/v1/chat/completions") -> bool:
    """Whether all these requests had better go to one pod."""
    keys = {affinity_of(b"", named({"model": "m", **body}, target)) for body in bodies}
    return len(keys) == 1 and None not in keys


def chat(system: str, user: str) -> Any:
    """A chat of two messages."""
    return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": user}]}


def test_a_session_a_user_and_the_beginning_of_a_prompt_are_common_in_this_order() -> None:
    body = named({"model": "m", "user": "u", "prompt_cache_key": "k", "prompt": "p"})
    assert affinity_of(b"s", body) == b"session s"
    assert affinity_of(b"", body) == b"user u"
    assert affinity_of(b"", named({"model": "m", "prompt_cache_key": "k", "prompt": "p"})) == b"prompt_cache_key k"
    assert affinity_of(b"", named({"model": "m", "user": "", "prompt": "p"})) == b"prompt p"
    assert affinity_of(b"", named({"model": "m"})) is None
    assert affinity_of(b"", None) is None
    assert affinity_of(b"s", None) == b"session s"


@pytest.mark.parametrize(
    ("one", "other", "is_common"),
    [
        (chat(PROMPT, "a"), chat(PROMPT, "b"), True),
        (chat("short", "a"), chat("short", "b"), False),
        (chat("short", PROMPT + "a"), chat("short", PROMPT + "b"), True),
        (chat("a" + PROMPT, "x"), chat("b" + PROMPT, "x"), False),
        ({"prompt": PROMPT + "a"}, {"prompt": PROMPT + "b"}, True),
        ({"prompt": "a"}, {"prompt": "b"}, False),
        ({"prompt": [1, 2, 3]}, {"prompt": [1, 2, 4]}, False),
        ({"prompt": list(range(300))}, {"prompt": [*range(299), 0]}, True),
        ({"prompt": ["a", "b"]}, {"prompt": ["a", "c"]}, False),
        ({"prompt": "a", "temperature": 1}, {"prompt": "a", "temperature": 0}, True),
        ({"input": "a"}, {"input": "b"}, False),
        ({"input": "a"}, {"input": "a"}, True),
    ],
)
def test_what_prompts_have_in_common_is_how_they_begin(one: Any, other: Any, is_common: bool) -> None:
    assert common(one, other) is is_common


def test_prompts_of_the_other_apis_are_read_too() -> None:
    items = [{"type": "text", "data": PROMPT, "controls": []}]
    assert common(
        {"prompt": items}, {"prompt": [*items, {"type": "text", "data": "x"}]}, target="/aleph-alpha/complete"
    )
    for target, field in (("/egp/v2/completions", "prompt"), ("/v1/llm/completions-sync", "prompt")):
        assert common({field: PROMPT + "a"}, {field: PROMPT + "b"}, target=target)
        assert not common({field: "a"}, {field: "b"}, target=target)


def test_parts_of_a_message_are_read_in_their_order() -> None:
    def parts(*texts: str) -> Any:
        return {"messages": [{"role": "user", "content": [{"type": "text", "text": text} for text in texts]}]}

    assert common(parts(PROMPT, "a"), parts(PROMPT, "b"))
    assert not common(parts("a", PROMPT), parts("b", PROMPT))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["data", "text", "content", "x"]), inner)
    ),
)


@given(st.sampled_from(["messages", "prompt", "prompts", "input", "user"]), JSON)
def test_no_body_is_too_strange(field: str, value: Any) -> None:
    key = affinity_of(b"", named({"model": "m", field: value}))
    assert key is None or len(key) <= 4 * choice.PREFIX_CHARACTERS + 100


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"prompt"', b"\xff"])
def test_a_body_that_was_not_read_yet_may_be_anything(body: bytes) -> None:
    assert affinity_of(b"", Named("m", False, None, body)) is None


def test_a_long_prompt_costs_no_more_than_its_beginning() -> None:
    many = [{"role": "user", "content": "x" * 1000}] * 10_000
    assert affinity_of(b"", named({"model": "m", "messages": many})) == affinity_of(
        b"", named({"model": "m", "messages": many[:1]})
    )


# Failures.


def test_a_pod_is_taken_out_by_three_failures_in_a_row() -> None:
    found = made(0, 0, 0)
    pod = found.ready[0]
    assert [failed(found, pod, NOW) for _ in range(2)] == [False, False]
    worked(pod)
    assert [failed(found, pod, NOW) for _ in range(3)] == [False, False, True]
    assert set(chosen(found, 6)) == {"2", "3"}
    assert {chosen(found, 1, b"%d" % number)[0] for number in range(50)} == {"2", "3"}


def test_a_pod_comes_back_after_ten_seconds_and_later_the_more_often_it_fails_up_to_a_minute() -> None:
    found, now = made(0, 0), NOW
    pod = found.ready[0]
    failed(found, pod, now)
    failed(found, pod, now)
    for seconds in (10, 20, 40, 60, 60):
        assert failed(found, pod, now)
        assert (choose(found, None, now + seconds - 0.01) or pod).host == "2"
        now += seconds
        assert {(choose(found, None, now) or pod).host for _ in range(2)} == {"1", "2"}
    worked(pod)
    assert not failed(found, pod, now)


def test_failures_of_requests_that_were_under_way_do_not_take_it_out_for_longer() -> None:
    found = made(0, 0, 0, 0)
    pod = found.ready[0]
    assert [failed(found, pod, NOW) for _ in range(40)].count(True) == 1
    assert pod.ejected_until == NOW + 10
    assert failed(found, pod, NOW + 10)
    assert pod.ejected_until == NOW + 10 + 20


def test_a_pod_that_stays_because_it_is_the_last_is_not_punished_later() -> None:
    found = made(0)
    pod = found.ready[0]
    assert not any(failed(found, pod, NOW) for _ in range(40))
    found.ready.append(Pod("2", 8000, "x"))
    assert failed(found, pod, NOW)
    assert pod.ejected_until == NOW + 10


@pytest.mark.parametrize(("pods", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_never_more_than_half_of_the_pods_are_out(pods: int, most: int) -> None:
    found = made(*[0] * pods)
    for pod in found.ready * 3:
        failed(found, pod, NOW)
    assert sum(pod.ejected_until > NOW for pod in found.ready) == most
    assert len(set(chosen(found, 20))) == pods - most


@pytest.mark.parametrize("affinity", [None, b"x"])
def test_the_last_pod_is_used_even_if_it_is_out(affinity: bytes | None) -> None:
    found = made(0, 0)
    for _ in range(3):
        failed(found, found.ready[0], NOW)
    last = found.ready[0]
    assert choose(found, affinity, NOW, found.ready[1:]) is last
    found.ready = [last]
    assert choose(found, affinity, NOW) is last
