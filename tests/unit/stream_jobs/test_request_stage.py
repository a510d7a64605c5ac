import json
from collections import Counter
from dataclasses import replace

import pytest

from infra.offset_set import PAGE_OFFSETS
from schemas.anomalies import ANOMALY_KINDS
from schemas.base import DecodeError, Reason, decode
from schemas.tables import REQUESTS
from schemas.telemetry import Outcome
from schemas.windows import WINDOW_KINDS
from stream_jobs.partial_events import target_of
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import APPENDED_SINCE_MAX, REQUEST_TOPICS_MAX, RequestStage
from stream_jobs.settings import JobSettings
from stream_jobs.stage import PAGE_BYTES_MAX, Limit
from stream_jobs.windows import OVERFLOW
from tests.telemetry_events import T0, record, served, stored, ticked

PARTITIONS = 3


def new_stage(requests=None, **values):
    settings = JobSettings(**{"window_seconds": 10, **values})
    return RequestStage(
        settings,
        topic_id="telemetry-1",
        partition=0,
        window_partitions=PARTITIONS,
        requests=AnyRequests() if requests is None else requests,
    )


class Requests:
    """A RequestLog of one topic that ends at 5,000."""

    def is_known(self, cluster_id, topic_id):
        return (cluster_id, topic_id) == ("cluster-1", "requests-1")

    def end(self, cluster_id, topic_id, partition):
        return 5_000 if topic_id == "requests-1" else None


def partials(effects):
    found = [event for event in effects.events if event.topic == "inference.windows"]
    return [decode(event.headers, event.value, WINDOW_KINDS).data for event in found]


def test_rows_have_the_tables_columns_and_log_time():
    stage = new_stage()
    stage.apply(record(ticked(), 0, T0 + 500))
    effects = stage.apply(record(served(range(100, 104)), 1, T0 + 400))
    rows = stored(effects)
    assert set(rows) == set(REQUESTS.column_names)
    assert {len(values) for values in rows.values()} == {4}
    assert rows["offset"] == [100, 101, 102, 103]
    assert rows["served_at"] == [T0 + 500] * 4  # the clock of the log never goes back
    assert rows["appended_at"] == [T0 + 100, T0 + 101, T0 + 102, T0 + 103]
    assert rows["version"] == [2**63 - 2] * 4
    assert rows["model"] == ["mini"] * 4
    assert rows["scenario"] == ["search", "recommend", "search", "recommend"]
    assert rows["learning"] == [True] * 4
    assert stage.next_offset == 2


def test_what_was_in_no_batch_has_no_model_and_no_batch():
    stage = new_stage()
    event = served(range(3), outcome=lambda o: [Outcome.SHED, Outcome.ANSWERED, Outcome.DEAD_LETTERED][o])
    rows = stored(stage.apply(record(event, 0, T0)))
    assert rows["model"] == ["", "mini", ""]
    assert rows["batch_size"] == [0, 3, 0]
    assert rows["batch_reason"] == ["", "full", ""]
    assert rows["outcome"] == ["shed", "answered", "dead_lettered"]


def test_a_window_is_closed_to_every_partition_when_log_time_passes_it():
    stage = new_stage()
    assert stage.apply(record(served(range(10)), 0, T0)).events == []
    assert stage.apply(record(served(range(10, 20)), 1, T0 + 9_999)).events == []
    effects = stage.apply(record(served(range(20, 30)), 2, T0 + 10_000))
    messages = partials(effects)
    assert [event.partition for event in effects.events] == [0, 1, 2]
    assert {(m.window_start_ms, m.window_end_ms, m.closed_through_ms) for m in messages} == {
        (T0, T0 + 10_000, T0 + 10_000)
    }
    assert {(m.first_offset, m.next_offset) for m in messages} == {(0, 2)}
    series = {str(one.key): one for m in messages for one in m.series}
    assert sorted(series) == ["recommend/mini/1", "search/mini/1"]
    search = series["search/mini/1"]
    assert (search.answered, search.tokens, search.padded_tokens, search.truncated) == (10, 60, 120, 2)
    assert sum(search.total_ms.count) == 10
    for event, message in zip(effects.events, messages, strict=True):
        assert all(target_of(one.key, PARTITIONS) == event.partition for one in message.series)
    ids = [dict(event.headers)["ce_id"] for event in effects.events]
    assert ids == [f"telemetry-1/0/{T0}/{target}/0".encode() for target in range(3)]


