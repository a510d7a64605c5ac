"""Stored windows scored again: under the same rules what was live, bit for bit; under others what those would tell."""

import json
import random
import re
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from infra.columns import plain
from schemas.tables import ALERTS, ANOMALIES, LATENCY_CAUSES, REBUILT_OF, WINDOW_SCORES, WINDOWS
from schemas.windows import PartialSeries, SeriesKey, Sketch
from stream_jobs.ledger_triggers import NAME as LEDGER
from stream_jobs.partial_events import target_of
from stream_jobs.replay.rebuild import Rebuild, compare
from stream_jobs.replay.rebuilt_rows import RebuiltRows
from stream_jobs.replay.stored_series import StoredSeries, windows_of
from stream_jobs.settings import JobSettings
from stream_jobs.window_stage import WindowStage
from tests.fakes import FakeTable
from tests.latency_windows import Work
from tests.sketches import buckets_of
from tests.telemetry_events import T0, record
from tests.unit.stream_jobs.test_window_stage import LENGTH, partial

PARTITIONS = 2
KEYS = [SeriesKey(model="mini", version="1", scenario=name) for name in ("search", "ads", "recommend")]
NOBODY = SeriesKey(model="", version="", scenario="")
VIEWS = (WINDOWS, LATENCY_CAUSES, WINDOW_SCORES, ANOMALIES, ALERTS)


def sketch(values):
    counts = {}
    for bucket in buckets_of(values).tolist():
        counts[bucket] = counts.get(bucket, 0) + 1
    found = sorted(counts.items())
    return Sketch(
        bucket=[one for one, _ in found],
        count=[number for _, number in found],
        sum=float(sum(values)),
        min=min(values),
        max=max(values),
    )


def series(rng, key, number):
    slow = 15.0 if key.scenario == "search" and 100 <= number < 110 else 1.0
    failed = 60 if key.scenario == "ads" and 130 <= number < 136 else 0
    total = [slow * rng.lognormvariate(4.0, 0.2) for _ in range(40)]
    return PartialSeries(
        key=key,
        answered=100,
        failed=failed,
        empty=60 if key.scenario == "recommend" and 150 <= number < 155 else 0,
        tokens=600,
        padded_tokens=900,
        memory_bytes_max=10**9,
        total_ms=sketch(total),
        queue_ms=sketch([one / 4 for one in total]),
        compute_ms=sketch([one / 2 for one in total]),
        token_bins=[0, 0, 60, 40],
        latency=Work(requests=40, slow=100.0 * (slow - 1.0)).sums(np.random.default_rng(number)),
    )


class Live:
    """Two sources through one stage a partition of the windows topic, and the tables that they fill."""

    def __init__(self, windows=200, **settings):
        self.settings = JobSettings(**settings)
        self.tables = {table.name: [] for table in VIEWS}
        rng, number = random.Random(5), 0
        stages = [
            WindowStage(
                self.settings,
                partition=target,
                source_topic_id="telemetry-1",
                source_partitions=2,
                alerts_a_week=11 - target,
            )
            for target in range(PARTITIONS)
        ]
        for window in range(windows):
            for source in range(2):
                # For some seconds nobody asks anything; and a broken record now and then, which is nobody's series.
                found = [] if 180 <= window < 186 else [series(rng, key, window) for key in KEYS]
                if window % 20 == 3:
                    found.append(PartialSeries(key=NOBODY, dead_lettered=7, schema_broken=7, of_requests=311 + source))
                for target, stage in enumerate(stages):
                    share = [one for one in found if target_of(one.key, PARTITIONS) == target]
                    message = partial(window, *share, source=source)
                    one = record(message, number, message.closed_through_ms, topic="inference.windows")
                    number += 1
                    self._keep(stage.apply(one))

    def _keep(self, effects):
        for name, columns in effects.rows.items():
            values = [plain(column) for column in columns.values()]
            self.tables[name] += [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]

    def windows(self):
        known = self.tables[WINDOW_SCORES.name]
        return windows_of(self.tables[WINDOWS.name], self.tables[LATENCY_CAUSES.name], known)


@pytest.fixture(scope="module")
def live():
    found = Live()
    assert {row["kind"] for row in found.tables[ANOMALIES.name]} >= {
        "latency_shift",
        "error_burst",
        "empty_result",
        "throughput_drop",
    }
    return found


def rebuilt(live, since=0, **settings):
    kept = {table.name: [] for table in VIEWS}

    def keep(table, columns):
        values = [plain(column) for column in columns.values()]
        kept[table] += [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]

    changed = live.settings.model_copy(update={"alerts_a_week": 21, **settings})
    run = Rebuild(changed, PARTITIONS, T0 + since * LENGTH, keep)
    run.run(live.windows())
    return run, kept


@pytest.fixture(scope="module")
def again(live):
    """Rebuilt under the same rules: the run and the rows by table."""
    return rebuilt(live)


def sorted_rows(rows):
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True, default=str))


@pytest.mark.parametrize("table", [WINDOW_SCORES, ANOMALIES, ALERTS], ids=lambda table: table.view)
def test_under_the_same_rules_it_is_what_was_live_bit_for_bit(live, again, table):
    _, kept = again
    assert sorted_rows(kept[table.name]) == sorted_rows(live.tables[table.name])


