"""Clocks that jump by minutes, months, years, for a moment or for good: nothing is lost, doubled, or stands still."""

import json
from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.log_clock import AGREEING_RECORDS, AHEAD_MS_MAX, BEHIND_MS_MAX, LATEST_MS, LogClock
from schemas.base import DecodeError
from tests.draws import Log, any_of
from tests.laws.test_stage_laws import SETTINGS, _store, plain, request_stage, run, window_stage
from tests.telemetry_events import T0, as_record, record, served, stored, ticked

MINUTE, YEAR = 60_000, 365 * 86_400_000
JUMPS = [sign * size for size in (10 * MINUTE, 50 * MINUTE, 30 * 86_400_000, 10 * YEAR) for sign in (1, -1)]
OUTCOMES = ("answered", "failed", "shed", "dead_lettered")


@st.composite
def jumping(draw, partition=0, events_max=40):
    """Records of a partition whose broker's clock jumps: `jump` counts for one record, for a few, or from here on."""
    records, now, set_by, back_at, back_by, requests = [], T0, 0, -1, 0, 0
    for offset in range(draw(st.integers(2, events_max))):
        now += draw(st.sampled_from([50, 200, 900, 3_000]))
        if offset == back_at:
            set_by, back_at = set_by - back_by, -1
        elif back_at < 0 and draw(st.integers(0, 7)) == 0:
            jump = draw(st.sampled_from(JUMPS))
            lasts = draw(st.sampled_from([1, 1, 2, 3, 5, 12, 10**6]))
            set_by, back_at, back_by = set_by + jump, offset + lasts, jump
        at_ms = max(0, now + set_by)
        if draw(st.integers(0, 3)) == 0:
            records.append(record(ticked(partition), offset, at_ms, partition=partition))
            continue
        count = draw(st.integers(1, 8))
        message = served(range(requests, requests + count), partition=partition, scenario=lambda o: o % 3 - 1)
        records.append(record(message, offset, at_ms, partition=partition))
        requests += count
    return Log(records)


def partials(effects):
    """What stage 1 closed: (record's number, partial), of all target partitions."""
    found = [(number, json.loads(event.value)) for number, one in enumerate(effects) for event in one.events]
    return [(number, one) for number, one in found if "window_start_ms" in one]


def counted(one):
    return sum(one[name] for name in OUTCOMES)


@settings(max_examples=60, deadline=None)
@given(records=jumping(), data=st.data())
def test_a_cut_anywhere_changes_nothing(records, data):
    cut = data.draw(st.integers(0, len(records)))
    whole, first, second, saved = request_stage(), request_stage(), request_stage(), {}
    expected = run(whole, records)
    for number, one in enumerate(records[:cut]):
        first.apply(one)
        if data.draw(st.booleans()) or number == cut - 1:
            _store(saved, first)
    second.restore(saved, cut)
    assert plain(run(second, records[cut:])) == plain(expected[cut:])
    assert second.all_pages() == whole.all_pages()


@settings(max_examples=100, deadline=None)
@given(records=jumping())
def test_windows_count_what_the_rows_do_offset_by_offset_and_no_two_are_the_same(records):
    stage = request_stage()
    effects = run(stage, records)
    rows = Counter({number: len(stored(one)["offset"]) for number, one in enumerate(effects) if one.rows})
    ranges, names = defaultdict(int), {}
    for _, one in partials(effects):
        window = (one["window_start_ms"], one["window_end_ms"])
        assert window[0] < window[1] <= one["closed_through_ms"] + SETTINGS.window_ms
        assert names.setdefault(window, one["first_offset"]) == one["first_offset"], "two windows of one name"
        ranges[one["first_offset"], one["next_offset"]] += sum(map(counted, one["series"]))
    at = 0
    for (first, after), count in sorted(ranges.items()):
        assert first == at, "a telemetry record in no window, or in two"
        assert count == sum(rows[offset] for offset in range(first, after))
        at = after
    for one in effects:
        for served_ms in stored(one)["served_at"] if one.rows else ():
            assert 0 <= served_ms <= LATEST_MS


@settings(max_examples=60, deadline=None)
@given(records=jumping(), jump=st.sampled_from(JUMPS), data=st.data())
def test_one_odd_record_leaves_every_window_and_row_as_it_would_be(records, jump, data):
    ordinary = [type(one)(one.topic, 0, n, T0 + n * 400, None, one.value, one.headers) for n, one in enumerate(records)]
    odd = data.draw(st.integers(1, len(records) - 1))
    one = ordinary[odd]
    beside = type(one)(one.topic, 0, odd, ordinary[odd - 1].timestamp_ms, None, one.value, one.headers)
    jumped = type(one)(one.topic, 0, odd, max(0, one.timestamp_ms + jump), None, one.value, one.headers)
    if -BEHIND_MS_MAX <= jumped.timestamp_ms - beside.timestamp_ms <= AHEAD_MS_MAX:
        return  # a step ahead of less than an hour is believed, and taken back by the next records
    expected, found = (run(request_stage(), [*ordinary[:odd], this, *ordinary[odd + 1 :]]) for this in (beside, jumped))
    assert plain(found) == plain(expected)