def test_a_pause_closes_one_window_and_says_how_far_all_is_closed():
    stage = new_stage()
    stage.apply(record(served(range(10)), 0, T0))
    messages = partials(stage.apply(record(ticked(), 1, T0 + 95_000)))
    assert len(messages) == PARTITIONS
    assert {(m.window_end_ms, m.closed_through_ms) for m in messages} == {(T0 + 10_000, T0 + 90_000)}


YEAR = 365 * 86_400_000


@pytest.mark.parametrize("jump", [-10 * YEAR, -YEAR, -86_400_000, 86_400_000, YEAR, 10 * YEAR])
def test_one_record_whose_clock_is_years_off_stops_no_window(jump):
    """A thousand seconds of ordinary records around it: as many windows as without it."""
    stage, closed = new_stage(window_seconds=1), []
    for number in range(2_000):
        at_ms = T0 + number * 500 + (jump if number == 1_000 else 0)
        closed += partials(stage.apply(record(ticked(), number, at_ms)))
    assert len(closed) == 999 * PARTITIONS
    assert {one.window_end_ms - one.window_start_ms for one in closed} == {1_000}


@pytest.mark.parametrize("jump", [-10 * YEAR, -3_600_000, 86_400_000, 10 * YEAR])
def test_a_clock_that_is_set_for_good_is_followed_after_three_records(jump):
    stage, times = new_stage(window_seconds=1), []
    for number in range(40):
        at_ms = T0 + number * 1_000 + (jump if number >= 20 else 0)
        rows = stored(stage.apply(record(served([number]), number, at_ms)))
        times.append(rows["served_at"][0] - number * 1_000 - T0)
    assert times == [*[0] * 20, -1_000, -2_000, *[jump] * 18]


def test_a_record_that_was_skipped_still_moves_the_watermark():
    stage = new_stage()
    stage.apply(record(served(range(10)), 0, T0))
    effects = stage.skip(record(ticked(), 1, T0 + 20_000))
    assert len(effects.events) == PARTITIONS
    assert stage.next_offset == 2


def broken(message, **values):
    text = json.loads(message.model_dump_json())
    for path, value in values.items():
        section, name = path.split("__")
        text[section][name] = value
    return type(message).model_validate(text, strict=False)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (served(range(3), partition=1), Reason.BAD_VALUE),
        (ticked(1), Reason.BAD_VALUE),
        (broken(served(range(3)), requests__tokens=[1, 2**40, 1]), Reason.BAD_VALUE),
        (broken(served(range(3)), batches__queue_depth=[2**33]), Reason.BAD_VALUE),
    ],
)
def test_what_cannot_be_right_is_refused_and_changes_nothing(message, reason):
    stage = new_stage()
    stage.apply(record(served(range(10)), 0, T0))
    before = stage.all_pages()
    with pytest.raises(DecodeError) as error:
        stage.apply(record(message, 1, T0 + 50_000))
    assert error.value.reason is reason
    assert stage.all_pages() == before
    assert stage.next_offset == 1


