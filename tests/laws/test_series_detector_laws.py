"""What every selectable detector must satisfy: batches as loops, exact state, missing points as if they never came."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_jobs.detectors.base import TIME_KEY
from stream_jobs.detectors.registry import DEFAULT, detector_named, names
from tests.detector_points import FIELDS, START_MS, STEP_MS, new, walk

SPIKE_BLIND = {"adwin", "kswin", "page_hinkley"}
"""Tests for change: by what they say, as their docstrings have it, a single point is nothing to them."""
TIMELESS = {"two_heads"}
"""Count points without a time as one minute apart."""
GARBAGE = st.sampled_from([math.nan, math.inf, -math.inf])


ODD = st.one_of(GARBAGE, st.sampled_from([1e308, -1e308, 1e9, 0.0, 40.0]))
ODD_STEPS = st.one_of(st.integers(-5, 5), st.integers(-(10**7), 10**7), st.sampled_from([60, 1_440, 44_640, 525_600]))
"""Minutes."""


def assert_joined(parts, scores):
    for field in FIELDS:
        joined = np.concatenate([getattr(part, field) for part in parts])
        np.testing.assert_array_equal(joined, getattr(scores, field), err_msg=field)


every = pytest.mark.parametrize("name", names())


@st.composite
def odd_series(draw, points=160):
    """One to three channels with values that are missing or huge, gaps, and times that repeat, go back and jump."""
    channels = draw(st.integers(1, 3))
    time_ms, values = walk(draw(st.integers(0, 999)), points, channels)
    places = st.tuples(st.integers(0, points - 1), st.integers(0, channels - 1))
    for row, channel in draw(st.lists(places, max_size=20)):
        values[row, channel] = draw(ODD)
    for row, steps in draw(st.lists(st.tuples(st.integers(0, points - 1), ODD_STEPS), max_size=5)):
        time_ms[row : row + draw(st.integers(1, points))] += steps * STEP_MS
    return time_ms, values


@every
@settings(max_examples=8)
@given(series=odd_series(), cuts=st.lists(st.integers(0, 160), max_size=4))
def test_batches_are_loops_and_a_state_goes_on_exactly(name, series, cuts):
    time_ms, values = series
    whole, parts, detector = new(name, values.shape[1]), [], new(name, values.shape[1])
    scores = whole.run(time_ms, values)
    for start, end in itertools.pairwise([0, *sorted(cuts), len(values)]):
        parts.append(detector.run(time_ms[start:end], values[start:end]))
        successor = new(name, values.shape[1])
        successor.restore(detector.state())
        assert successor.state() == detector.state()
        detector = successor
    assert detector.state() == whole.state()
    assert_joined(parts, scores)


@every
@settings(max_examples=8)
@given(series=odd_series())
def test_a_batch_is_its_points_one_by_one_and_as_river_asks(name, series):
    """Every field of every point; scoring says what learning does and learns nothing."""
    time_ms, values = series
    channels = values.shape[1]
    whole, single, asked = (new(name, channels) for _ in range(3))
    scores, parts = whole.run(time_ms, values), []
    for row in range(len(values)):
        parts.append(single.run(time_ms[row : row + 1], values[row : row + 1]))
        if row % 4 == 0:
            before = asked.state()
            x = dict(zip(asked.channels, values[row].tolist(), strict=True)) | {TIME_KEY: int(time_ms[row])}
            np.testing.assert_equal(asked.score_one(x), scores.severity[row])
            assert asked.state() == before
            asked.learn_one(x)
        else:
            asked.run(time_ms[row : row + 1], values[row : row + 1])
    assert_joined(parts, scores)
    assert whole.state() == single.state() == asked.state()


@every
@settings(max_examples=16)
@given(seed=st.integers(0, 999), data=st.data())
def test_a_point_without_a_usable_value_or_time_never_came(name, seed, data):
    time_ms, values = walk(seed, 150)
    rows = st.tuples(st.integers(0, 149), GARBAGE, st.integers(-(10**7), 10**7), st.integers(0, 10_000))
    more_ms, more, kept = list(time_ms), list(values[:, 0]), list(range(150))
    for row, garbage, off, ago in data.draw(st.lists(rows, max_size=15)):
        # What is no number at any time, and a usable value at a time of the points that count, or before it.
        at = kept.index(row)
        inserted = [(START_MS + off * STEP_MS, garbage)]
        if row:
            inserted.append((time_ms[row - 1] - (ago * STEP_MS if ago > 9_000 else 0), 1e6))
        for when, value in inserted:
            more_ms.insert(at, when)
            more.insert(at, value)
            kept.insert(at, -1)
    with_garbage, without = new(name), new(name)
    scores = with_garbage.run(np.array(more_ms), np.array(more)[:, None])
    expected = without.run(time_ms, values)
    is_kept = np.array(kept) >= 0
    assert np.isnan(scores.severity[~is_kept]).all()
    assert with_garbage.state() == without.state()
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(scores, field)[is_kept], getattr(expected, field), err_msg=field)


@every
def test_what_it_says_is_in_its_range(name):
    time_ms, values = walk(11, 400, 3)
    values[200, 1] = 1e308
    values[250, :2] = math.nan
    scores = new(name, 3).run(time_ms, values)
    for field in ("severity", "alarm", "score", "confidence"):
        assert (getattr(scores, field) >= 0.0).all(), field
    assert np.isfinite(scores.severity).all()
    assert scores.score.max() <= 1.0
    assert scores.confidence.max() < 1.0
    assert scores.score[:16].max() == 0.0
    assert scores.confidence[:16].max() == 0.0
    sums = scores.contributions.sum(axis=1)
    np.testing.assert_allclose(sums, (scores.severity > 0.0).astype(float))
    assert (scores.contributions[250, :2] == 0.0).all()
    usual = np.isfinite(scores.lower) & np.isfinite(scores.expected)
    assert (scores.lower[usual] <= scores.expected[usual]).all()
    began = scores.onset_ms >= 0
    assert (scores.onset_ms[began] <= time_ms[began]).all()


def noise(name, seed, points=900):
    channels = 3 if name == "loda" else 1  # made for several: of the last values of one, a spike is a small part
    values = np.random.default_rng(seed).normal(100.0, 3.0, (points, channels))
    return START_MS + STEP_MS * np.arange(points), values


@every
def test_a_huge_value_is_scored_high_and_spoils_nothing(name):
    time_ms, values = noise(name, 5)
    spoilt = values.copy()
    spoilt[600] = 1e308
    scores = new(name, values.shape[1]).run(time_ms, spoilt)
    usual = new(name, values.shape[1]).run(time_ms, values)
    if name not in SPIKE_BLIND:
        assert scores.score[600] >= 0.95
        assert scores.severity[600] >= usual.severity[600:].max() * 0.9
    later = slice(650, None)
    assert scores.severity[later].mean() == pytest.approx(usual.severity[later].mean(), rel=0.5)
    assert np.nanmean(scores.score[later]) == pytest.approx(np.nanmean(usual.score[later]), abs=0.15)


@pytest.mark.parametrize("name", [name for name in names() if name not in SPIKE_BLIND])
@settings(max_examples=15)
@given(
    seed=st.integers(0, 999),
    huge=st.sampled_from([1e308, -1e308, 1e200, 1e31, 1e12, -1e9, 1e5, 3e3]),
    at=st.integers(200, 700),
    after=st.integers(60, 190),
    deviations=st.floats(6.0, 40.0),
)
def test_a_fault_after_a_huge_value_scores_as_without_it(name, seed, huge, at, after, deviations):
    time_ms, values = noise(name, seed)
    values[at + after] += 3.0 * deviations
    spoilt = values.copy()
    spoilt[at] = huge
    usual = new(name, values.shape[1]).run(time_ms, values).score[at + after]
    score = new(name, values.shape[1]).run(time_ms, spoilt).score[at + after]
    assert usual < 0.99 or score >= 0.985


@every
@pytest.mark.parametrize("broken", [None, "7", True, math.nan, math.inf, 10**400, [1.0], b"1"])
def test_features_that_are_no_numbers_are_missing(name, broken):
    time_ms, values = walk(4, 60, 2)
    detector = new(name, 2)
    detector.run(time_ms, values)
    state, later = detector.state(), int(time_ms[-1]) + STEP_MS
    unusable = [{TIME_KEY: later, "m0": broken, "m1": broken}, {TIME_KEY: broken, "m0": 1.0, "m1": 2.0}, {}]
    if name not in TIMELESS:
        unusable.append({"m0": 1.0})
    for x in unusable:
        assert math.isnan(detector.score_one(x))
        detector.learn_one(x)
        assert detector.state() == state
    assert math.isfinite(detector.score_one({TIME_KEY: later, "m0": broken, "m1": 40.0}))


@every
def test_a_broken_state_is_refused_and_nothing_changes(name):
    time_ms, values = walk(2, 150)
    detector = new(name)
    detector.run(time_ms, values)
    state = detector.state()
    altered = bytearray(state)
    altered[len(state) // 2] ^= 1
    fresh = new(name)
    before = fresh.state()
    for broken in (b"", state[:-1], state + b"\0", bytes(altered), b"XXXX" + state[4:]):
        with pytest.raises(ValueError, match=name):
            fresh.restore(broken)
        assert fresh.state() == before
    with pytest.raises(ValueError, match=name):
        new(name, 2).restore(state)
    fresh.restore(state)
    assert fresh.state() == state


@pytest.mark.parametrize("name", [DEFAULT, "gaussian_scorer", "half_space_trees"])
def test_the_unit_does_not_matter(name):
    time_ms, values = walk(7, 500)
    one, other = new(name).run(time_ms, values), new(name).run(time_ms, values * 1e3 - 7.0)
    np.testing.assert_allclose(one.severity, other.severity, rtol=1e-3, atol=1e-3)


@every
def test_states_are_small_and_digests_tell_configurations_apart(name):
    detector = new(name)
    detector.run(*walk(1, 400))
    assert len(detector.state()) < 32_000
    assert detector.name == name
    assert detector.digest() == new(name).digest()
    assert len({detector.digest(), new(name, 2).digest(), detector_named(name, ("other",)).digest()}) == 3
