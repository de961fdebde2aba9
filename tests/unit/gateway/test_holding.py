"""Requests that wait for a pod: bounds, order, how many go on, and what clients are told meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth_gateway import holding
from berth_gateway.holding import Full, Holds, Limits, comment, estimate_seconds, retry_after, room, takes_comments
from berth_gateway.table import Endpoint, Pod

SMALL = Limits(per_endpoint=3, in_all=5, bytes_per_endpoint=100, bytes_in_all=150, seconds=60)


def endpoint(name: str = "llama", **fields: Any) -> Endpoint:
    made = Endpoint(uid=name, namespace="team", name=name, created="", key=f"team/{name}")
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def pod(in_flight: int = 0, ejected_until: float = 0.0) -> Pod:
    return Pod("10.0.0.1", 8000, "p", in_flight=in_flight, ejected_until=ejected_until)


def holding_many(of: Endpoint, many: int, now: float = 0.0) -> Holds:
    holds = Holds(Limits())
    for item in range(many):
        holds.add(of, item, 1, now)
    return holds


# Bounds.


def test_an_endpoint_holds_so_many_requests_and_the_next_is_told_when_to_come_again() -> None:
    one, holds = endpoint(start_seconds=40), Holds(SMALL)
    for item in "abc":
        holds.add(one, item, 1, 10.0)
    with pytest.raises(Full) as full:
        holds.add(one, "d", 1, 15.0)
    assert full.value.retry_after_seconds == 35
    assert full.value.message == str(full.value)
    assert full.value.message == (
        "3 requests wait for team/llama already, and the gateway holds no more for it. Send the request again in 35 s."
    )
    holds.add(endpoint("other"), "e", 1, 15.0)


def test_bytes_of_an_endpoint_are_bounded_and_the_bound_itself_fits() -> None:
    one, holds = endpoint(), Holds(SMALL)
    holds.add(one, "a", 60, 0.0)
    holds.add(one, "b", 40, 0.0)
    with pytest.raises(Full, match=r"team/llama have 100 bytes .* the 1 of this one .* more than the 100 .* in 30 s\."):
        holds.add(one, "c", 1, 0.0)


def test_requests_of_all_endpoints_are_bounded() -> None:
    holds = Holds(SMALL)
    for number in range(5):
        holds.add(endpoint(str(number)), number, 1, 0.0)
    with pytest.raises(Full, match=r"5 requests wait at the gateway already, .* team/llama"):
        holds.add(endpoint(), "a", 1, 0.0)


def test_bytes_of_all_endpoints_are_bounded() -> None:
    holds = Holds(SMALL)
    holds.add(endpoint("one"), "a", 100, 0.0)
    holds.add(endpoint("two"), "b", 50, 0.0)
    with pytest.raises(Full, match="at the gateway have 150 bytes already; with the 1 of this one for team/llama"):
        holds.add(endpoint(), "c", 1, 0.0)


def test_what_is_refused_leaves_no_trace() -> None:
    one, holds = endpoint(), Holds(SMALL)
    with pytest.raises(Full):
        holds.add(one, "a", 101, 0.0)
    assert (holds.count, holds.bytes, holds.version, list(holds.endpoints), list(one.held.waiting)) == (0, 0, 0, [], [])


def test_a_request_is_held_once() -> None:
    one, holds = endpoint(), Holds(SMALL)
    holds.add(one, "a", 1, 0.0)
    with pytest.raises(ValueError, match="held already"):
        holds.add(one, "a", 1, 0.0)


def test_requests_wait_until_their_time_is_up_and_not_a_moment_longer() -> None:
    one, two, holds = endpoint("one"), endpoint("two"), Holds(SMALL)
    holds.add(one, "a", 10, 0.0)
    holds.add(two, "b", 10, 5.0)
    holds.add(one, "c", 10, 10.0)
    assert holds.overdue(59.9) == []
    assert holds.overdue(60.0) == [(one, "a")]
    assert holds.overdue(60.0) == []
    assert holds.overdue(70.0) == [(one, "c"), (two, "b")]
    assert (holds.count, holds.bytes, list(holds.endpoints)) == (0, 0, [])


# Order.


def test_those_who_came_first_go_first_and_are_gone_then() -> None:
    one = endpoint()
    holds = holding_many(one, 5)
    assert holds.release(one, 2) == [0, 1]
    assert holds.remove(one, 3) is True
    assert holds.remove(one, 3) is False
    assert holds.remove(one, 0) is False
    assert holds.release(one, 0) == []
    assert holds.release(one, 9) == [2, 4]
    assert holds.release(one, 9) == []


def test_an_endpoint_that_never_held_any_has_none() -> None:
    one, holds = endpoint(ready=[pod()]), Holds(SMALL)
    assert not holds.remove(one, "a")
    assert holds.release(one, 3) == []
    assert room(one, 0.0) == 0
    holds.answered(one)
    assert one.held is None


def test_one_whose_pod_was_gone_goes_first_again_and_has_waited_since_it_came() -> None:
    one, holds = endpoint(), Holds(SMALL)
    holds.add(one, "a", 1, 0.0)
    holds.add(one, "b", 1, 20.0)
    holds.add(one, "c", 1, 30.0)
    assert holds.release(one, 2) == ["a", "b"]
    assert one.held.since == 30.0
    holds.add(one, "a", 1, 40.0, since=0.0)
    holds.add(one, "b", 1, 40.0, since=20.0)
    assert list(one.held.waiting) == ["b", "a", "c"]
    assert one.held.began == 0.0
    assert holds.overdue(60.0) == [(one, "b"), (one, "a")]


def test_one_that_comes_back_when_nobody_waits_has_waited_since_it_came() -> None:
    one, holds = endpoint(), Holds(SMALL)
    holds.add(one, "a", 1, 40.0, since=3.0)
    assert (one.held.since, one.held.began) == (3.0, 3.0)


def test_since_is_when_the_first_of_those_who_wait_came_and_began_when_the_first_of_all_came() -> None:
    one, holds = endpoint(), Holds(SMALL)
    assert not one.held
    holds.add(one, "a", 1, 1.0)
    holds.add(one, "b", 1, 2.0)
    holds.remove(one, "a")
    assert (one.held.since, one.held.began) == (2.0, 1.0)
    holds.remove(one, "b")
    assert not one.held
    assert one.held.since is None
    holds.add(one, "c", 1, 9.0)
    again: Any = one.held
    assert (again.since, again.began) == (9.0, 9.0)


def test_every_change_is_told_after_it_has_happened_and_nothing_else_is() -> None:
    one, holds = endpoint(), Holds(SMALL)
    told: list[tuple[int, int]] = []
    holds.on_change = lambda: told.append((holds.version, holds.count))
    holds.add(one, "a", 1, 0.0)
    holds.add(one, "b", 1, 0.0)
    holds.add(one, "c", 1, 1.0)
    holds.remove(one, "b")
    holds.remove(one, "b")
    holds.overdue(30.0)
    holds.overdue(60.0)
    holds.release(one, 0)
    holds.release(one, 5)
    holds.release(one, 5)
    assert told == [(1, 1), (2, 2), (3, 3), (4, 2), (5, 1), (6, 0)]


# How many go on.


def test_a_ready_pod_takes_its_target_and_no_more_until_it_answers() -> None:
    one = endpoint(target=3.2, ready=[pod()])
    holds = holding_many(one, 100)
    assert room(one, 0.0) == 4
    one.ready[0].in_flight = len(holds.release(one, room(one, 0.0)))
    assert room(one, 0.0) == 0


def test_each_answer_lets_the_next_go_and_one_more() -> None:
    one = endpoint(target=4, ready=[pod(4)])
    holds = holding_many(one, 100)
    assert room(one, 0.0) == 0
    rounds = []
    for _ in range(3):
        answers, before = one.ready[0].in_flight, len(one.held)
        for _ in range(answers):
            one.ready[0].in_flight -= 1
            holds.answered(one)
            went = holds.release(one, room(one, 0.0))
            assert len(went) == 2
            one.ready[0].in_flight += len(went)
        rounds.append(before - len(one.held))
    assert rounds == [8, 16, 32]


def test_an_answer_that_failed_makes_room_for_one_only() -> None:
    one = endpoint(target=4, ready=[pod(3)])
    holding_many(one, 10)
    assert room(one, 0.0) == 1


def test_growth_is_shared_by_the_pods() -> None:
    one = endpoint(target=2, ready=[pod(2), pod(2)])
    holds = holding_many(one, 10)
    assert room(one, 0.0) == 0
    holds.answered(one)
    assert room(one, 0.0) == 0
    holds.answered(one)
    assert room(one, 0.0) == 2


def test_a_new_pod_gets_its_target_and_not_what_the_others_have_grown_to() -> None:
    one = endpoint(target=2, ready=[pod(2)])
    holds = holding_many(one, 100)
    assert room(one, 0.0) == 0
    for _ in range(20):
        holds.answered(one)
    assert room(one, 0.0) == 20
    one.ready[0].in_flight = 22
    one.ready.append(pod())
    assert room(one, 0.0) == 2


def test_a_pod_that_stays_does_not_get_at_once_what_the_lost_ones_had() -> None:
    stays, goes = pod(2), pod(2)
    one = endpoint(target=2, ready=[stays, goes])
    holds = holding_many(one, 100)
    assert room(one, 0.0) == 0
    for _ in range(20):
        holds.answered(one)
    one.ready.remove(goes)
    assert room(one, 0.0) == 0


def test_growth_ends_with_those_who_wait() -> None:
    one = endpoint(target=2, ready=[pod()])
    holds = holding_many(one, 1)
    assert room(one, 0.0) == 2
    for _ in range(20):
        holds.answered(one)
    assert holds.release(one, 1) == [0]
    holds.add(one, "a", 1, 5.0)
    assert room(one, 5.0) == 2


def test_an_ejected_pod_takes_none_until_it_is_back() -> None:
    one = endpoint(target=2, ready=[pod(), pod(ejected_until=10.0)])
    holding_many(one, 10)
    assert room(one, 9.9) == 2
    assert room(one, 10.0) == 4
    one.ready[:] = [pod(ejected_until=10.0)]
    assert room(one, 9.9) == 0


def test_there_is_no_room_without_a_ready_pod_and_none_is_lent_by_a_fuller_one() -> None:
    one = endpoint(target=4)
    holding_many(one, 10)
    assert room(one, 0.0) == 0
    one.ready = [pod(40), pod(1)]
    assert room(one, 0.0) == 3


@pytest.mark.parametrize("target", [0.0, 0.25, 1.0])
def test_a_target_below_one_lets_one_go(target: float) -> None:
    one = endpoint(target=target, ready=[pod()])
    holding_many(one, 10)
    assert room(one, 0.0) == 1


# Words.


@pytest.mark.parametrize(
    ("start", "passed", "expected"),
    [(None, 3, None), (40, 0, 40), (40, 0.5, 40), (39.2, 30, 10), (40, 99, 1), (0, 7, 1)],
)
def test_the_estimate_is_the_last_start_without_what_has_passed(start: Any, passed: float, expected: Any) -> None:
    assert estimate_seconds(endpoint(start_seconds=start), 100.0, 100.0 + passed) == expected


@pytest.mark.parametrize(
    ("start", "passed", "expected"),
    [
        (None, 0, 30),
        (None, 500, 30),
        (40, 0, 40),
        (40, 39.5, 1),
        # It takes longer than the last one: clients that count their attempts shall not spend them all in seconds.
        (40, 41, 10),
        (3600, 0, 600),
        (7200, 7300, 600),
        (0, 50, 1),
        (0.1, 50, 1),
    ],
)
def test_retry_after_is_of_the_start_that_is_under_way(start: Any, passed: float, expected: int) -> None:
    one = endpoint(start_seconds=start)
    holding_many(one, 1, now=100.0)
    assert retry_after(one, 100.0 + passed) == expected


def test_retry_after_of_an_endpoint_that_nobody_waits_for_is_a_whole_start() -> None:
    assert retry_after(endpoint(start_seconds=40), 1000.0) == 40


def test_a_client_that_leaves_does_not_make_the_start_look_younger() -> None:
    one = endpoint(start_seconds=40)
    holds = holding_many(one, 1, now=100.0)
    holds.add(one, "a", 1, 130.0)
    holds.remove(one, 0)
    assert retry_after(one, 130.0) == 10
    assert comment(one, 130.0) == b": waking team/llama, about 10 s\n\n"


def test_retry_after_is_short_where_pods_are_ready() -> None:
    assert retry_after(endpoint(start_seconds=400, ready=[pod()]), 1000.0) == 5


@given(
    st.one_of(st.none(), st.floats(0, 1e12)), st.floats(0, 1e12), st.floats(-1e12, 1e12), st.booleans(), st.booleans()
)
def test_retry_after_is_between_a_second_and_ten_minutes(
    start: float | None, since: float, passed: float, held: bool, ready: bool
) -> None:
    one = endpoint(start_seconds=start, ready=[pod()] if ready else [])
    if held:
        holding_many(one, 1, now=since)
    assert 1 <= retry_after(one, since + passed) <= holding.MOST_RETRY_SECONDS


@pytest.mark.parametrize(
    ("start", "waking", "passed", "expected"),
    [
        (40, "pod a: downloading 40 %", 0, b": waking team/llama: pod a: downloading 40 %, about 40 s\n\n"),
        (40, "", 12.5, b": waking team/llama, about 28 s\n\n"),
        (40, "", 40, b": waking team/llama, longer than the 40 s of the last start\n\n"),
        (39.1, "", 50, b": waking team/llama, longer than the 40 s of the last start\n\n"),
        (0, "", 3, b": waking team/llama, about 1 s\n\n"),
        (None, "pulling", 3, b": waking team/llama: pulling, no start was measured yet\n\n"),
    ],
)
def test_a_comment_tells_what_the_request_waits_for(start: Any, waking: str, passed: float, expected: bytes) -> None:
    one = endpoint(start_seconds=start, waking=waking)
    holding_many(one, 1, now=100.0)
    assert comment(one, 100.0 + passed) == expected


def test_a_comment_for_one_in_the_queue_of_ready_pods_promises_no_time() -> None:
    one = endpoint(start_seconds=40, waking="old", ready=[pod()])
    holding_many(one, 1)
    assert comment(one, 5.0) == b": team/llama is ready; requests that came earlier go first\n\n"


@given(st.text(max_size=400), st.text(max_size=300), st.sampled_from([None, 0, 40, 1e9]), st.booleans())
def test_a_comment_is_one_short_line_whatever_the_cluster_says(
    waking: str, name: str, start: float | None, ready: bool
) -> None:
    data = comment(endpoint(name, waking=waking, start_seconds=start, ready=[pod()] if ready else []), 0.0)
    line = data.removesuffix(b"\n\n")
    assert data.startswith(b": ")
    assert len(line) <= 200
    assert len(data) - len(line) == 2
    for encoding in ("utf-8", "latin-1"):
        assert line.decode(encoding).splitlines() == [line.decode(encoding)]
        assert line.decode(encoding).isprintable()


def test_a_long_status_is_cut_and_the_estimate_stays() -> None:
    data = comment(endpoint(waking="é\r\nevent: x\r\n\r\ndata: y" + "w" * 300, start_seconds=40), 0.0)
    assert data.startswith(b": waking team/llama: ? event: x data: yww")
    assert data.endswith(b"ww..., about 40 s\n\n")
    assert len(data) == 202


def test_what_just_fits_is_not_cut() -> None:
    fits = "w" * (200 - len(": waking team/llama: ") - len(", about 40 s"))
    one = endpoint(waking=fits, start_seconds=40)
    assert comment(one, 0.0) == f": waking team/llama: {fits}, about 40 s\n\n".encode()
    one.waking += "w"
    assert comment(one, 0.0) == f": waking team/llama: {fits[:-3]}..., about 40 s\n\n".encode()


STREAM = b'{"model": "m", "stream": true}'


@pytest.mark.parametrize(
    ("api", "path", "body", "expected"),
    [
        ("OpenAI", "/v1/completions", STREAM, True),
        ("OpenAI", "/v1/chat/completions", STREAM, True),
        ("OpenAI", "/v1/chat/completions", {"stream": True}, True),
        ("OpenAI", "/v1/chat/completions", {"stream": False}, False),
        ("OpenAI", "/v1/completions", b'{"stream": "true"}', False),
        ("OpenAI", "/v1/completions", b'{"stream": 1}', False),
        ("OpenAI", "/v1/completions", b"{}", False),
        ("OpenAI", "/v1/completions", b"[true]", False),
        ("OpenAI", "/v1/completions", b"", False),
        ("OpenAI", "/v1/completions", b'{"stream": true', False),
        ("OpenAI", "/v1/responses", STREAM, False),
        ("OpenAI", "/v1/messages", STREAM, False),
        ("OpenAI", "/v1/llm/completions-stream", STREAM, False),
        ("LLMEngine", "/v1/llm/completions-stream", b"{}", True),
        ("LLMEngine", "/v1/llm/completions-sync", STREAM, False),
        ("ScaleEGP", "/v2/completions", STREAM, False),
        ("ScaleEGP", "/v4/completions", STREAM, False),
        ("AlephAlpha", "/complete", STREAM, False),
        ("AlephAlpha", "/v1/chat/completions", STREAM, False),
    ],
)
def test_only_streams_whose_clients_skip_comments_get_them(api: str, path: str, body: Any, expected: bool) -> None:
    assert takes_comments(api, path, body) is expected