@pytest.mark.parametrize("column", ["queue_ms", "total_ms", "output_norm", "compute_ms", "tokenise_ms"])
@pytest.mark.parametrize(
    "value", ["-1", "-1e-9", "-0.001", "NaN", "Infinity", "-Infinity", "1e999", '"50"', "null", "1e13"]
)
def test_a_duration_that_is_none_is_a_dead_letter_and_changes_nothing(column, value):
    stage = new_stage()
    stage.apply(record(served(range(10)), 0, T0))
    before = stage.all_pages()
    good = record(served(range(3)), 1, T0)
    text = json.loads(good.value)
    section = next(one for one in ("requests", "batches") if column in text[one])
    text[section][column][-1] = "(value)"
    bad = replace(good, value=json.dumps(text).replace('"(value)"', value).encode())
    with pytest.raises(DecodeError) as error:
        stage.apply(bad)
    assert error.value.reason in (Reason.BAD_VALUE, Reason.WRONG_TYPE, Reason.NON_FINITE_NUMBER, Reason.NOT_JSON)
    assert stage.all_pages() == before
    assert stage.next_offset == 1
    stage.skip(bad)
    assert stored(stage.apply(record(served(range(10, 13)), 2, T0)))["offset"] == [10, 11, 12]


@pytest.mark.parametrize(
    ("offset", "topic_id"), [(5_000 + APPENDED_SINCE_MAX, "requests-1"), (10**9, "requests-1"), (5, "requests-2")]
)
def test_telemetry_of_requests_that_cannot_be_is_refused_and_hides_no_real_one(offset, topic_id):
    stage = new_stage(Requests())
    for number in range(200):  # pages far apart: more than the set of offsets seen keeps
        forged = served([offset + number * 20_000], topic_id=topic_id)
        with pytest.raises(DecodeError) as error:
            stage.apply(record(forged, number, T0))
        assert error.value.reason is Reason.BAD_VALUE
        stage.skip(record(forged, number, T0))
    rows = stored(stage.apply(record(served(range(4_990, 5_010)), 200, T0)))
    assert rows["offset"] == list(range(4_990, 5_010))


def test_what_was_the_request_topic_before_stays_known_with_the_state():
    old, new = new_stage(), new_stage(Requests())
    old.apply(record(served(range(10), topic_id="requests-0"), 0, T0))
    new.restore(old.all_pages(), 1)
    rows = stored(new.apply(record(served(range(20), topic_id="requests-0"), 1, T0)))
    assert rows["offset"] == list(range(10, 20))


def test_the_row_model_judges_after_its_first_window_and_knows_the_unusual():
    stage = new_stage(row_window=50)
    for number in range(12):
        offsets = range(number * 10, number * 10 + 10)
        rows = stored(stage.apply(record(served(offsets, scenario=lambda o: 0), number, T0 + number)))
        assert rows["learning"] == [number < 5] * 10
    usual = max(rows["score"])
    slow = served([500], total_ms=60_000.0, scenario=lambda o: 0)
    odd = stored(stage.apply(record(slow, 12, T0 + 20)))
    assert odd["score"][0] > usual


def test_models_above_the_bound_share_one():
    stage = new_stage(row_models_max=1)
    effects = [stage.apply(record(served(range(10), scenario=lambda o: 0), 0, T0))]
    effects += [stage.apply(record(served(range(10, 20), scenario=lambda o: 1), 1, T0))]
    effects += [stage.apply(record(served(range(20, 30), scenario=lambda o: -1), 2, T0))]
    assert [one.limits.get(Limit.ROW_MODELS, 0) for one in effects] == [0, 10, 10]
    assert sorted(name for name in stage.all_pages() if name.startswith("model-")) == ["model-0.0", "model-1.0"]


def limits_told(effects):
    found = [one for one in effects.events if one.topic == "anomaly.events"]
    return [decode(one.headers, one.value, ANOMALY_KINDS).data for one in found]