def last_states(rows):
    return {row["incident_id"]: row for row in sorted(rows, key=lambda row: row["sequence"])}


def test_under_the_same_rules_all_alerts_are_the_same(live, again):
    run, _ = again
    found = compare(last_states(live.tables[ALERTS.name]).values(), run.alerts.values())
    assert len(found.same) == len(last_states(live.tables[ALERTS.name])) >= 3
    assert [*found.moved, *found.added, *found.gone] == []


def test_a_rule_that_is_harder_loses_alerts_and_one_that_waits_longer_moves_them(live):
    told = last_states(live.tables[ALERTS.name]).values()
    harder, _ = rebuilt(live, latency_ms_min=1e6)
    assert {row["kind"] for row in compare(told, harder.alerts.values()).gone} == {"latency_shift"}
    later, _ = rebuilt(live, open_windows=4)
    moved = compare(told, later.alerts.values()).moved
    assert any(one["kind"] == "latency_shift" and one["opened_at"] < other["opened_at"] for one, other in moved)


def test_the_warm_up_is_learnt_and_told_of_nothing(live, again):
    whole, kept_whole = again
    run, kept = rebuilt(live, since=120)
    since_ms = T0 + 120 * LENGTH
    assert run.counts["windows"] == whole.counts["windows"] - run.counts["warm_up_windows"]
    late = [row for row in kept_whole[WINDOW_SCORES.name] if row["window_end"] > since_ms]
    assert sorted_rows(kept[WINDOW_SCORES.name]) == sorted_rows(late)
    assert all(row["opened_at"] > since_ms for row in run.alerts.values())
    assert len(run.alerts) < len(whole.alerts)


def test_alerts_of_a_watchdog_and_of_the_ledger_are_not_compared():
    told = [{"incident_id": "a", "scenario": "(pipeline)"}]
    told += [{"incident_id": kind, "scenario": "search", "kind": kind} for kind in ("stall", "lag")]
    found = compare(told, [])
    assert [*found.same, *found.moved, *found.added, *found.gone] == []


def test_rows_go_to_their_own_tables_under_the_run(live):
    table = FakeTable()
    rows = RebuiltRows(table, "run-1", T0, 50)
    run = Rebuild(live.settings, PARTITIONS, 0, rows.keep)
    run.run(live.windows())
    rows.flush()
    assert set(table.rows) == {one.name for one in REBUILT_OF.values()}
    found = table.rows["rebuilt_window_scores_stored"]
    assert len(found) == run.counts["window_scores"]
    assert set(found[0]) == set(REBUILT_OF[WINDOW_SCORES.name].column_names)
    assert {row["run_id"] for row in found} == {"run-1"}


class Answers:
    """Tables that answer by the view that is asked, within the span, and note the spans."""

    def __init__(self, live):
        self.live, self.spans = live, []

    def query(self, sql, parameters):
        view = sql.split(" FROM ")[1].split()[0]
        (table,) = [one for one in VIEWS if one.view == view]
        rows = [
            row for row in self.live.tables[table.name] if parameters["from"] < row["window_end"] <= parameters["to"]
        ]
        if "count()" in sql:
            return (), [(min((row["window_end"] for row in rows), default=0), len(rows))]
        if "DISTINCT" in sql:
            (left_out,) = re.findall(r"detector != '(\w+)'", sql)
            rows = [row for row in rows if row["detector"] != left_out]
            names = ("source_topic_id", "window_start", "window_end")
            return names, list({tuple(_time(name, row[name]) for name in names) for row in rows})
        self.spans.append((parameters["from"], parameters["to"]))
        return table.column_names, [tuple(_time(name, row[name]) for name in table.column_names) for row in rows]


def _time(name, value):
    return datetime.fromtimestamp(value / 1000, UTC) if name.startswith("window_") else value


def test_windows_are_read_slice_by_slice_as_they_are(live, monkeypatch):
    monkeypatch.setattr("stream_jobs.replay.stored_series.SLICE_MS", 7 * LENGTH)
    answers = Answers(live)
    found = list(StoredSeries(answers, T0 - 10**7, T0 + 10**7))
    assert [one.window for one in found] == [one.window for one in live.windows()]
    assert [one.found for one in found] == [one.found for one in live.windows()]
    assert len(set(answers.spans)) > 20


def test_what_the_ledger_said_is_no_window(live):
    some = live.tables[WINDOW_SCORES.name][0]
    said = {**some, "detector": LEDGER, "window_start": some["window_start"] + 1, "window_end": some["window_end"] + 1}
    tables = {**live.tables, WINDOW_SCORES.name: [*live.tables[WINDOW_SCORES.name], said]}
    found = list(StoredSeries(Answers(SimpleNamespace(tables=tables)), T0 - 10**9, T0 + 10**9))
    assert [one.window for one in found] == [one.window for one in live.windows()]


def test_a_corrected_window_says_nothing_of_what_is_missing(live):
    rows = [{**row, "revision": 1} if number == 0 else row for number, row in enumerate(live.tables[WINDOWS.name])]
    first, second = windows_of(rows, [], [])[:2]
    assert (first.complete, second.complete) == (False, True)
    assert replace(first, complete=True).found.keys() == second.found.keys()
