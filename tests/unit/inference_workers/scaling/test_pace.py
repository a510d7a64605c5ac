"""What a worker can do is learnt from what it does."""

import pytest

from inference_workers.scaling.pace import WINDOW_SECONDS, Pace


def window(pace, now, *, done, busy_seconds, waiting, steps=10):
    """One window; returns the time after it."""
    for step in range(steps):
        pace.turn(waiting, now + step * WINDOW_SECONDS / steps)
        pace.done(done // steps, busy_seconds / steps)
    return now + WINDOW_SECONDS


def closed(pace, now):
    pace.turn(0, now)
    return pace.per_second


def test_nothing_is_known_before_something_was_done():
    pace = Pace()
    now = window(pace, 0.0, done=0, busy_seconds=0, waiting=3)
    assert closed(pace, now) is None


def test_a_worker_that_always_has_work_shows_what_it_can_do():
    pace = Pace()
    now = window(pace, 0.0, done=1_000, busy_seconds=2.0, waiting=5)
    # It computed for 2 s of 5, and more did not come out: something else is the bottleneck.
    assert closed(pace, now) == pytest.approx(200.0)


def test_a_worker_with_time_to_spare_is_judged_by_its_computing():
    pace = Pace()
    now = window(pace, 0.0, done=100, busy_seconds=0.5, waiting=0)
    assert closed(pace, now) == pytest.approx(200.0)


def test_small_batches_are_no_slowdown_but_computing_most_of_the_time_is():
    pace = Pace()
    now = window(pace, 0.0, done=5_000, busy_seconds=5.0, waiting=9)
    assert closed(pace, now) == pytest.approx(1_000.0)
    now = window(pace, now, done=50, busy_seconds=0.5, waiting=0)
    assert closed(pace, now) == pytest.approx(1_000.0)
    now = window(pace, now, done=500, busy_seconds=4.0, waiting=0)
    assert closed(pace, now) == pytest.approx(562.5)


def test_what_else_takes_time_is_remembered_when_it_is_not_busy():
    pace = Pace()
    now = 0.0
    for _ in range(8):  # computing at 1,000 a second, of which 500 come out
        now = window(pace, now, done=2_500, busy_seconds=2.5, waiting=9)
    assert closed(pace, now) == pytest.approx(500.0)
    for _ in range(8):
        now = window(pace, now, done=500, busy_seconds=0.5, waiting=0)
    assert closed(pace, now) == pytest.approx(500.0, rel=0.02)


def test_a_slowdown_and_its_end_are_followed():
    pace = Pace()
    now = window(pace, 0.0, done=5_000, busy_seconds=5.0, waiting=9)
    for _ in range(5):  # batches are held back: 50 a second
        now = window(pace, now, done=250, busy_seconds=5.0, waiting=9)
    assert closed(pace, now) == pytest.approx(80.0, rel=0.1)
    for _ in range(6):
        now = window(pace, now, done=200, busy_seconds=0.2, waiting=0)
    assert closed(pace, now) > 900.0


def test_it_does_at_least_what_it_did():
    pace = Pace()
    now = window(pace, 0.0, done=500, busy_seconds=5.0, waiting=9)
    now = window(pace, now, done=10_000, busy_seconds=0.01, waiting=0)  # nearly all from the cache
    assert closed(pace, now) == pytest.approx(2_000.0)


def test_a_model_that_hangs_changes_nothing():
    pace = Pace()
    now = window(pace, 0.0, done=500, busy_seconds=5.0, waiting=9)
    for _ in range(10):
        now = window(pace, now, done=0, busy_seconds=0.0, waiting=9)
    assert closed(pace, now) == pytest.approx(100.0)
