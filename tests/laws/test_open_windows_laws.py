"""Windows of partitions whose clocks jump, in any order: each request is in the last revision of one window's row."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.log_clock import LogClock
from schemas.windows import PartialSeries, PartialWindowsClosed, SeriesKey
from stream_jobs.open_windows import OpenWindows
from stream_jobs.window_cuts import WindowCuts
from tests.telemetry_events import T0

MINUTE = 60_000
JUMPS = [sign * size for size in (6 * MINUTE, 10 * MINUTE, 90 * MINUTE, 30 * 86_400_000) for sign in (1, -1)]


def said(rnd, source, length_ms, records):
    """What stage 1 says of so many records of a partition, as it cuts its windows: partials and their append times."""
    clock, cuts, jumps = LogClock(), WindowCuts(), rnd.sample(JUMPS, 2)
    now, jump, back_at, first, counts, found = T0, 0, 0, 0, {}, []
    for offset in range(records):
        now += rnd.choice([50, length_ms // 20, length_ms // 3, length_ms])
        if offset == back_at:
            jump = 0
        elif offset > back_at and rnd.random() < 0.2:
            jump, back_at = rnd.choice(jumps), offset + rnd.choice([1, 2, 3, 5, 12, records])
        if clock.read(now + jump):
            cuts.go_back(clock.now_ms, length_ms)
        if clock.now_ms >= cuts.end_ms:
            bounds = cuts.start_ms, cuts.end_ms
            cuts.next(clock.now_ms, length_ms)
            if bounds[1]:
                window = _partials(rnd, source, bounds, cuts.start_ms, first, offset, list(counts.items()))
                found.extend((one, now + jump) for one in window)
            counts, first = {}, offset
        if rnd.random() < 0.7:
            scenario = f"s{rnd.randrange(3)}"
            counts[scenario] = counts.get(scenario, 0) + 1
    return found


def _partials(rnd, source, bounds, through_ms, first, after, counts):
    chunks = rnd.randint(1, max(1, len(counts)))
    for chunk in range(chunks):
        yield PartialWindowsClosed.model_construct(
            source_topic_id="t",
            source_partition=source,
            window_start_ms=bounds[0],
            window_end_ms=bounds[1],
            closed_through_ms=through_ms,
            first_offset=first,
            next_offset=after,
            chunk=chunk,
            chunks=chunks,
            series=[_series(*one) for one in counts[chunk::chunks]],
        )


def _series(scenario, answered):
    return PartialSeries.model_construct(
        key=SeriesKey(model="m", version="1", scenario=scenario), answered=answered, failed=0, shed=0, dead_lettered=0
    )


class Table:
    """Rows by name, start and end, with the revision that counts."""

    def __init__(self):
        self.rows = {}

    def store(self, window, series, shares, revision):
        key = window.start_ms, window.end_ms, series
        assert revision > self.rows.get(key, (-1, 0))[0], f"in the place of another: {key}"
        self.rows[key] = revision, _count(shares, series)

    def take(self, windows, partial, at_ms):
        window, revised = windows.take(partial, at_ms)
        for series in revised:
            self.store(window, series, windows.late[window], windows.revisions[window][series])
        for closed in windows.close():
            for series in {name for share in closed.shares.values() for name in share.series}:
                self.store(closed.window, series, closed.shares, 0)


def _count(shares, series):
    return sum(share.series[series].answered for share in shares.values() if series in share.series)


@pytest.mark.parametrize("length_ms", [1_000, 10 * MINUTE, 60 * MINUTE])
@settings(max_examples=400)
@given(records=st.integers(5, 80), sources=st.integers(2, 3), seed=st.integers(0, 2**32))
def test_no_window_takes_the_place_of_another_and_none_loses_a_share(length_ms, records, sources, seed):
    rnd = Random(seed)  # draws of single numbers would take ten times as long as what is looked at
    queues = [said(rnd, source, length_ms, records) for source in range(sources)]
    sent = sum(series.answered for queue in queues for one, _ in queue for series in one.series)
    windows, table = OpenWindows(sources, rnd.choice([0, length_ms // 2, 10 * length_ms]), length_ms), Table()
    while any(queues):
        queue = rnd.choice([one for one in queues if one])
        for partial, at_ms in queue[: rnd.choice([1, 1, 5])]:
            table.take(windows, partial, at_ms)
            queue.pop(0)
    shares = [windows._open[window] for window in windows._open]
    waiting = sum(series.answered for one in shares for share in one.values() for series in share.series.values())
    assert windows.late_dropped == 0
    assert sum(requests for _, requests in table.rows.values()) + waiting == sent
