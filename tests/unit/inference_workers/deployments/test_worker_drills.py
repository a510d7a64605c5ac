"""Drills: which run, and for how long."""

import threading

import pytest

from inference_workers.deployments.drills import LOOK_BACK_MS, DrillPlan, DrillWatch
from infra.ports import Record, RetryLater
from schemas.base import DecodeError, Reason, encode
from schemas.drills import DrillKind, DrillRequested
from tests.fakes import FakeClock


def record(at_ms, duration_ms=5_000, delay_ms=300, value=None):
    drill = DrillRequested(drill_id="d", kind=DrillKind.LATENCY, duration_ms=duration_ms, delay_ms=delay_ms)
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"d"), ("ce_source", b"/t")]
    headers.append(("ce_type", drill.event_type().encode()))
    return Record("control.drills", 0, 0, at_ms, b"d", value or encode(drill), headers)


def test_a_drill_runs_from_its_append_for_its_duration():
    plan = DrillPlan()
    plan.apply(record(1_000), 1_000)
    assert [plan.delay_ms(now) for now in (1_000, 5_999, 6_000)] == [300, 300, 0]


def test_a_drill_from_the_future_ends_after_its_duration():
    plan = DrillPlan()
    plan.apply(record(10**15), 1_000)
    assert [plan.delay_ms(now) for now in (1_000, 5_999, 6_000)] == [300, 300, 0]


def test_the_longest_delay_of_those_that_run_counts():
    plan = DrillPlan()
    plan.apply(record(0, delay_ms=100), 0)
    plan.apply(record(0, duration_ms=1_000, delay_ms=900), 0)
    assert [plan.delay_ms(now) for now in (500, 1_500)] == [900, 100]


def test_one_that_is_over_or_broken_is_ignored():
    plan = DrillPlan()
    plan.apply(record(0), 5_000)
    with pytest.raises(DecodeError):
        plan.apply(record(0, value=b"{}"), 0)
    assert plan.delay_ms(0) == 0


@pytest.mark.timeout(10)
def test_the_watch_looks_back_tries_again_and_lets_go():
    clock, stop, opened = FakeClock(), threading.Event(), []
    seen = threading.Event()

    class Tail:
        def __init__(self):
            old, new = clock.now_ms() - 1_000, clock.now_ms() + 1
            self.records = [record(old), record(old, value=b"{}"), record(new, value=b"{}")]

        def poll(self, count_max, timeout_seconds):
            found, self.records = self.records, []
            if not found:
                seen.set()
                stop.wait(5)
            return found

        def close(self):
            opened.append("closed")

    def open_tail(start_ms):
        opened.append(start_ms)
        if len(opened) == 1:
            raise RetryLater("not yet")
        return Tail()

    stop_wait, stop.wait = stop.wait, lambda seconds=None: stop_wait(min(seconds or 5, 5) if seconds != 2.0 else 0.01)
    broken = []
    watch = DrillWatch(open_tail, clock, stop, lambda bad, error: broken.append((bad.timestamp_ms, error.reason)))
    assert seen.wait(5)
    assert opened == [clock.now_ms() - LOOK_BACK_MS] * 2
    assert broken == [(clock.now_ms() + 1, Reason.MISSING_FIELD)]
    assert watch.plan.delay_ms(clock.now_ms()) == 300
    stop.set()
    watch.hold_back()  # returns at once, for the worker stops
