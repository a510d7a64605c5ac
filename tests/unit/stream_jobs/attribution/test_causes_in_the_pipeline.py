"""From telemetry to alerts: partitions send sums, alerts on latency say why, tables have the parts."""

import json
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from schemas.alerts import ALERT_KINDS
from schemas.anomalies import ANOMALY_KINDS
from schemas.base import decode
from schemas.tables import ALERTS, ANOMALIES, LATENCY_CAUSES, WINDOW_SCORES
from schemas.windows import WINDOW_KINDS, PartialSeries, PartialWindowsClosed, SeriesKey
from stream_jobs.entry_pages import pack_entries, unpack_entries
from stream_jobs.replay.recompute import AnomalyRow, NotReproducible, recompute
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import RequestStage
from stream_jobs.settings import JobSettings
from stream_jobs.window_stage import WindowStage
from tests.kind_windows import sketch_of
from tests.latency_windows import Work
from tests.telemetry_events import T0, record, served, ticked

KEY = SeriesKey(model="mini", version="1", scenario="search")
LENGTH = 10_000


class Pipeline:
    """Stage 2 over two source partitions that share a service's work."""

    def __init__(self):
        self.stage = stage()
        self.rng, self._offsets, self._windows = np.random.default_rng(1), count(), count()
        self.rows, self.events = {}, []

    def run(self, windows, **changes):
        for number in (next(self._windows) for _ in range(windows)):
            start = T0 + number * LENGTH
            for source in (0, 1):
                work = replace(Work(workers=(f"w{source}",)), **changes)
                state = self.rng.bit_generator.state
                total = work.columns(self.rng, f"w{source}")["total_ms"]
                self.rng.bit_generator.state = state
                one = PartialSeries(
                    key=KEY, answered=len(total), total_ms=sketch_of(total.tolist()), latency=work.sums(self.rng)
                )
                event = PartialWindowsClosed(
                    source_topic_id="telemetry-1",
                    source_partition=source,
                    window_start_ms=start,
                    window_end_ms=start + LENGTH,
                    closed_through_ms=start + LENGTH,
                    first_offset=number,
                    next_offset=number + 1,
                    series=[one],
                )
                self._take(self.stage.apply(record(event, next(self._offsets), start + LENGTH)))
        return self

    def _take(self, effects):
        for name, columns in effects.rows.items():
            found = self.rows.setdefault(name, [])
            found += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        self.events += effects.events


def stage():
    return WindowStage(JobSettings(), partition=0, source_topic_id="telemetry-1", source_partitions=2)


def test_an_alert_on_latency_says_why_and_so_do_event_and_tables():
    pipeline = Pipeline().run(60)
    assert ALERTS.name not in pipeline.rows
    pipeline.run(6, queue=400.0, tokens=600.0)
    (alert, *_) = pipeline.rows[ALERTS.name]
    assert alert["kind"] == "latency_shift"
    assert "expected about" in alert["summary"]
    assert ": queue +" in alert["summary"]
    assert "%), tokens +" in alert["summary"]
    events = [decode(one.headers, one.value, (*ANOMALY_KINDS, *ALERT_KINDS)).data for one in pipeline.events]
    slow = next(one for one in events if getattr(one, "metric", "") == "total_ms_p95" and hasattr(one, "effects"))
    assert max(slow.contributors, key=slow.contributors.get) == "queue"
    assert sum(slow.contributors.values()) == pytest.approx(1.0)
    parts = {name: value for name, value in slow.effects.items() if name != "rise_ms"}
    assert sum(parts.values()) == pytest.approx(slow.effects["rise_ms"])
    rows = pipeline.rows[LATENCY_CAUSES.name]
    assert set(rows[-1]) == set(LATENCY_CAUSES.column_names)
    assert len(rows) == 65  # all but the first
    assert rows[-1]["queue_ms"] == pytest.approx(380.0, rel=0.2)
    assert not rows[-1]["learning"]


def test_the_row_of_a_slow_window_says_what_made_it_slow_and_a_replay_comes_to_the_same():
    pipeline = Pipeline().run(60).run(6, queue=400.0, tokens=600.0)
    events = [decode(one.headers, one.value, (*ANOMALY_KINDS, *ALERT_KINDS)).data for one in pipeline.events]
    told = {one.anomaly_id: one.contributors for one in events if hasattr(one, "contributors")}
    rows = json.loads(json.dumps(pipeline.rows[ANOMALIES.name]))
    assert {row["metric"] for row in rows} == {"total_ms_p95"}
    (alert, *_) = pipeline.rows[ALERTS.name]
    for row in rows:
        assert dict(zip(row["contributors"], row["contributions"], strict=True)) == told[row["anomaly_id"]]
        assert row["contributors"][:2] == ["queue", "tokens"]
        again = recompute(AnomalyRow(row))
        assert again.differences == ()
        assert again.alert is None or again.alert.summary == alert["summary"]
    altered = {**rows[0], "contributions": rows[0]["contributions"][::-1]}
    assert [one.column for one in recompute(AnomalyRow(altered)).differences] == ["contributions"]


