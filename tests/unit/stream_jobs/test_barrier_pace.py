"""Barriers come at their interval, and seldomer where they would take too much of the processor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_jobs.barrier_pace import CORE_SHARE_MAX, CPU_SHARE_MAX, STRETCH_MAX, STRETCHED_SECONDS_MAX, BarrierPace

INTERVAL = 10.0


def due_after(cost, busy, interval=INTERVAL):
    """Seconds from one barrier of this cost to the next, in a process that uses so much of a core."""
    pace, now = BarrierPace(interval), 100.0
    pace.passed(now, 7.0, cost)
    while seconds := pace.seconds_until_due(now, 7.0 + busy * (now - 100.0)):
        assert seconds > 0
        now += seconds
    return now - 100.0


@pytest.mark.parametrize(
    ("cost", "busy", "seconds"),
    [
        (0.0, 0.0, INTERVAL),
        (0.05, 0.01, INTERVAL),  # half a percent of a core: whatever else there is
        (0.3, 0.8, INTERVAL),
        (0.8, 1.0, 20.0),
        (5.0, 1.0, STRETCH_MAX * INTERVAL),
        (0.2, 0.0, 20.0),
    ],
)
def test_the_next_barrier_is_due(cost, busy, seconds):
    assert due_after(cost, busy) == pytest.approx(seconds, abs=INTERVAL / 10 + 1e-6)


def test_nobody_waits_longer_than_a_minute_who_did_not_ask_for_it():
    assert due_after(9.0, 0.0, interval=30.0) == pytest.approx(STRETCHED_SECONDS_MAX, abs=3.1)
    assert due_after(9.0, 0.0, interval=90.0) == 90.0


@given(st.floats(0, 3), st.floats(0, 2))
def test_barriers_stay_within_their_share_or_come_as_seldom_as_they_may(cost, busy):
    seconds = due_after(cost, busy)
    assert INTERVAL <= seconds <= STRETCH_MAX * INTERVAL + INTERVAL / 10
    within = cost <= CPU_SHARE_MAX * busy * seconds + 1e-9 or cost <= CORE_SHARE_MAX * seconds + 1e-9
    assert within or seconds >= STRETCH_MAX * INTERVAL - 1e-6
