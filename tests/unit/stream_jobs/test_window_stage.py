import base64
import hashlib
import json
from collections import Counter
from itertools import count

import numpy as np
import pytest

from schemas.alerts import ALERT_KINDS
from schemas.anomalies import ANOMALY_KINDS, WindowCorrected
from schemas.base import DecodeError, Reason, decode, encode
from schemas.tables import ALERTS, ANOMALIES, WINDOW_SCORES, WINDOWS
from schemas.windows import PartialSeries, PartialWindowsClosed, SeriesKey, Sketch
from stream_jobs import open_windows
from stream_jobs.detectors.forecast_residual import ForecastResidual
from stream_jobs.entry_pages import unpack_entries
from stream_jobs.metrics import bank_of, metrics_of
from stream_jobs.open_windows import TOPICS_MAX
from stream_jobs.settings import WAITING_WINDOWS_MAX, JobSettings
from stream_jobs.stage import Limit
from stream_jobs.told_score import digest_of
from stream_jobs.window_stage import CLOCKS_APART_MS_MAX, WindowStage
from tests.alert_events import changed
from tests.sketches import buckets_of
from tests.telemetry_events import T0, record

KEY = SeriesKey(model="mini", version="1", scenario="search")
LENGTH = 10_000


def sketch(value, number):
    return Sketch(bucket=buckets_of([value]).tolist(), count=[number], sum=value * number, min=value, max=value)


def series(value=100.0, answered=100, failed=0, key=KEY):
    return PartialSeries(
        key=key,
        answered=answered,
        failed=failed,
        tokens=answered * 6,
        padded_tokens=answered * 8,
        unknown_share_sum=0.25 * answered,
        row_score_sum=0.5 * answered,
        row_score_max=0.75,
        queue_depth_max=4,
        memory_bytes_max=10**9,
        total_ms=sketch(value, answered),
        queue_ms=sketch(value / 4, answered),
        compute_ms=sketch(value / 2, answered),
    )


def partial(window, *found, source=0, topic_id="telemetry-1", chunk=0, chunks=1, through=None):
    start = T0 + window * LENGTH
    return PartialWindowsClosed(
        source_topic_id=topic_id,
        source_partition=source,
        window_start_ms=start,
        window_end_ms=start + LENGTH,
        closed_through_ms=start + LENGTH if through is None else T0 + through * LENGTH,
        first_offset=window * 10,
        next_offset=window * 10 + 10,
        chunk=chunk,
        chunks=chunks,
        series=list(found),
    )


class Reader:
    """A stage, and the records it is given, numbered."""

    def __init__(self, sources=2, topic_id="telemetry-1", **values):
        self.stage = WindowStage(
            JobSettings(**values), partition=0, source_topic_id=topic_id, source_partitions=sources
        )
        self._offsets = count()

    def __call__(self, message, at_ms=None):
        """Append time is that of the message's window unless told otherwise."""
        at_ms = message.closed_through_ms if at_ms is None else at_ms
        return self.stage.apply(record(message, next(self._offsets), at_ms, topic="inference.windows"))


def column(effects, name, table="windows_stored"):
    return effects.rows.get(table, {}).get(name, [])


def test_a_window_closes_when_every_source_has_passed_it():
    read = Reader()
    assert read(partial(0, series(100.0, 60), source=0)).rows == {}
    effects = read(partial(0, series(200.0, 40), source=1))
    rows = effects.rows["windows_stored"]
    assert set(rows) == set(WINDOWS.column_names)
    assert {name: rows[name] for name in ("requests", "answered", "revision", "tokens", "requests_per_second")} == {
        "requests": [100],
        "answered": [100],
        "revision": [0],
        "tokens": [600],
        "requests_per_second": [10.0],
    }
    assert rows["window_start"] == [T0]
    assert rows["total_ms_p50"][0] == pytest.approx(100.0, rel=0.01)
    assert rows["total_ms_p95"][0] == pytest.approx(200.0, rel=0.01)
    assert rows["total_ms_max"] == [200.0]
    assert rows["padding_share"] == [0.25]
    assert rows["unknown_share"] == [0.25]
    assert rows["row_score_mean"] == [0.5]
    assert rows["source_partitions"] == [[0, 1]]
    assert rows["source_next_offsets"] == [[10, 10]]
    assert set(effects.rows["window_scores_stored"]) == set(WINDOW_SCORES.column_names)
    assert column(effects, "learning", "window_scores_stored") == [True, True, True]


