"""What a budget of alerts promises, whatever comes: its bound, no look ahead, a state that goes on exactly."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_jobs import alert_budget
from stream_jobs.alert_budget import COOL_DOWN_MS, WEEK_MS, AlertBudget

HOUR_MS = 3_600_000
POINTS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 60 * 24), st.floats(0, 9), st.floats(0, 9)),
    max_size=120,
).map(lambda points: sorted(points, key=lambda point: point[1]))


def said(budget, points):
    return [budget.admits(series, hour * HOUR_MS, size, rarity) for series, hour, size, rarity in points]


def through_json(budget, a_week):
    again = AlertBudget(a_week)
    again.restore(json.loads(json.dumps(budget.entries())))
    return again


@settings(max_examples=80, deadline=None)
@given(points=POINTS, a_week=st.integers(1, 4), cut=st.integers(0, 120))
def test_it_goes_on_from_its_state_as_if_nothing_had_happened(points, a_week, cut):
    whole, first = AlertBudget(a_week), AlertBudget(a_week)
    expected = said(whole, points)
    assert said(first, points[:cut]) == expected[:cut]
    second = through_json(first, a_week)
    assert said(second, points[cut:]) == expected[cut:]
    assert second.entries() == whole.entries()


@settings(max_examples=80, deadline=None)
@given(points=POINTS, a_week=st.integers(1, 4))
def test_no_week_is_dearer_than_the_budget(points, a_week):
    budget, charged = AlertBudget(a_week), []
    for series, hour, size, rarity in points:
        now = hour * HOUR_MS
        goes_on = any(row[0] == series and row[4] and now - row[2] <= COOL_DOWN_MS for row in budget.entries()[2:])
        admitted = budget.admits(series, now, size, rarity)
        assert admitted or not goes_on
        if admitted and not goes_on:
            assert sum(now - at < WEEK_MS for at in charged) < a_week
            charged.append(now)


@settings(max_examples=60, deadline=None)
@given(points=POINTS, a_week=st.integers(1, 3))
def test_an_incident_that_goes_on_is_charged_once(points, a_week):
    budget = AlertBudget(a_week)
    for series, hour, size, rarity in points:
        if budget.admits(series, hour * HOUR_MS, size, rarity):
            charged = list(budget.entries()[1])
            assert budget.admits(series, hour * HOUR_MS + 1, 0.0, 0.0)
            assert budget.entries()[1] == charged


def test_the_memory_is_bounded_and_forgets_the_oldest_first(monkeypatch):
    monkeypatch.setattr(alert_budget, "INCIDENTS_MAX", 50)
    budget = AlertBudget(5)
    for number in range(400):
        budget.admits(f"s{number}", number * HOUR_MS, 1.0 + number % 7)
    rows = budget.entries()[2:]
    assert [row[0] for row in rows] == [f"s{number}" for number in range(350, 400)]
    # Fifty hours are remembered: five a week are one of them, and the bar is the highest of them.
    assert not budget.admits("late", 401 * HOUR_MS, 6.9)


def test_a_clock_that_goes_back_counts_as_standing_still():
    budget = AlertBudget(1)
    assert budget.admits("a", 9 * HOUR_MS, 5.0)
    assert not budget.admits("b", 2 * HOUR_MS, 9.0)
    assert budget.entries()[3][1] == 9 * HOUR_MS


@pytest.mark.parametrize(
    "broken",
    [
        [[1, 2, 3]],
        [[1, 2, 3], []],
        [[1, 2, 3, 4], [5, 4]],
        [[1, 2, 3, "4"], []],
        [[1, 2, 3, 4], [], ["a", 1, 2, float("nan"), True]],
        [[1, 2, 3, 4], [], ["a", 1, 2, 1.0]],
        [[1, 2, 3, 4], [], [None, 1, 2, 1.0, True]],
    ],
)
def test_a_broken_state_is_refused(broken):
    with pytest.raises(ValueError, match=r"\w"):
        AlertBudget(1).restore(broken)
    AlertBudget(1).restore([])
