"""Triggers of what windows do not show, on made data: the books, feedback, prices and refusals."""

import pytest

from stream_jobs.ledger_triggers import LedgerPolicy, Owed, lag, stall
from stream_jobs.outcome_triggers import (
    ClientWindow,
    CostPolicy,
    Judged,
    QualityPolicy,
    SecurityPolicy,
    Spent,
    cost,
    quality_drop,
    security,
)

LEDGER, QUALITY, COST, SECURITY = LedgerPolicy(stall_seconds=60.0), QualityPolicy(), CostPolicy(), SecurityPolicy()


@pytest.mark.parametrize(
    ("owed", "stalls", "lags"),
    [
        (Owed(0, 0.0, None), False, False),  # nothing ever came
        (Owed(0, 0.0, 86_400.0), False, False),  # idle since yesterday
        (Owed(5, 2.0, 7_200.0), False, False),  # the first after a quiet night
        (Owed(5, 59.0, 59.0), False, False),
        (Owed(5, 61.0, 61.0), True, False),
        (Owed(1, 300.0, None), True, False),  # no worker was ever there
        (Owed(5_000, 45.0, 0.2), False, True),
        (Owed(5_000, 29.0, 0.2), False, False),
        (Owed(3, 45.0, 0.2), False, False),  # three that take long are no queue
        (Owed(5_000, 400.0, 90.0), True, False),  # it stands still: a stall, and not a lag too
    ],
)
def test_a_stall_is_silence_while_something_is_owed_and_a_lag_is_waiting_while_outcomes_come(owed, stalls, lags):
    assert (stall(owed, LEDGER).anomalous, lag(owed, LEDGER).anomalous) == (stalls, lags)


def test_the_longer_it_stands_still_the_higher_the_score():
    scores = [stall(Owed(9, seconds, None), LEDGER).score for seconds in (10.0, 60.0, 120.0, 3_600.0)]
    assert scores == sorted(scores)
    assert scores[1] == 0.5
    assert scores[-1] > 0.98


@pytest.mark.parametrize(
    ("now", "usual", "fires"),
    [
        (Judged(700, 1_000), Judged(900, 1_000), True),
        (Judged(890, 1_000), Judged(900, 1_000), False),  # within chance
        (Judged(70, 100), Judged(9_000, 10_000), True),
        (Judged(80, 100), Judged(9_000, 10_000), False),  # 10 points, but of a hundred answers
        (Judged(0, 49), Judged(900, 1_000), False),  # too few
        (Judged(990, 1_000), Judged(900, 1_000), False),  # better
        (Judged(500, 1_000), Judged(10, 20), False),  # nothing to compare with
    ],
)
def test_quality_falls_only_when_it_is_sure(now, usual, fires):
    assert quality_drop(now, usual, QUALITY).anomalous is fires


@pytest.mark.parametrize(
    ("now", "usual", "fires"),
    [
        (Spent(16.0, 10_000), Spent(10.0, 10_000), True),
        (Spent(14.0, 10_000), Spent(10.0, 10_000), False),
        (Spent(5.0, 10_000), Spent(10.0, 10_000), False),
        (Spent(10.0, 100), Spent(10.0, 10_000), False),  # an idle device
        (Spent(10.0, 10_000), Spent(0.0, 0), False),
        (Spent(10.0, 10_000), Spent(0.0, 10_000), False),  # it cost nothing before: no ratio
    ],
)
def test_cost_is_of_a_unit_of_work(now, usual, fires):
    assert cost(now, usual, COST).anomalous is fires


@pytest.mark.parametrize(
    ("seen", "fires"),
    [
        (ClientWindow(1_000, 10, 2, 0.01, True), False),
        (ClientWindow(1_000, 400, 2, 0.01, True), True),
        (ClientWindow(1_000, 400, 2, 0.39, True), False),  # it always is
        (ClientWindow(10, 9, 1, 0.0, True), False),  # too few
        (ClientWindow(1_000, 150, 2, 0.0, True), False),
        (ClientWindow(1_000, 150, 2, 0.0, False), True),  # the same of somebody nobody knows
        (ClientWindow(50, 6, 6, 0.0, True), True),  # six reasons in six refusals: tries out what passes
        (ClientWindow(50, 6, 4, 0.0, True), False),
        (ClientWindow(0, 0, 0, 0.0, False), False),
    ],
)
def test_a_client_is_told_of_when_it_is_refused_beyond_its_own_past(seen, fires):
    assert security(seen, SECURITY).anomalous is fires
