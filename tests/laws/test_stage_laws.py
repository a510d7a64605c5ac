"""Stages are functions of their log: restarts, repeats and other orders change nothing that is stored."""

import json
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.telemetry import Outcome
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import RequestStage
from stream_jobs.settings import JobSettings
from stream_jobs.window_stage import WindowStage
from tests.draws import Log, any_of
from tests.telemetry_events import T0, as_record, record, served, stored, ticked

SETTINGS = JobSettings(window_seconds=1, row_window=40, requests_min=5, series_max=3, row_models_max=2)
WINDOW_PARTITIONS = 2
LATER = T0 + 86_400_000
"""When partials are appended, unless a test says otherwise: after the telemetry that they were made from."""


def request_stage(partition=0, settings=SETTINGS):
    return RequestStage(
        settings,
        topic_id="telemetry-1",
        partition=partition,
        window_partitions=WINDOW_PARTITIONS,
        requests=AnyRequests(),
    )


def window_stage(partition=0, sources=1, lateness=60):
    chosen = SETTINGS.model_copy(update={"allowed_lateness_seconds": lateness})
    return WindowStage(chosen, partition=partition, source_topic_id="telemetry-1", source_partitions=sources)


@st.composite
def telemetry(draw, partition=0, events_min=1, events_max=30):
    """Records of one telemetry partition: batches, repeats of earlier ones, ticks, pauses, a clock that jumps back."""
    records, sent, next_request, now = [], [], draw(st.integers(0, 20_000)), T0
    for offset in range(draw(st.integers(events_min, events_max))):
        now = max(0, now + draw(st.sampled_from([0, 50, 50, 200, 200, 900, 3_000, -400])))
        kind = draw(st.sampled_from(["new", "new", "new", "repeat", "tick"]))
        if kind == "tick":
            message = ticked(partition)
        elif kind == "repeat" and sent:
            message = sent[draw(st.integers(0, len(sent) - 1))].model_copy(update={"partition": partition})
        else:
            count = draw(st.integers(1, 25))
            step = draw(st.sampled_from([1, 1, 2]))
            slow = draw(st.sampled_from([40.0, 45.0, 900.0]))
            message = served(
                range(next_request, next_request + count * step, step),
                partition=partition,
                total_ms=slow,
                outcome=lambda o: list(Outcome)[o % 9 if o % 9 < 4 else 0],
                scenario=lambda o: o % 3 - 1,
                model=draw(st.integers(0, 1)),
            )
            sent.append(message)
            next_request += count * step - draw(st.sampled_from([0, 0, 3]))
            next_request = max(next_request, 0)
        records.append(record(message, offset, now, partition=partition))
    return Log(records)


def run(stage, records):
    return [stage.apply(one) for one in records]


def plain(effects):
    """Comparable to the bit, types included."""
    rows = [{table: stored(one, table) for table in one.rows} for one in effects]
    return [(json.dumps(told, sort_keys=True), one.events) for told, one in zip(rows, effects, strict=True)]


@settings(max_examples=40)
@given(records=telemetry(), data=st.data())
def test_stage_1_goes_on_from_a_snapshot_as_if_nothing_had_happened(records, data):
    cut = data.draw(st.integers(0, len(records)))
    whole = request_stage()
    expected = run(whole, records)
    first, second = request_stage(), request_stage()
    saved = {}
    for number, one in enumerate(records[:cut]):
        first.apply(one)
        if data.draw(st.booleans()) or number == cut - 1:
            _store(saved, first)
    second.restore(saved, first.next_offset if cut else 0)
    assert plain(run(second, records[cut:])) == plain(expected[cut:])
    assert second.all_pages() == whole.all_pages()
    assert second.next_offset == whole.next_offset


@settings(max_examples=40)
@given(records=telemetry())
def test_stage_1_does_the_same_whichever_way_records_are_decoded(records):
    fast, careful = request_stage(), request_stage()
    careful._decoder.fast = lambda headers, value: None
    assert plain(run(fast, records)) == plain(run(careful, records))
    assert fast.all_pages() == careful.all_pages()


@settings(max_examples=40)
@given(records=telemetry())
def test_the_first_outcome_wins_and_repeats_add_nothing(records):
    seen, counted = set(), 0
    stage = request_stage()
    for offsets in [stored(one)["offset"] for one in run(stage, records) if one.rows]:
        assert not seen.intersection(offsets)
        seen.update(offsets)
        counted += len(offsets)
    asked = {o for one in records if b'"requests"' in one.value for o in json.loads(one.value)["requests"]["offset"]}
    assert seen == asked
    assert counted == len(asked)


@settings(max_examples=25)
@given(records=telemetry(), data=st.data())
def test_an_answer_given_again_by_another_worker_leaves_rows_and_windows_as_they_were(records, data):
    with_repeats = []
    for one in records:
        with_repeats.append(one)
        if b'"requests"' in one.value and data.draw(st.booleans()):
            again = one.value.replace(b'"w1"', b'"w2"')
            with_repeats.append(type(one)(one.topic, 0, 0, one.timestamp_ms, None, again, one.headers))
    numbered = [
        type(one)(one.topic, 0, number, one.timestamp_ms, None, one.value, one.headers)
        for number, one in enumerate(with_repeats)
    ]
    roomy = SETTINGS.model_copy(update={"series_max": 50})  # also what is only told again takes a place
    once, twice = run(request_stage(settings=roomy), records), run(request_stage(settings=roomy), numbered)
    names = ("offset", "score", "outcome", "worker_id", "served_at")
    rows = [[stored(one)[name] for name in names] for one in once if one.rows]
    assert [[stored(one)[name] for name in names] for one in twice if one.rows] == rows
    assert _without_repeats(once) == _without_repeats(twice)


