"""Laws of a deployment: no alarm at the switch, a regression after it alarms as before, states are like any other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_jobs.detectors import two_heads_layout as at
from stream_jobs.detectors.borrowed_scale import FIRST_MIN, borrowed
from stream_jobs.detectors.two_heads import DEFAULT, TwoHeads, new_states, run_many
from stream_jobs.detectors.two_heads_record import pack_row, unpack_row

STEP_MS = 10_000
OLD = 2_000
T0 = 1_700_000_000_000


def noise(seed, n, deviation):
    return np.random.default_rng(seed).normal(0.0, deviation, n)


def times(n, since=0):
    return T0 + (since + np.arange(n, dtype=np.int64)) * STEP_MS


def run(state, time_ms, values):
    states = state.reshape(1, -1)
    scores = run_many(states, np.zeros(len(values), dtype=np.int64), time_ms, values.reshape(-1, 1))
    return states[0], scores


def old_version(seed=1, level=100.0, deviation=3.0):
    return run(new_states(1, 1)[0], times(OLD), level + noise(seed, OLD, deviation))


def new_version(old, seed, level, deviation=3.0):
    values = level + noise(seed, FIRST_MIN, deviation)
    found = borrowed(old, times(FIRST_MIN, OLD), values.reshape(-1, 1))
    assert found is not None
    return found


def both(old, seed, level, after):
    """Scores of what comes `after` the first values, off the level: by the old version and by a new one at another."""
    first = noise(seed, FIRST_MIN, 3.0)
    stays, _ = run(old.copy(), times(FIRST_MIN, OLD), 100.0 + first)
    _, without = run(stays, times(len(after), OLD + FIRST_MIN), 100.0 + after)
    new = borrowed(old, times(FIRST_MIN, OLD), (level + first).reshape(-1, 1))
    assert new is not None
    _, switched = run(new, times(len(after), OLD + FIRST_MIN), level + after)
    return without, switched


@pytest.mark.parametrize("level", [20.0, 100.0, 1_000.0])
def test_the_switch_raises_no_more_alarms_than_the_same_values_without_one(level):
    """Noise alone alarms now and then; that is what two hundred switches are compared with."""
    old, _ = old_version()
    found = [both(old, seed, level, noise(seed + 10_000, 60, 3.0)) for seed in range(200)]
    without, switched = (sum(one[k].alarm.max() >= DEFAULT.rare for one in found) for k in (0, 1))
    assert switched <= max(without, 4)
    assert without < 20


@given(st.integers(0, 10_000), st.floats(-1e4, 1e4))
@settings(max_examples=40, deadline=None)
def test_severity_after_the_switch_is_what_it_would_have_been(seed, level):
    old, _ = old_version()
    without, switched = both(old, seed, level, noise(seed + 10_000, 60, 3.0))
    assert switched.severity.max() < 1.25 * without.severity.max()


@given(st.integers(0, 10_000), st.sampled_from([20.0, 100.0, 1_000.0]), st.sampled_from([8.0, 15.0, 30.0]))
@settings(max_examples=40, deadline=None)
def test_a_real_regression_after_it_alarms_as_it_would_without_a_switch(seed, level, scales):
    old, usual = old_version()
    values = noise(seed + 10_000, 40, 3.0)
    values[20:] += scales * 3.0
    without, switched = both(old, seed, level, values)
    assert switched.alarm[:26].max() >= DEFAULT.rare  # one just before stands for it
    assert switched.severity.max() > 1.5 * usual.severity[OLD // 2 :].max()
    assert switched.severity.max() > 0.6 * without.severity.max()


def test_a_series_that_begins_from_nothing_does_not_see_that_regression():
    """The negative control: what borrowing is for."""
    values = 100.0 + noise(3, FIRST_MIN + 40, 3.0)
    values[FIRST_MIN + 20 :] += 45.0
    _, scores = run(new_states(1, 1)[0], times(len(values)), values)
    assert scores.alarm.max() < DEFAULT.rare


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_version_that_is_noisier_from_the_start_is_given_its_own_width(seed):
    old, _ = old_version()
    before = old[at.SERIES + at.VARIANCE]
    noisier = new_version(old, seed, 300.0, deviation=30.0)[at.SERIES + at.VARIANCE]
    assert noisier > 1.5 * before  # so few values say little of a spread; the next test has what they say mostly
    quieter = new_version(old, seed, 300.0, deviation=0.5)[at.SERIES + at.VARIANCE]
    assert quieter == pytest.approx(before, rel=0.02)


def test_the_width_given_is_mostly_that_of_the_noise():
    """Ten times the deviation is a hundred times the variance."""
    old, _ = old_version()
    before = old[at.SERIES + at.VARIANCE]
    found = [new_version(old, seed, 300.0, deviation=30.0)[at.SERIES + at.VARIANCE] / before for seed in range(200)]
    assert 16.0 < float(np.median(found)) < 100.0
    assert sum(one > 4.0 for one in found) >= 190


@given(st.integers(0, 10_000), st.floats(-1e6, 1e6))
@settings(max_examples=40, deadline=None)
def test_the_state_is_one_like_any_other_and_comes_back_exact(seed, level):
    old, _ = old_version()
    before = old.copy()
    new = new_version(old, seed, level)
    assert np.array_equal(old, before)
    assert new.shape == old.shape
    assert not np.isnan(new).any()
    digest = TwoHeads().digest()
    assert unpack_row(pack_row(new, digest), len(new), digest).tobytes() == new.tobytes()
    model = TwoHeads()
    model.restore(pack_row(new, digest))
    assert model.state() == pack_row(new, digest)


def test_there_is_nothing_to_borrow_from_a_version_that_is_learning_itself():
    young, _ = run(new_states(1, 1)[0], times(20), 100.0 + noise(1, 20, 3.0))
    first = np.full((FIRST_MIN, 1), 5.0)
    assert borrowed(young, times(FIRST_MIN, 20), first) is None


@pytest.mark.parametrize(
    ("time_ms", "first"),
    [
        (times(3), np.ones((3, 1))),
        (times(FIRST_MIN), np.ones((FIRST_MIN, 2))),
        (times(FIRST_MIN), np.full((FIRST_MIN, 1), np.nan)),
        (times(FIRST_MIN)[::-1], np.ones((FIRST_MIN, 1))),
    ],
)
def test_too_few_missing_or_reversed_values_are_refused(time_ms, first):
    old, _ = old_version()
    with pytest.raises(ValueError, match="borrowed"):
        borrowed(old, time_ms, first)