def test_a_row_of_a_release_that_kept_no_causes_is_still_reproduced():
    row = Pipeline().run(60).run(6, queue=400.0).rows[ANOMALIES.name][-1]
    taken = json.loads(row["scored_input"])
    del taken["causes"]
    text = json.dumps(taken, sort_keys=True, separators=(",", ":"))
    before = {**row, "scored_input": text, "contributors": [row["metric"]], "contributions": [1.0]}
    assert recompute(AnomalyRow(before)).differences == ()


@pytest.mark.parametrize("causes", [{}, [], {"parts_ms": {}, "actual_ms": 1.0, "usual_ms": 1.0, "slowest_worker": ""}])
def test_causes_that_are_broken_in_a_row_are_refused(causes):
    row = Pipeline().run(60).run(6, queue=400.0).rows[ANOMALIES.name][-1]
    text = json.dumps({**json.loads(row["scored_input"]), "causes": causes})
    with pytest.raises(NotReproducible, match="scored_input is broken"):
        AnomalyRow({**row, "scored_input": text})


def test_the_residual_is_scored_and_opens_no_incident_of_its_own():
    pipeline = Pipeline().run(60).run(12, slow=300.0)
    scores = [one for one in pipeline.rows[WINDOW_SCORES.name] if one["metric"] == "latency_residual_ms"]
    assert scores[-1]["anomalous"]
    assert scores[-1]["actual"] == pytest.approx(300.0, rel=0.05)
    assert not any(one["anomalous"] for one in scores[:-12])
    assert {one["metric"] for one in pipeline.rows[ALERTS.name]} == {"total_ms_p95"}
    assert "the same work taking longer +" in pipeline.rows[ALERTS.name][0]["summary"]


def test_more_waiting_alone_leaves_no_residual():
    pipeline = Pipeline().run(60).run(12, queue=400.0)
    scores = [one for one in pipeline.rows[WINDOW_SCORES.name] if one["metric"] == "latency_residual_ms"]
    assert not any(one["anomalous"] for one in scores)


def test_what_was_learnt_comes_back_with_the_state():
    whole = Pipeline().run(40)
    cut = Pipeline().run(20)
    pages = cut.stage.all_pages()
    cut.stage = stage()
    cut.stage.restore(pages, 40)
    cut.run(20)
    assert json.dumps(cut.rows) == json.dumps(whole.rows)


def test_an_older_state_has_no_causes_and_learns_them():
    old = Pipeline().run(20)
    pages = dict(old.stage.all_pages())
    for name in [name for name in pages if name.startswith("series-")]:
        entries = unpack_entries([pages[name]])
        assert all(entry.numbers.pop("latency") for entry in entries)
        (pages[name],) = pack_entries(entries, old.stage._book.live.states.columns)
    new = stage()
    new.restore(pages, 40)
    old.stage, old.rows = new, {}
    old.run(2)
    assert [one["learning"] for one in old.rows[LATENCY_CAUSES.name]] == [True]


def test_partitions_send_the_sums_of_the_answered_requests_by_worker():
    stage_1 = RequestStage(
        JobSettings(), topic_id="telemetry-1", partition=0, window_partitions=1, requests=AnyRequests()
    )
    stage_1.apply(record(served(range(8), worker="w1", total_ms=50.0), 0, T0))
    stage_1.apply(record(served(range(8, 12), worker="w2", total_ms=80.0, scenario=lambda o: 0), 1, T0 + 1))
    effects = stage_1.apply(record(ticked(), 2, T0 + 20_000))
    (event,) = effects.events
    series = {one.key.scenario: one for one in decode(event.headers, event.value, WINDOW_KINDS).data.series}
    latency = series["search"].latency
    assert (latency.workers, latency.counts) == (["w1", "w2"], [4, 4])
    assert series["recommend"].latency.workers == ["w1"]
    total, queue, tokens, padding, size, cached, memory = latency.sums[0]
    assert total == 16 * sum(50 + o % 11 for o in (0, 2, 4, 6))
    assert queue == 16 * sum(15 + o % 7 for o in (0, 2, 4, 6))
    assert (tokens, padding, size, cached) == (4 * 48, 4 * 48, 4 * 8, 0)
    assert memory == 4 * round(10**9 / 2**24)
    assert latency.products[0] == sum((16 * (50 + o % 11)) ** 2 for o in (0, 2, 4, 6)) + sum(
        (16 * (80 + o % 11)) ** 2 for o in range(8, 12)
    )