@pytest.mark.parametrize("lateness", [0, 2, 3_600])
@settings(max_examples=25)
@given(logs=st.tuples(telemetry(0), telemetry(1)), data=st.data())
def test_stage_2_goes_on_from_a_snapshot_as_if_nothing_had_happened(lateness, logs, data):
    queues = [_events(run(request_stage(p), log), 0) for p, log in enumerate(logs)]
    partials, now = [], LATER
    while any(queues):
        queue = any_of(data, [queue for queue in queues if queue])
        now += data.draw(st.sampled_from([0, 100, 1_000, 60_000, -500]))
        partials.append(as_record(queue.pop(0), len(partials), now))
    cut = data.draw(st.integers(0, len(partials)))
    whole = window_stage(sources=2, lateness=lateness)
    expected = run(whole, partials)
    first, second, saved = window_stage(sources=2, lateness=lateness), window_stage(sources=2, lateness=lateness), {}
    for number, one in enumerate(partials[:cut]):
        first.apply(one)
        if data.draw(st.booleans()) or number == cut - 1:
            _store(saved, first)
    second.restore(saved, cut)
    assert plain(run(second, partials[cut:])) == plain(expected[cut:])
    assert second.all_pages() == whole.all_pages()


@settings(max_examples=25)
@given(logs=st.tuples(telemetry(0), telemetry(1), telemetry(2)), data=st.data())
def test_the_order_between_source_partitions_changes_no_window(logs, data):
    sources = [_events(run(request_stage(p), log), 0) for p, log in enumerate(logs)]
    expected = _windows(window_stage(sources=3, lateness=86_400), [one for source in sources for one in source])
    queues = [list(source) for source in sources]
    mixed = []
    while any(queues):
        mixed.append(any_of(data, [queue for queue in queues if queue]).pop(0))
        if data.draw(st.integers(0, 4)) == 0:
            mixed.append(any_of(data, mixed))  # a repeat, as a restarted stage 1 sends it
    assert _windows(window_stage(sources=3, lateness=86_400), mixed) == expected


@settings(max_examples=25)
@given(logs=st.tuples(telemetry(0), telemetry(1)), data=st.data())
def test_windows_that_come_late_end_up_the_same(logs, data):
    sources = [_events(run(request_stage(p), log), 0) for p, log in enumerate(logs)]
    through = [max((json.loads(e.value)["closed_through_ms"] for e in source), default=0) for source in sources]
    expected = _windows(window_stage(sources=2, lateness=86_400), [*sources[0], *sources[1]])
    late = _windows(window_stage(sources=2, lateness=0), [*sources[0], *sources[1]])
    for key, row in expected.items():
        if key[1] <= min(through):  # others are open in one, closed and revised in the other
            revised = {name: value for name, value in late[key].items() if name != "revision"}
            assert revised == {name: value for name, value in row.items() if name != "revision"}


@pytest.mark.parametrize("make", [request_stage, window_stage])
@settings(max_examples=30)
@given(records=telemetry(events_min=3, events_max=20), data=st.data())
def test_a_broken_page_is_a_value_error_and_leaves_a_new_stage(make, records, data):
    stage = make()
    events = _events(run(request_stage(), records), 0)
    partials = [as_record(event, number, LATER) for number, event in enumerate(events)]
    run(stage, records if make is request_stage else partials)
    pages = stage.all_pages()
    name = data.draw(st.sampled_from(sorted(pages)))
    kind = data.draw(st.sampled_from(["empty", "cut", "not json", "other json", "gone"]))
    broken = dict(pages)
    if kind == "gone":
        del broken[name]
    else:
        broken[name] = {"empty": b"", "cut": pages[name][:-2], "not json": b"\xff", "other json": b'{"a":1}'}[kind]
    other = make()
    try:
        anew = other.restore(broken, 7)
    except ValueError:
        assert other.all_pages() == make().all_pages()
    else:
        if make is request_stage and name.startswith("model"):
            assert anew
            whole = {page for page in pages if not page.startswith(("model", "notices"))}
            assert {page: body for page, body in other.all_pages().items() if page in whole} == {
                page: pages[page] for page in whole
            }
            return
        # A whole group that is gone is the shell's to notice: its manifest counts pages.
        assert kind == "gone"
    assert other.next_offset == 7


def _store(saved, stage):
    for name, page in stage.dirty_pages().items():
        if page is None:
            saved.pop(name, None)
        else:
            saved[name] = page
    stage.mark_clean()
    assert saved == stage.all_pages()


def _events(effects, partition):
    events = [event for one in effects for event in one.events if event.topic == "inference.windows"]
    return [event for event in events if event.partition == partition]


def _without_repeats(effects):
    """The series of each partial, but for what was told again: its count, and series that have nothing else."""
    found = []
    partials = [event for one in effects for event in one.events if event.topic == "inference.windows"]
    for event in (json.loads(event.value) for event in partials):
        series = [one | {"repeated": 0} for one in event["series"]]
        there = [one for one in series if any(one[name] for name in ("answered", "failed", "shed", "dead_lettered"))]
        found.append((event["window_start_ms"], event["window_end_ms"], there))
    return found


def _windows(stage, events):
    """The last revision of each window row, by series, end and start."""
    found = {}
    for number, event in enumerate(events):
        columns = stage.apply(as_record(event, number, LATER)).rows.get("windows_stored", {})
        by_row = defaultdict(dict)
        for name, values in columns.items():
            for row, value in enumerate(values):
                by_row[row][name] = value
        for row in by_row.values():
            key = (f"{row['scenario']}/{row['model']}/{row['model_version']}", row["window_end"], row["window_start"])
            assert key not in found or row["revision"] == found[key]["revision"] + 1
            found[key] = row
    return found
