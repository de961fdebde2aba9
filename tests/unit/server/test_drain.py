"""The drain's decision over samples, and the kernel's socket tables read."""

from hypothesis import given
from hypothesis import strategies as st

from berth_server import drain, progress
from berth_server.drain import SERVING, Sample

T0 = 50.0
A, B = ("0A00000A", 4000), ("0A00000B", 4001)


def run(samples: list[Sample], limit: float = 120.0) -> tuple[float | None, str | None]:
    """Seconds at which the drain ended, and why; None when it did not."""
    state = drain.begin(T0, limit)
    for sample in samples:
        state = drain.after(state, sample)
        if state.ended:
            return sample.at - T0, state.ended
    return None, None


def every_half_second(
    until: float, in_flight: float | None = 0.0, peers: frozenset[drain.Peer] = frozenset(), still_open: int = 0
) -> list[Sample]:
    return [Sample(T0 + step / 2, SERVING, in_flight, peers, still_open) for step in range(int(until * 2) + 1)]


def test_an_idle_server_leaves_after_the_least_time() -> None:
    assert run(every_half_second(10)) == (5.0, "nothing is in flight and nobody is connected")


def test_a_request_in_flight_holds_it() -> None:
    busy = [Sample(T0 + step / 2, SERVING, 1.0) for step in range(40)]
    assert run(busy) == (None, None)
    assert run([*busy, Sample(T0 + 20, SERVING, 0.0)]) == (20.0, "nothing is in flight and nobody is connected")


def test_unknown_is_not_idle() -> None:
    assert run(every_half_second(30, in_flight=None)) == (None, None)


def test_a_new_connection_holds_it_for_two_seconds() -> None:
    quiet = every_half_second(4.5)
    newcomer = [Sample(T0 + 5 + step / 2, SERVING, 0.0, frozenset({A})) for step in range(10)]
    assert run([*quiet, *newcomer])[0] == 7.0


def test_connections_that_were_there_before_are_not_new() -> None:
    assert run(every_half_second(10, peers=frozenset({A, B})))[0] == 5.0


def test_an_open_connection_holds_it_though_nothing_is_in_flight() -> None:
    connected = every_half_second(20, peers=frozenset({A}), still_open=1)
    assert run(connected) == (None, None)
    closed = Sample(T0 + 20.5, SERVING, 0.0, frozenset({A}))
    assert run([*connected, closed]) == (20.5, "nothing is in flight and nobody is connected")


def test_steady_arrivals_hold_it_until_the_limit() -> None:
    arrivals = [Sample(T0 + step, SERVING, 0.0, frozenset({("0A00000A", step)})) for step in range(200)]
    assert run(arrivals, limit=60) == (60.0, "the limit of 60 s is reached")


def test_an_engine_that_cannot_finish_anything_ends_it_at_once() -> None:
    assert run([Sample(T0, "not loaded")]) == (0.0, "the engine is not loaded")
    assert run([Sample(T0, SERVING, 3.0), Sample(T0 + 1, "dead")]) == (1.0, "the engine is dead")


@given(
    st.lists(
        st.tuples(
            st.floats(0, 5),
            st.one_of(st.none(), st.floats(0, 3)),
            st.frozensets(st.sampled_from([A, B])),
            st.integers(0, 2),
        ),
        max_size=60,
    )
)
def test_never_early_and_never_past_the_limit(
    steps: list[tuple[float, float | None, frozenset[drain.Peer], int]],
) -> None:
    at, samples = T0, []
    for pause, in_flight, peers, still_open in steps:
        at += pause
        samples.append(Sample(at, SERVING, in_flight, peers, still_open))
    ended, why = run(samples, limit=30)
    if ended is None:
        assert at - T0 < 30
    elif ended < 30:
        assert ended >= drain.LEAST_SECONDS
        assert why == "nothing is in flight and nobody is connected"


def test_state_of_the_engine() -> None:
    loading = progress.begin(T0)
    serving = progress.Snapshot(T0, T0, proven=True, answered_at=T0)
    assert drain.engine_state(loading, True, T0) == "not loaded"
    assert drain.engine_state(serving, True, T0 + 1) == SERVING
    assert drain.engine_state(serving, False, T0 + 1) == "dead"
    assert drain.engine_state(serving, True, T0 + 30) == "hung"


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 23417 1 0 100 0 0 10 0
   1: 0A00000A:1F40 0B00000A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 23418 1 0 20 4 30 10 -1
   2: 0A00000A:1F40 0C00000A:9C41 06 00000000:00000000 03:00000F8F 00000000     0        0 0 3 0
   3: 0100007F:1F40 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 23419 1 0 20 4 30 10 -1
   4: 0100007F:1F40 0100007F:D432 01 00000000:00000000 00:00000000 00000000     0        0 23420 1 0 20 4 30 10 -1
   5: 0A00000A:D433 0D00000A:1F40 01 00000000:00000000 00:00000000 00000000     0        0 23421 1 0 20 4 30 10 -1
"""
TCP6 = """  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:1F41 00000000000000000000000000000000:0000 0A
   1: 0000000000000000FFFF00000A00000A:1F40 0000000000000000FFFF00000100007F:D431 01
   2: 00000000000000000000000001000000:1F40 00000000000000000000000001000000:D431 01
   3: B80D0120000000000000000001000000:1F40 B80D0120000000000000000002000000:D431 01
"""


def test_connections_are_those_at_the_servers_port_but_not_the_launchers_own() -> None:
    own = {0xD431}
    seen = {("0B00000A", 0x9C40), ("0C00000A", 0x9C41), ("0100007F", 0xD432)}
    assert drain.connections([TCP], 8000, own) == (seen, 2), "the second is only in TIME_WAIT"
    assert drain.connections([TCP6], 8000, own) == ({("B80D0120000000000000000002000000", 0xD431)}, 1)
    assert drain.connections([TCP, TCP6], 8002, own) == (frozenset(), 0)