@settings(max_examples=60, deadline=None)
@given(
    jumps=st.lists(st.tuples(st.sampled_from(JUMPS), st.integers(1, 30)), max_size=6),
    for_good=st.sampled_from([0, *JUMPS]),
)
def test_after_a_few_records_windows_close_again_one_after_the_other(jumps, for_good):
    stage, times = request_stage(), []
    for jump, lasts in jumps:
        times += [max(0, T0 + jump + 400 * (len(times) + n)) for n in range(lasts)]
        times += [T0 + 400 * (len(times) + n) for n in range(5)]
    start = len(times) + 2 * AGREEING_RECORDS
    times += [max(0, T0 + for_good + 400 * (len(times) + n)) for n in range(60)]
    effects = run(stage, [record(ticked(), number, at_ms) for number, at_ms in enumerate(times)])
    closed = {number for number, _ in partials(effects) if number >= start}
    # Windows of one second, and 0.4 s between records; where they fell back by no more than it takes to be believed,
    # the time waits for them.
    waits = any(-BEHIND_MS_MAX <= a - b < 0 for a, b in zip(times[start:], times[start - 1 :], strict=False))
    assert len(closed) >= (0 if waits else (len(times) - start) * 400 // SETTINGS.window_ms - 2)
    assert abs(stage._clock.now_ms - times[-1]) <= BEHIND_MS_MAX


@settings(max_examples=40, deadline=None)
@given(logs=st.tuples(jumping(0), jumping(1)), data=st.data())
def test_stage_2_stores_all_of_it_once_and_a_cut_changes_nothing(logs, data):
    queues, rows = [], 0
    for log, number in zip(logs, (0, 1), strict=True):
        effects = run(request_stage(number), log)
        after = max((one["next_offset"] for _, one in partials(effects)), default=0)
        rows += sum(len(stored(one)["offset"]) for one in effects[:after] if one.rows)
        said = [(event, log[n].timestamp_ms) for n, one in enumerate(effects) for event in one.events]
        queues.append([(event, at_ms) for event, at_ms in said if event.topic == "inference.windows"])
    mixed = []
    while any(queues):
        event, at_ms = any_of(data, [queue for queue in queues if queue]).pop(0)
        mixed.append(as_record(event, len(mixed), at_ms))
    total, dropped = 0, 0
    for target in (0, 1):
        own = [one for one in mixed if one.partition == target]
        whole = window_stage(target, sources=2)
        expected = run(whole, own)
        dropped += whole.late_dropped
        total += _stored(expected) + _open(whole)
        cut, saved = data.draw(st.integers(0, len(own))), {}
        first, second = window_stage(target, sources=2), window_stage(target, sources=2)
        for one in own[:cut]:
            first.apply(one)
        if cut:
            _store(saved, first)
        second.restore(saved, cut)
        assert plain(run(second, own[cut:])) == plain(expected[cut:])
        assert second.all_pages() == whole.all_pages()
    assert (total, dropped) == (rows, 0)


@settings(max_examples=200)
@given(times=st.lists(st.sampled_from([0, T0, T0 + 1, T0 - YEAR, T0 + YEAR, T0 + 2 * YEAR, 10**15, -1]), max_size=30))
def test_the_clock_of_a_log_is_one_of_its_times_and_goes_on_from_its_state(times):
    clock = LogClock()
    for number, time_ms in enumerate(times):
        again = LogClock()
        again.restore(clock.entries())
        assert (again.read(time_ms), again.entries()) == (clock.read(time_ms), clock.entries())
        assert clock.now_ms in {0, *times[: number + 1]}
        assert clock.now_ms <= LATEST_MS


def _stored(effects):
    """Requests in the last revisions of all windows."""
    found = {}
    for one in effects:
        rows = one.rows.get("windows_stored", {"requests": []})
        for at in range(len(rows["requests"])):
            key = tuple(rows[name][at] for name in ("window_start", "window_end", "scenario", "model", "model_version"))
            assert key not in found or rows["revision"][at] > found[key][0], "a row in the place of another"
            found[key] = rows["revision"][at], rows["requests"][at]
    return sum(requests for _, requests in found.values())


def _open(stage):
    """Requests of windows that are not closed yet."""
    windows = stage._windows._open
    shares = [share for window in windows for share in windows[window].values()]
    return sum(counted(one.model_dump()) for share in shares for one in share.series.values())


def test_a_record_that_cannot_be_read_moves_the_clock_like_any_other():
    stage = request_stage()
    stage.apply(record(served(range(3)), 0, T0))
    for offset in range(1, 3):
        stage.skip(record(ticked(5), offset, T0 + YEAR))
    try:
        stage.apply(record(ticked(5), 3, T0 + YEAR))
    except DecodeError:
        closed = stage.skip(record(ticked(5), 3, T0 + YEAR))
    assert {one["window_end_ms"] for _, one in partials([closed])} == {T0 + SETTINGS.window_ms}