def test_a_repeat_is_ignored():
    read = Reader(sources=1)
    assert column(read(partial(0, series())), "requests") == [100]
    assert read(partial(0, series())).rows == {}
    assert column(read(partial(1, series())), "requests") == [100]
    assert read(partial(0, series())).rows == {}


def test_a_window_in_pieces_is_complete_with_the_last():
    other = SeriesKey(model="mini", version="2", scenario="search")
    read = Reader(sources=1)
    assert read(partial(0, series(), chunk=0, chunks=2)).rows == {}
    assert read(partial(0, series(), chunk=0, chunks=2)).rows == {}
    assert column(read(partial(0, series(key=other), chunk=1, chunks=2)), "model_version") == ["1", "2"]


def test_what_comes_after_the_allowed_lateness_is_a_revision_and_not_learnt():
    read = Reader(allowed_lateness_seconds=30)
    for window in range(3):
        assert read(partial(window, series(), source=0)).rows == {}
    assert read(partial(3, series(), source=0)).rows["windows_stored"]["window_start"] == [T0]
    before = [page for name, page in read.stage.all_pages().items() if name.startswith("series-")]
    late = read(partial(0, series(answered=50), source=1))
    assert column(late, "requests") == [150]
    assert column(late, "revision") == [1]
    assert list(late.rows) == ["windows_stored"]
    (told,) = [decode(one.headers, one.value, ANOMALY_KINDS) for one in late.events]
    assert isinstance(told.data, WindowCorrected)
    assert (told.data.series, told.data.window_start_ms, told.data.revision) == (KEY, T0, 1)
    assert (told.data.requests, told.data.values["requests_per_second"]) == (150, 15.0)
    assert [page for name, page in read.stage.all_pages().items() if name.startswith("series-")] == before


def test_an_idle_source_at_now_makes_nobody_else_late_after_an_outage():
    """The backlog of the others comes within seconds of log time, so all of it is complete when it is scored."""
    read, now = Reader(sources=3), T0 + 3_600_000
    read(partial(0, series(), source=0))
    read(partial(0, series(), source=1))
    closed = column(
        read(partial(300, source=2, through=360), at_ms=now), "requests"
    )  # jumps to now with its first tick
    for window in range(1, 301):
        read(partial(window, series(), source=0), at_ms=now + window * 10)
        closed += column(read(partial(window, series(), source=1), at_ms=now + window * 10), "requests")
    assert closed == [200] * 301
    assert read.stage.late_dropped == 0


def test_a_window_waits_for_the_allowed_lateness_of_log_time_and_a_gap_counts_as_half():
    read, start = Reader(sources=3, allowed_lateness_seconds=60), T0 + 10**6
    read(partial(0, series(), source=0), at_ms=start)
    assert read(partial(0, series(), source=1), at_ms=start + 86_400_000).rows == {}  # everything was away for a day
    assert read(partial(1, series(), source=0), at_ms=start + 86_400_000 + 29_000).rows == {}
    late = read(partial(1, series(), source=1), at_ms=start + 86_400_000 + 30_000)
    assert column(late, "window_start") == [T0]
    assert column(late, "requests") == [200]
    assert column(read(partial(0, series(), source=2), at_ms=start + 86_400_000 + 30_000), "revision") == [1]
    assert column(read(partial(1, series(), source=2), at_ms=start + 86_400_000 + 31_000), "requests") == [300]


def test_windows_close_in_order_of_time_although_an_older_one_was_opened_later():
    read = Reader(sources=3, allowed_lateness_seconds=20)
    read(partial(5, series(), source=0), at_ms=T0)
    read(partial(2, series(), source=1), at_ms=T0 + 10_000)
    assert read(partial(6, series(), source=0), at_ms=T0 + 20_000).rows == {}
    found = read(partial(7, series(), source=0), at_ms=T0 + 30_000)
    assert column(found, "window_start") == [T0 + 2 * LENGTH, T0 + 5 * LENGTH]


