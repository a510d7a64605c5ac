"""Counters in a file: their increases are scored, restarts are no faults, and nothing looks ahead."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from infra.cli import inferwatch
from stream_jobs.history import counters, reading
from stream_jobs.history.counters import Counters

START, STEP = 1_700_000_000, 60


def service(points=1_500, seed=3, restarts=(700, 900, 1_200), still=()):
    """Some 600 requests a minute of two series, counted from 0 at each restart; none in the rows of `still`."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in ("a", "b"):
        total = 5e6
        for number in range(points):
            total = 0.0 if number in restarts else total + (0 if number in still else 600 + 20 * rng.normal())
            rows.append((number, name, total))
    rows.sort(key=lambda row: row[0])
    times = [START + STEP * number for number, _, _ in rows]
    return pa.table({"series": [r[1] for r in rows], "ts": times, "requests_total": [r[2] for r in rows]})


def detect(tmp_path, table, *arguments):
    pq.write_table(table, tmp_path / "in.parquet")
    given = [str(one) for one in (tmp_path / "in.parquet", "--out", tmp_path / "out.parquet", "--json", *arguments)]
    result = CliRunner().invoke(inferwatch, ["detect", *given])
    assert result.exit_code == 0, result.output
    return pq.read_table(tmp_path / "out.parquet"), json.loads(result.stdout)


def of(scores, series, column):
    found = zip(scores["series"].to_pylist(), scores[column].to_pylist(), strict=True)
    return [value for name, value in found if name == series]


def grown(values, times=None, columns=(0,)):
    """Increases of one series, one row at a time."""
    found = Counters(list(columns))
    values = np.array(values, dtype=float).reshape(len(values), -1)
    times = np.arange(len(values)) * 60_000.0 if times is None else np.array(times, dtype=float)
    one = [found.increases(pa.array(["s"]), times[i : i + 1], values[i : i + 1])[0, 0] for i in range(len(values))]
    return one, found


def test_restarts_are_no_faults_and_a_still_counter_is_one(tmp_path):
    table = service(still=(1_400,))
    scores, said = detect(tmp_path, table, "--counter", "requests_total", "--budget", 5)
    assert said["counters"] == {"requests_total": 6}
    alarms = [alarm if alarm is not None else 0.0 for alarm in of(scores, "a", "alarm")]
    assert int(np.argmax(alarms)) == 1_400
    assert {alert["row"] // 2 for alert in said["alerts"]} == {1_400}
    assert [number for number, score in enumerate(of(scores, "a", "score")) if score is None] == [0, 700, 900, 1_200]
    assert of(scores, "a", "expected")[1_300] == pytest.approx(10.0, rel=0.05)  # a second
    without, _ = detect(tmp_path, table)
    assert max(of(without, "a", "alarm")[690:1_000]) > 2.0, "a restart is an anomaly of a value that only grows"


@pytest.mark.parametrize("batch_rows", [1, 37, 10_000])
def test_it_never_looks_ahead_and_batches_do_not_matter(tmp_path, monkeypatch, batch_rows):
    table = service(300, restarts=(100, 120))
    whole, _ = detect(tmp_path, table, "--counter", "requests_total")
    monkeypatch.setattr(reading, "BATCH_ROWS", batch_rows)
    part, _ = detect(tmp_path, table.slice(0, 411), "--counter", "requests_total")
    assert part.equals(whole.slice(0, 411))


def test_an_increase_is_a_second_s_since_the_last_value():
    nan = float("nan")
    increases, found = grown([100, 160, 220, nan, 340, 10, 70, 70], [0, 60e3, 90e3, 120e3, 150e3, 180e3, 240e3, 300e3])
    assert np.array_equal(increases, [nan, 1.0, 2.0, nan, 2.0, nan, 1.0, 0.0], equal_nan=True)
    assert found.restarts() == {0: 1}


def test_a_late_row_and_a_clock_that_jumped_for_a_moment_change_nothing():
    day = 86_400_000
    times = [60_000 * n for n in range(6)]
    increases, _ = grown([0, 60, 90, 120, 180, 240], [*times[:2], times[0], times[2] + 4_000 * day, *times[2:4]])
    assert np.array_equal(increases, [np.nan, 1.0, np.nan, np.nan, 2.0, 1.0], equal_nan=True)


def test_after_a_jump_of_the_clock_for_good_no_increase_is_known_at_first():
    times = [0, 60_000, *(4_000 * 86_400_000 + 60_000 * n for n in range(4))]
    increases, found = grown([0, 60, 120, 180, 240, 300], times)
    assert np.array_equal(increases, [np.nan, 1.0, np.nan, np.nan, np.nan, 1.0], equal_nan=True)
    assert found.restarts() == {0: 0}


def test_rows_of_days_and_weeks_are_no_jumps_once_the_interval_is_known():
    week = 7 * 86_400_000
    increases, _ = grown(np.arange(12) * 604_800.0, np.arange(12) * week)
    assert np.array_equal(increases[4:], [1.0] * 8)


def test_other_metrics_are_left_as_they_are_and_what_was_given_is_not_changed():
    values = np.array([[1.0, 50.0], [61.0, 51.0]])
    given = values.copy()
    increases = Counters([0]).increases(pa.array(["s", "s"]), np.array([0.0, 60_000.0]), values)
    assert np.array_equal(increases, [[np.nan, 50.0], [1.0, 51.0]], equal_nan=True)
    assert np.array_equal(values, given)


def test_series_beyond_the_bound_have_no_increase(monkeypatch):
    monkeypatch.setattr(counters, "SERIES_MAX", 1)
    rows = pa.array(["a", "b", None, "a", "b", None])
    increases = Counters([0]).increases(rows, np.array([0.0] * 3 + [1e3] * 3), np.arange(6.0)[:, None])
    assert np.array_equal(increases[:, 0], [np.nan, np.nan, np.nan, 3.0, np.nan, np.nan], equal_nan=True)


def test_a_counter_that_is_no_column_is_said(tmp_path):
    pq.write_table(service(5), tmp_path / "in.parquet")
    for command in ("detect", "budget"):
        result = CliRunner().invoke(inferwatch, [command, str(tmp_path / "in.parquet"), "--counter", "errors_total"])
        assert (result.exit_code, "columns missing: errors_total" in result.stderr.replace("\n", " ")) == (2, True)
