"""Clocks that jump: for a moment they leave no trace, for good they are followed, and a gap is no jump. For all."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_jobs.detectors.clock import FAR_MS, NOT_BELIEVED, Clock
from stream_jobs.detectors.forecast_residual import ResidualPolicy
from stream_jobs.detectors.histogram_drift import DriftPolicy
from stream_jobs.detectors.memory_trend import TrendPolicy
from stream_jobs.detectors.rare_rise import RisePolicy
from stream_jobs.detectors.registry import names
from tests.detector_points import FIELDS, STEP_MS, new, walk
from tests.kind_windows import MIB

DAY_MS = 86_400_000
POINTS = 150
BEFORE = 60
"""Points before the jump at least: the usual interval is known."""
FORWARD = st.integers(FAR_MS + 10 * STEP_MS, 100 * 366 * DAY_MS)
JUMPS = st.one_of(
    FORWARD,
    FORWARD.map(lambda ms: -ms),
    st.sampled_from([k * days * DAY_MS for k in (1, -1) for days in (31, 300, 3653)]),
)
AHEAD = st.one_of(st.integers(STEP_MS * 40, 100 * 366 * DAY_MS), st.sampled_from([3_600_000, DAY_MS, 3 * DAY_MS]))
"""Steps that are far from usual, believed at once or not."""
ROWS = st.integers(BEFORE, POINTS - 1)

every = pytest.mark.parametrize("name", names())


def said(scores):
    return ~np.isnan(scores.severity)


@every
@settings(max_examples=12)
@given(seed=st.integers(0, 99), row=ROWS, jumps=st.lists(JUMPS, min_size=1, max_size=2), value=st.floats(-1e3, 1e9))
def test_a_jump_for_a_moment_never_came(name, seed, row, jumps, value):
    time_ms, values = walk(seed, POINTS)
    plain, moment = new(name), new(name)
    expected = plain.run(time_ms, values)
    jumped_ms = [time_ms[row - 1] + jump for jump in jumps]
    scores = moment.run(np.insert(time_ms, row, jumped_ms), np.insert(values, row, [[value]] * len(jumps), axis=0))
    kept = np.ones(POINTS + len(jumps), dtype=bool)
    kept[row : row + len(jumps)] = False
    assert not said(scores)[~kept].any()
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(scores, field)[kept], getattr(expected, field), err_msg=field)
    assert moment.state() == plain.state()


@every
@settings(max_examples=12)
@given(seed=st.integers(0, 99), row=ROWS, jump=JUMPS)
def test_a_jump_for_good_costs_two_points(name, seed, row, jump):
    time_ms, values = walk(seed, POINTS + 40)
    time_ms[row:] += jump
    scores = new(name).run(time_ms, values)
    assert said(scores)[:row].all()
    assert not said(scores)[row : row + 2].any()
    assert said(scores)[row + 2 :].all()


@every
@settings(max_examples=12)
@given(seed=st.integers(0, 99), row=ROWS, ahead=AHEAD)
def test_one_point_ahead_costs_at_most_the_two_after_it_however_far_it_is(name, seed, row, ahead):
    time_ms, values = walk(seed, POINTS + 40)
    scores = new(name).run(np.insert(time_ms, row, time_ms[row - 1] + ahead), np.insert(values, row, [[40.0]], axis=0))
    assert said(scores)[:row].all()
    assert said(scores)[row + 3 :].all()


@every
@settings(max_examples=12)
@given(seed=st.integers(0, 99), row=ROWS, gaps=st.lists(AHEAD, min_size=1, max_size=3), apart=st.integers(4, 9))
def test_a_gap_costs_nothing_up_to_days_and_two_points_if_it_is_longer(name, seed, row, gaps, apart):
    time_ms, values = walk(seed, POINTS + 40)
    for k, gap in enumerate(gaps):
        time_ms[row + apart * k :] += gap
    missing = np.flatnonzero(~said(new(name).run(time_ms, values)))
    allowed = {row + apart * k + more for k, gap in enumerate(gaps) if gap > FAR_MS - 3 * STEP_MS for more in (0, 1)}
    assert set(missing.tolist()) <= allowed


@every
def test_a_series_that_is_heard_once_a_month_from_now_on_loses_two_points(name):
    time_ms, values = walk(1, POINTS)
    time_ms[BEFORE:] += 31 * DAY_MS * np.arange(1, POINTS - BEFORE + 1)
    assert np.flatnonzero(~said(new(name).run(time_ms, values))).tolist() == [BEFORE, BEFORE + 1]


@every
@settings(max_examples=8)
@given(steps=st.lists(st.integers(-20 * DAY_MS, 20 * DAY_MS), min_size=1, max_size=30), seed=st.integers(0, 9))
def test_whatever_a_clock_did_it_is_believed_again_soon(name, steps, seed):
    rng = np.random.default_rng(seed)
    odd = 1_700_000_000_000 + np.cumsum(steps)
    first = max(odd) + 60 * 366 * DAY_MS  # no step of before was nearly as long
    time_ms = np.concatenate([odd, first + STEP_MS * np.arange(30)])
    assert said(new(name).run(time_ms, rng.normal(size=(len(time_ms), 1))))[-28:].all()


# Triggers.

RESIDUAL = ResidualPolicy(direction=1, deviation_min=5.0, deviation_share_min=0.2, unit_min=10.0, gap_seconds=120.0)
RISE, TREND = RisePolicy(deviation_min=0.05), TrendPolicy(bucket_seconds=60, points_min=4, points_max=8)
DRIFT = DriftPolicy(reference_windows=5, reference_requests=100, epoch_seconds=120.0, epoch_requests=50)
VALUES = {
    "forecast_residual": lambda rng: float(rng.normal(100.0, 2.0)),
    "rare_rise": lambda rng: float(rng.random() * 0.01),
    "memory_trend": lambda rng: float(rng.normal(900.0, 5.0)) * MIB,
    "histogram_drift": lambda rng: {"a": rng.multinomial(60, [0.2, 0.5, 0.3]).tolist()},
}
each = pytest.mark.parametrize("policy", [RESIDUAL, RISE, TREND, DRIFT], ids=lambda policy: policy.name)


def points(policy, seed, count=60):
    rng = np.random.default_rng(seed)
    return [(VALUES[policy.name](rng), 1_700_000_000_000 + number * STEP_MS) for number in range(count)]


def fed(trigger, taken):
    judged = []
    for value, time_ms in taken:
        judged.append(trigger.judge(value, time_ms))
        trigger.learn(value, time_ms)
    return judged


@each
@settings(max_examples=40)
@given(seed=st.integers(0, 99), row=st.integers(1, 59), jumps=st.lists(JUMPS, min_size=1, max_size=2))
def test_a_jump_for_a_moment_leaves_no_trace_in_a_trigger(policy, seed, row, jumps):
    taken = points(policy, seed)
    plain, moment = policy.detector(), policy.detector()
    expected = fed(plain, taken)
    odd = [(taken[row][0], max(0, taken[row - 1][1] + jump)) for jump in jumps]
    judged = fed(moment, [*taken[:row], *odd, *taken[row:]])
    assert judged[row : row + len(odd)] == [None] * len(odd)
    assert judged[:row] + judged[row + len(odd) :] == expected
    assert moment.state() == plain.state()


@each
@settings(max_examples=40)
@given(seed=st.integers(0, 99), row=st.integers(20, 50), jump=st.one_of(JUMPS, AHEAD))
def test_a_trigger_follows_a_jump_for_good_and_still_alerts(policy, seed, row, jump):
    taken = points(policy, seed, 120)
    usual = fed(policy.detector(), taken)
    moved = [(value, max(0, time_ms + jump * (number >= row))) for number, (value, time_ms) in enumerate(taken)]
    if moved[-1][1] < 200 * STEP_MS:
        return  # before 1970
    trigger = policy.detector()
    judged = fed(trigger, moved)
    spoken = [sum(one is not None for one in some[row:]) for some in (usual, judged)]
    assert spoken[1] >= spoken[0] - 3
    assert not any(one is not None and one.learning for one in judged[row + 12 :])
    assert not any(one is not None and one.anomalous for one in judged)
    wrong = {"forecast_residual": 500.0, "rare_rise": 0.9, "histogram_drift": {"a": [300, 0, 0]}}
    later = [(wrong.get(policy.name), moved[-1][1] + STEP_MS * number) for number in range(1, 9)]
    if policy is TREND:
        later = [((900.0 + 80.0 * number) * MIB, time_ms + STEP_MS) for number, (_, time_ms) in enumerate(later)]
    assert any(one is not None and one.anomalous for one in fed(trigger, later))


@each
@settings(max_examples=30)
@given(
    seed=st.integers(0, 99),
    ahead=AHEAD,
    back=st.lists(st.integers(1, 200 * 366 * DAY_MS), max_size=4),
)
def test_the_clock_goes_on_from_its_state(policy, seed, ahead, back):
    taken = points(policy, seed, 40)
    taken[20:] = [(value, time_ms + ahead) for value, time_ms in taken[20:]]
    for number, ms in enumerate(back):
        taken.insert(25 + number, (taken[0][0], max(0, taken[24][1] - ms)))
    one, other = policy.detector(), policy.detector()
    for value, time_ms in taken:
        again = policy.detector()
        again.restore(other.state())
        other = again
        assert other.judge(value, time_ms) == one.judge(value, time_ms)
        one.learn(value, time_ms)
        other.learn(value, time_ms)
        assert other.state() == one.state()


@pytest.mark.parametrize("state", [None, "1", 1.5, [1, 0, 0, 0], [1, 0, 0, 0, 0.0], [1, 0, 0, 0, 3], [1, 0, 0, 0, -1]])
def test_a_broken_clock_is_refused(state):
    clock = Clock(60_000)
    clock.take(7)
    with pytest.raises(ValueError, match="clock"):
        clock.restore(state)
    assert clock.state() == 7


@given(times=st.lists(st.integers(0, 10**15), max_size=30))
def test_no_time_is_taken_twice_and_asking_takes_none(times):
    clock = Clock(60_000)
    for time_ms in times:
        before, last_ms = clock.state(), clock.last_ms
        asked = clock.passed_ms(time_ms)
        assert clock.state() == before
        assert clock.take(time_ms) == asked
        if asked != NOT_BELIEVED:
            assert asked > 0 or last_ms < 0
            assert clock.last_ms == time_ms
        else:
            assert clock.last_ms == last_ms
        assert clock.take(time_ms) == NOT_BELIEVED
        assert math.isfinite(asked)