@pytest.fixture
def late_shares_max(monkeypatch):
    """A bound that is reached sooner."""
    monkeypatch.setattr(open_windows, "LATE_SHARES_MAX", 200)
    return 200


def test_a_source_that_is_gone_for_good_leaves_a_bounded_state(late_shares_max):
    """With and without series: what was closed without it, and windows that held nothing."""
    read = Reader(sources=2, allowed_lateness_seconds=0)
    for window in range(late_shares_max + 50):
        read(partial(window, *([] if window % 2 else [series()]), source=0))
    names = list(read.stage.all_pages())
    assert sum(name.startswith("late-") for name in names) == late_shares_max // 2 + 25
    for window in range(late_shares_max + 50, 3 * late_shares_max):
        read(partial(window, series(), source=0))
    names = list(read.stage.all_pages())
    assert sum(name.startswith("late-") for name in names) == late_shares_max
    assert len(names) < 2 * late_shares_max + 5


def test_what_comes_for_a_forgotten_window_is_counted_and_is_in_no_row(late_shares_max):
    read = Reader(sources=2, allowed_lateness_seconds=0)
    for window in range(late_shares_max + 2):
        read(partial(window, series(), source=0))
    lost = read(partial(0, series(), series(key=SeriesKey(model="m", version="2", scenario="s")), source=1))
    assert lost.rows == {}
    assert lost.late_series_dropped == read.stage.late_dropped == 2
    kept = read(partial(5, series(), source=1))
    assert (column(kept, "requests"), column(kept, "revision"), kept.late_series_dropped) == ([200], [1], 0)


def test_windows_that_wait_are_bounded_and_the_oldest_close_early():
    read, closed = Reader(sources=2, allowed_lateness_seconds=10_000), []
    now = T0 + 2 * WAITING_WINDOWS_MAX * LENGTH  # all at once: nothing has waited for long
    limits = Counter()
    for window in range(WAITING_WINDOWS_MAX + 5):
        effects = read(partial(window, series(), source=0), at_ms=now)
        closed += column(effects, "window_start")
        limits += effects.limits
    assert limits == {Limit.OPEN_WINDOWS: 5}
    assert closed == [T0 + window * LENGTH for window in range(5)]
    assert len([name for name in read.stage.all_pages() if name.startswith("window-")]) == WAITING_WINDOWS_MAX + 5
    assert column(read(partial(3, series(), source=1), at_ms=now), "revision") == [1]


def test_a_source_that_jumps_closes_all_between():
    read = Reader()
    read(partial(0, series(), source=0))
    read(partial(1, series(), source=0))
    assert column(read(partial(0, source=1, through=50)), "window_start") == [T0, T0 + LENGTH]


def test_windows_of_a_topic_that_was_made_anew_close_too():
    old, read = Reader(topic_id="old"), Reader(topic_id="new")
    old(partial(0, series(), source=0, topic_id="old"))
    read.stage.restore(old.stage.all_pages(), 0)
    read(partial(100, series(), source=0, topic_id="new"))
    effects = read(partial(100, series(), source=1, topic_id="new"))
    assert column(effects, "source_topic_id") == ["new"]
    closed = [column(read(partial(n, source=0, topic_id="new")), "source_topic_id") for n in range(101, 115)]
    assert [ids for ids in closed if ids] == [["old"]]


def test_topics_that_were_made_anew_again_and_again_leave_a_bounded_state():
    pages = {}
    for number in range(3 * TOPICS_MAX):
        read = Reader(topic_id=f"topic-{number}")
        read.stage.restore(pages, 0)
        read(partial(number, series(), topic_id=f"topic-{number}"))
        pages = read.stage.all_pages()
    assert sum(name.startswith("window-") for name in pages) <= TOPICS_MAX


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_end_ms": T0},
        {"closed_through_ms": T0 + 5},
        {"chunk": 1},
        {"first_offset": 11},
        {"source_partition": 2},
        {"source_topic_id": "telemetry-2"},
        dict.fromkeys(("window_end_ms", "closed_through_ms"), T0 + LENGTH + CLOCKS_APART_MS_MAX + 1),
    ],
)
def test_what_cannot_be_right_is_refused_and_changes_nothing(wrong):
    read = Reader()
    read(partial(0, series()))
    before = read.stage.all_pages()
    with pytest.raises(DecodeError) as error:
        read(partial(0, series(), source=1).model_copy(update=wrong), at_ms=T0 + LENGTH)
    assert error.value.reason is Reason.BAD_VALUE
    assert read.stage.all_pages() == before
    assert column(read(partial(0, series(), source=1), at_ms=T0 + LENGTH), "requests") == [200]


