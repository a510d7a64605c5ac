"""A budget is never overspent, and a larger one never asks for a higher threshold than it must."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_jobs.alert_budget import WEEK_MS, ScoreHistory, alert_times, cost_of, spend, spend_each

HOUR = 3_600_000


def histories(seed, series, points):
    rng = np.random.default_rng(seed)
    made = {}
    for number in range(series):
        score = np.round(rng.exponential(1.0, points), 1)
        score[rng.random(points) < 0.1] = np.nan
        made[f"s{number}"] = ScoreHistory(np.cumsum(rng.integers(1, 2 * HOUR, points)), score)
    return made


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    series=st.integers(1, 5),
    points=st.integers(2, 200),
    budget=st.floats(0, 500),
    quiet=st.integers(0, 5 * HOUR),
)
def test_a_budget_is_kept(seed, series, points, budget, quiet):
    past = histories(seed, series, points)
    cost = spend(past, budget, quiet_ms=quiet)
    assert cost.alerts <= budget * cost.weeks
    assert cost.alerts == sum(len(alert_times(one, cost.threshold, quiet)) for one in past.values())
    assert cost.alerts == sum(cost.by_series.values())
    scores = np.unique(np.concatenate([one.score for one in past.values()]))
    lower = scores[scores < cost.threshold]
    if len(lower):
        one_lower = cost_of(past, float(lower[-1]), alerts_a_week=budget, quiet_ms=quiet)
        assert one_lower.alerts > math.floor(budget * cost.weeks)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), threshold=st.floats(0, 4), quiet=st.integers(0, 10 * HOUR))
def test_alerts_of_a_series_are_apart_and_cover_every_high_score(seed, threshold, quiet):
    (history,) = histories(seed, 1, 150).values()
    times = alert_times(history, threshold, quiet)
    assert (np.diff(times) >= quiet).all()
    high = history.time_ms[history.score >= threshold]
    before = times[np.searchsorted(times, high, side="right") - 1] if len(high) else high
    assert ((high == before) | (high - before < quiet)).all()


def test_what_several_budgets_would_have_cost():
    hours = np.arange(2 * 7 * 24 + 1, dtype=np.int64) * HOUR
    calm, wild = np.zeros(len(hours)), np.zeros(len(hours))
    calm[100], wild[[10, 50, 90, 130]] = 5.0, [9.0, 8.0, 7.0, 6.0]
    past = {"calm": ScoreHistory(hours, calm), "wild": ScoreHistory(hours, wild)}
    none, one, two = spend_each(past, [0, 1, 2])
    assert (none.threshold, none.alerts) == (math.inf, 0)
    assert (one.threshold, one.alerts, one.spent_a_week) == (8.0, 2, 1.0)
    assert (two.threshold, two.alerts) == (6.0, 4)
    assert list(two.by_series.items()) == [("wild", 4)]
    assert spend(past, 2.5).by_series == {"wild": 4, "calm": 1}


def test_one_fault_is_one_alert():
    minutes = np.arange(WEEK_MS // 60_000, dtype=np.int64) * 60_000
    score = np.zeros(len(minutes))
    score[1_000:1_050] = 3.0
    assert alert_times(ScoreHistory(minutes, score), 3.0).tolist() == [1_000 * 60_000]
    assert len(alert_times(ScoreHistory(minutes, score), 3.0, quiet_ms=25 * 60_000)) == 2


def test_impossible_budgets_are_refused():
    past = histories(1, 1, 10)
    for budget in (-1.0, math.nan):
        with pytest.raises(ValueError, match="alerts a week"):
            spend(past, budget)
    with pytest.raises(ValueError, match="two times"):
        spend({"short": ScoreHistory(np.array([5]), np.array([1.0]))}, 1.0)
