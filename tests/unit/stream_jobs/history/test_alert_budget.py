"""At most so many alerts in any week, decided from what came before."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_jobs.alert_budget import COOL_DOWN_MS, WEEK_MS, AlertBudget
from stream_jobs.history.candidates import Candidates

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def decided(rows, a_week, first_ms=0):
    budget = AlertBudget(a_week, first_ms)
    return [budget.alerts(series, time_ms, alarm, alarm) for series, time_ms, alarm in rows]


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 90 * 24), st.floats(0, 8)), min_size=1, max_size=200),
    a_week=st.integers(1, 5),
    cut=st.integers(1, 200),
)
def test_no_week_has_more_and_later_rows_change_nothing(rows, a_week, cut):
    rows = sorted((series, hour * HOUR_MS, alarm) for series, hour, alarm in rows)
    rows.sort(key=lambda row: row[1])
    said = decided(rows, a_week)
    assert decided(rows[:cut], a_week) == said[:cut]
    alerted = [row[1] for row, alert in zip(rows, said, strict=True) if alert]
    for start in alerted:
        assert sum(start <= time_ms < start + WEEK_MS for time_ms in alerted) <= a_week


def test_in_the_first_week_a_row_must_be_rarer_than_the_rows_that_come():
    # 20 unusual rows in ten hours are 33,600 rows a week: 7 of them are rarer than 1 in 10^3.7.
    usual = [(0, minute * 60_000, 3.0) for minute in range(30, 600, 30)]
    for alarm, alerts in ((3.6, False), (3.8, True)):
        assert decided([*usual, (1, 600 * 60_000, alarm)], 7)[-1] is alerts


def test_an_incident_alerts_once_and_a_new_one_after_an_hour_may_again():
    rows = [(1, 6 * HOUR_MS + minute * 60_000, 5.0 + minute) for minute in range(20)]
    rows += [(1, 9 * HOUR_MS, 90.0)]
    said = decided(rows, 5)
    assert said == [True, *[False] * 19, True]
    assert rows[-1][1] - rows[-2][1] > COOL_DOWN_MS


def test_the_budget_is_spent_on_the_rarest():
    rng = np.random.default_rng(3)
    rows = [(int(rng.integers(20)), hour * HOUR_MS, float(rng.exponential())) for hour in range(24 * 7 * 20)]
    said = np.array(decided(rows, 7))
    alarms = np.array([alarm for _, _, alarm in rows])
    later = slice(24 * 28, None)
    alerts_a_week = said[later].sum() / 16
    assert 3.0 <= alerts_a_week <= 7.0
    assert alarms[later][said[later]].min() > np.quantile(alarms, 0.9)


def test_candidates_are_judged_in_the_order_of_time_whatever_the_file_s():
    one, other = Candidates(), Candidates()
    parts = [
        (series, np.array([day * DAY_MS + series]), np.array([day]), np.array([float(day % 5 + series)]))
        for series in range(3)
        for day in range(1, 30)
    ]
    for candidates, ordered in ((one, parts), (other, parts[::-1])):
        candidates.see(np.array([0]))
        for series, time_ms, row, alarm in ordered:
            candidates.add(series, time_ms, row, np.stack([alarm] * 4, axis=1))
    assert one.alerts(2) == other.alerts(2)
    assert one.alerts(2)


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        AlertBudget(0, 0)
    assert Candidates().alerts(3) == []