def drilled(read, windows=20, drill=range(10, 14), value=100.0, slow=900.0):
    return [read(partial(n, series(slow if n in drill else value))) for n in range(windows)]


def test_an_anomaly_can_be_computed_again_from_its_row():
    settings = JobSettings()
    found = [effects for effects in drilled(Reader(sources=1)) if "anomalies_stored" in effects.rows]
    assert len(found) == 4
    rows = found[1].rows["anomalies_stored"]
    assert set(rows) == set(ANOMALIES.column_names)
    (event,) = [
        decode(one.headers, one.value, ANOMALY_KINDS).data for one in found[1].events if one.topic == "anomaly.events"
    ]
    assert event.series == KEY
    assert event.onset_ms == T0 + 10 * LENGTH
    assert event.inputs[0].first_offset == 110
    assert hashlib.sha256(rows["state"][0].encode()).hexdigest() == rows["state_digest"][0] == event.state_digest
    state, bank = json.loads(rows["state"][0]), bank_of(settings)
    trigger = ForecastResidual(metrics_of(settings)[0].policy)
    trigger.restore(state["trigger"])
    assert [trigger.judge(rows["actual"][0], rows["window_end"][0]).score] == rows["strength"]
    row = bank.new()
    bank.restore(row, base64.b64decode(state["detector"]))
    said = bank.run(np.array([row]), np.array(rows["window_end"]), np.array(rows["actual"]))
    for name in ("score", "severity", "confidence", "expected", "upper"):
        assert rows[name] == getattr(said, name).ravel().tolist(), name
    assert rows["lower"] == [max(0.0, said.lower[0, 0])]
    assert rows["detector"] == ["two_heads"]
    assert rows["config_digest"] == [digest_of(bank.digest, trigger.policy.digest())] == [event.score.config_digest]
    assert (rows["contributors"], rows["contributions"]) == ([["total_ms_p95"]], [[1.0]])
    assert event.contributors == {"total_ms_p95": 1.0}
    assert (event.score.severity, event.strength) == (rows["severity"][0], rows["strength"][0])


def test_an_incident_is_an_event_and_a_row():
    found = drilled(Reader(sources=1))
    rows = [one.rows["alerts_stored"] for one in found if "alerts_stored" in one.rows]
    assert [row["status"] for row in rows] == [["open"], ["resolved"]]
    assert set(rows[0]) == set(ALERTS.column_names)
    assert rows[0]["resolved_at"] == [None]
    assert rows[1]["resolved_at"] == [T0 + 17 * LENGTH]
    events = [one for effects in found for one in effects.events if one.topic == "alerts"]
    assert [one.key.decode() for one in events] == [rows[0]["incident_id"][0]] * 2
    changes = [decode(one.headers, one.value, ALERT_KINDS).data for one in events]
    assert changes[0].summary == "total_ms_p95 of search/mini/1 is 900, expected about 100."
    assert [dict(one.headers)["ce_id"].decode() for one in events] == [
        f"{changes[0].incident_id}/0",
        f"{changes[0].incident_id}/1",
    ]
    assert all(encode(change) for change in changes)


def test_an_incident_goes_on_when_the_length_of_windows_is_changed():
    old, read = Reader(sources=1, window_seconds=10), Reader(sources=1, window_seconds=20)
    for number in range(13):
        old(partial(number, series(900.0 if number >= 10 else 100.0)))
    read.stage.restore(old.stage.all_pages(), 13)
    slow = [read(partial(number, series(900.0))) for number in range(13, 20)]
    assert [value for one in slow for value in column(one, "anomalous", "window_scores_stored")].count(True) == 7
    good = [read(partial(number, series(100.0))) for number in range(20, 24)]
    rows = [one.rows["alerts_stored"] for one in good if "alerts_stored" in one.rows]
    assert [(row["status"], row["windows"]) for row in rows] == [(["resolved"], [10])]