def test_a_bound_is_an_event_with_its_window_and_then_once_an_hour():
    stage, told, left_out = new_stage(row_models_max=1, series_max=2), [], Counter()
    for number in range(900):  # three events a window, 50 minutes
        at_ms = T0 + number * 3_333 + (1_000_000 if number > 800 else 0)
        offsets = range(number * 4, number * 4 + 4)
        effects = stage.apply(record(served(offsets, scenario=lambda o: o % 3 - 1), number, at_ms))
        for one in limits_told(effects):
            told.append(one)
            assert one.at_ms <= at_ms < one.at_ms + 1_100_000
        left_out += effects.limits
        if number % 50 == 7:
            pages = stage.all_pages()
            stage = new_stage(row_models_max=1, series_max=2)
            stage.restore(pages, number + 1)
    names = [one.limit for one in told]
    assert sorted(names) == ["row_models", "row_models", "window_series", "window_series"]
    assert all((one.topic, one.partition) == ("inference.telemetry", 0) for one in told)
    first = {one.limit: one.at_ms for one in told[:2]}
    assert set(first.values()) == {T0 // 10_000 * 10_000 + 10_000}
    assert all(one.at_ms - first[one.limit] >= 3_600_000 for one in told[2:])
    for limit in (Limit.ROW_MODELS, Limit.WINDOW_SERIES):  # all but what came after the last of them
        assert 0 <= left_out[limit] - sum(one.count for one in told if one.limit == limit) < 400


def test_series_above_the_bound_share_one():
    stage = new_stage(series_max=1)
    effects = stage.apply(record(served(range(12), scenario=lambda o: o % 3 - 1), 0, T0))
    assert effects.limits == {Limit.WINDOW_SERIES: 8}
    messages = partials(stage.apply(record(ticked(), 1, T0 + 10_000)))
    series = {str(one.key): one.answered for m in messages for one in m.series}
    assert series == {"/mini/1": 4, str(OVERFLOW): 8}


def test_many_request_topics_and_gaps_stay_small():
    stage = new_stage()
    limits = Counter()
    for number in range(3 * REQUEST_TOPICS_MAX):
        limits += stage.apply(record(served([number * 40_000], topic_id=f"topic-{number}"), number, T0)).limits
    for number in range(400):
        limits += stage.apply(record(served([7 + number * 20_000]), 100 + number, T0)).limits
    assert limits[Limit.REQUEST_TOPICS] == 2 * REQUEST_TOPICS_MAX + 1
    # Given up: all below the lowest page kept but the offsets told of.
    assert limits[Limit.OFFSET_HOLES] == (7 + 272 * 20_000) // PAGE_OFFSETS * PAGE_OFFSETS - 272
    pages = stage.all_pages()
    assert sum(name.startswith("seen-") for name in pages) == REQUEST_TOPICS_MAX
    assert max(map(len, pages.values())) < PAGE_BYTES_MAX


@pytest.mark.parametrize(("before", "after", "end"), [(60, 10, 60), (10, 60, 10), (60, 7, 60)])
def test_a_change_of_the_length_of_windows_keeps_what_was_seen_and_closes_the_open_window_where_it_would(
    before, after, end
):
    start = T0 // 60_000 * 60_000
    old, new = new_stage(window_seconds=before), new_stage(window_seconds=after)
    old.apply(record(served(range(80)), 0, start + 1_000))
    new.restore(old.all_pages(), 1)
    rows = stored(new.apply(record(served(range(90)), 1, start + 2_000)))
    assert rows["offset"] == list(range(80, 90))
    closed = partials(new.apply(record(ticked(), 2, start + 200_000)))
    assert {(one.window_start_ms - start, one.window_end_ms - start) for one in closed} == {(0, end * 1000)}
    assert sum(series.answered for one in closed for series in one.series) == 90
    new.apply(record(ticked(), 3, start + 300_000))
    following = partials(new.apply(record(ticked(), 4, start + 400_000)))
    assert {(one.window_end_ms - one.window_start_ms) for one in following} == {after * 1000}


def test_a_change_of_the_row_window_only_starts_the_models_anew():
    old, new = new_stage(row_window=50), new_stage(row_window=60)
    old.apply(record(served(range(80)), 0, T0))
    new.restore(old.all_pages(), 1)
    assert stored(new.apply(record(served(range(90)), 1, T0)))["offset"] == list(range(80, 90))