def test_incidents_whose_state_is_lost_are_ended_by_the_next_window_also_after_another_restart():
    first, read = Reader(sources=1), Reader(sources=1)
    first.stage.adopt([changed("one", 2, "updated", T0), changed("two", 0, "open", T0 + 5 * LENGTH)])
    read.stage.restore(first.stage.all_pages(), 0)
    rows = [effects.rows.get("alerts_stored") for effects in (read(partial(n, series())) for n in range(8))]
    assert [number for number, row in enumerate(rows) if row] == [0, 5]  # the later one when it is in the past
    assert (rows[0]["incident_id"], rows[0]["sequence"], rows[0]["status"]) == (["one"], [3], ["resolved"])
    assert rows[0]["resolved_at"] == [T0 + LENGTH]
    assert rows[0]["summary"][0].endswith("can no longer be judged: what was known of it is lost.")
    assert not any(name.startswith("lost") for name in read.stage.all_pages())


def test_an_incident_that_the_log_tells_again_is_not_taken_for_lost():
    known, again = Reader(sources=1), Reader(sources=1)
    alerts = [one for effects in drilled(known) for one in effects.events if one.topic == "alerts"]
    opened = decode(alerts[0].headers, alerts[0].value, ALERT_KINDS).data
    again.stage.adopt([opened.model_copy(update={"changed_ms": T0 + 15 * LENGTH, "sequence": 1})])
    found = [one for effects in drilled(again) for one in effects.events if one.topic == "alerts"]
    assert found == alerts


def test_fewer_series_than_are_known_may_be_allowed():
    old, read = Reader(sources=1, series_max=40), Reader(sources=1, series_max=10)
    keys = [SeriesKey(model="mini", version=str(n), scenario="search") for n in range(40)]
    old(partial(0, *[series(key=key) for key in keys]))
    read.stage.restore(old.stage.all_pages(), 1)
    assert read(partial(1, series(key=keys[9]))).limits == {Limit.LIVE_SERIES: 30}
    assert read(partial(2, series(key=keys[30]))).limits == {Limit.LIVE_SERIES: 1}


def test_series_are_bounded_and_a_default_series_is_small():
    read = Reader(sources=1, series_max=40, parked_series_max=0)
    keys = [SeriesKey(model="mini", version=str(n), scenario="search") for n in range(60)]
    limits = Counter()
    for window in range(30):
        limits += read(partial(window, *[series(key=key) for key in (keys[:40] if window < 20 else keys)])).limits
    assert limits[Limit.KNOWN_SERIES] >= 20
    pages = {name: page for name, page in read.stage.all_pages().items() if name.startswith("series-")}
    assert sum(map(len, pages.values())) / 40 <= 1_024  # young ones
    entries = unpack_entries(pages.values())
    scores = {"total_ms_p95", "error_share", "requests_per_second"}
    assert all(set(entry.numbers) == {*scores, "latency", "counts"} for entry in entries)
    assert max(len(entry.numbers[name]) for entry in entries for name in scores) <= 1_408
    assert sorted(pages) == ["series-0.0", "series-1.0"]
    found = [entry.plain["key"]["version"] for entry in entries]
    assert len(found) == 40
    assert set(map(str, range(40, 60))) < set(found)


def test_a_series_that_rests_ends_its_incident_and_is_scored_no_more():
    read = Reader(sources=1, idle_seconds=60)
    for number in range(12):
        read(partial(number, series(900.0 if number >= 10 else 100.0)))
    silent = [read(partial(number)) for number in range(12, 24)]
    status = [value for one in silent for value in column(one, "status", "alerts_stored")]
    assert status[-1] == "resolved"
    assert "no requests" in " ".join(value for one in silent for value in column(one, "summary", "alerts_stored"))
    assert silent[-1].rows == {}


def test_series_whose_labels_look_alike_when_joined_stay_apart():
    one = SeriesKey(model="org/mini", version="1", scenario="search")
    other = SeriesKey(model="org", version="mini/1", scenario="search")
    effects = Reader(sources=1)(partial(0, series(key=one), series(answered=7, key=other)))
    assert str(one) == str(other)
    assert sorted(column(effects, "requests")) == [7, 100]
