"""What every selectable detector must satisfy: batches as loops, exact state, missing points as if they never came."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_jobs.detectors.base import TIME_KEY, VALUE_KEY
from stream_jobs.detectors.registry import DEFAULT, detector_named, names

START_MS, STEP_MS = 1_700_000_000_000, 60_000
QUICK = {
    "adwin": {},
    "fixed_threshold": {"first_points": 20},
    "gaussian_scorer": {"grace_period": 20},
    "half_space_trees": {"n_trees": 3, "height": 4, "window_size": 30},
    "kswin": {"window_size": 40, "stat_size": 15},
    "loda": {"n_random_cuts": 15, "warmup_period": 20},
    "page_hinkley": {},
    "predictive_anomaly_detection": {"warmup_period": 20},
    "two_heads": {"learning_points": 20, "alarm_learning_points": 30},
}
"""Options with which a detector says something after a few points; one that is not here has its defaults."""
SPIKE_BLIND = {"adwin", "kswin", "page_hinkley"}
"""Tests for change: a single point is nothing to them."""
LONG_MEMORY = {"two_heads"}
"""Remember the size of a huge value, capped, for weeks: a young series is less severe for so long."""
TIMELESS = {"two_heads"}
"""Count points without a time as one minute apart."""
AHEAD_MAX = {"two_heads": 400_000}
"""Minutes: a clock that jumps by more than a year is not believed at once."""
FIELDS = ("severity", "alarm", "score", "confidence", "expected", "lower", "upper", "contributions", "onset_ms")
GARBAGE = st.sampled_from([math.nan, math.inf, -math.inf])


def new(name, channels=1):
    return detector_named(name, channel_names(channels), **QUICK.get(name, {}))


def channel_names(channels):
    return (VALUE_KEY,) if channels == 1 else tuple(f"m{number}" for number in range(channels))


def walk(seed, points, channels=1):
    """Times that rise unevenly, and values with noise, a rhythm and a step."""
    rng = np.random.default_rng(seed)
    time_ms = START_MS + STEP_MS * np.cumsum(rng.integers(1, 4, points))
    values = rng.normal(size=(points, channels)) + 5 * np.sin(np.arange(points) / 9)[:, None] + 40
    values[points // 2 :] += rng.choice([0.0, 8.0])
    return time_ms, values


def assert_same(one, other):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=field)


every = pytest.mark.parametrize("name", names())


@every
@settings(max_examples=8)
@given(
    seed=st.integers(0, 999), cuts=st.lists(st.integers(0, 160), max_size=4), channels=st.integers(1, 3), data=st.data()
)
def test_batches_are_loops_and_a_state_goes_on_exactly(name, seed, cuts, channels, data):
    time_ms, values = walk(seed, 160, channels)
    for row, channel in data.draw(st.lists(st.tuples(st.integers(0, 159), st.integers(0, channels - 1)), max_size=20)):
        values[row, channel] = data.draw(GARBAGE)
    whole = new(name, channels)
    scores = whole.run(time_ms, values)
    edges = [0, *sorted(cuts), 160]
    parts, detector = [], new(name, channels)
    for start, end in itertools.pairwise(edges):
        parts.append(detector.run(time_ms[start:end], values[start:end]))
        successor = new(name, channels)
        successor.restore(detector.state())
        assert successor.state() == detector.state()
        detector = successor
    assert detector.state() == whole.state()
    for field in FIELDS:
        np.testing.assert_array_equal(np.concatenate([getattr(part, field) for part in parts]), getattr(scores, field))


@every
def test_one_by_one_as_river_asks_is_the_same_and_scoring_learns_nothing(name):
    time_ms, values = walk(3, 120, 2)
    values[70, 0], values[75] = math.nan, math.nan
    scores, detector = new(name, 2).run(time_ms, values), new(name, 2)
    for row in range(120):
        x = {TIME_KEY: int(time_ms[row]), "m0": values[row, 0], "m1": values[row, 1]}
        before = detector.state() if row % 10 == 0 else None
        said = detector.score_one(x)
        assert before is None or detector.state() == before
        np.testing.assert_equal(said, scores.severity[row])
        detector.learn_one(x)


@every
@settings(max_examples=8)
@given(seed=st.integers(0, 999), data=st.data())
def test_a_point_without_a_usable_value_or_time_never_came(name, seed, data):
    time_ms, values = walk(seed, 150)
    rows = data.draw(
        st.lists(st.tuples(st.integers(0, 149), GARBAGE, st.integers(-5, AHEAD_MAX.get(name, 10**7))), max_size=15)
    )
    more_ms, more, inserted = list(time_ms), list(values[:, 0]), [False] * 150
    for row, garbage, off in rows:  # garbage at any time, and usable values at times that are over
        more_ms.insert(row, START_MS + off * STEP_MS)
        more.insert(row, garbage)
        inserted.insert(row, True)
        if row:
            more_ms.insert(row, max(more_ms[:row]))
            more.insert(row, 1e6)
            inserted.insert(row, True)
    with_garbage, without = new(name), new(name)
    scores = with_garbage.run(np.array(more_ms), np.array(more)[:, None])
    expected = without.run(time_ms, values)
    kept = ~np.array(inserted)
    # A usable value at the greatest time before it is late wherever it is; times of garbage do not count.
    late = _late(more_ms, more)
    assert (np.isnan(scores.severity) == late).all()
    if not late[kept].any():
        assert with_garbage.state() == without.state()
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(scores, field)[kept], getattr(expected, field))


def _late(time_ms, values):
    seen, late = -math.inf, []
    for when, value in zip(time_ms, values, strict=True):
        late.append(not math.isfinite(value) or when <= seen)
        if not late[-1]:
            seen = when
    return np.array(late)


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


@pytest.mark.parametrize("name", [name for name in names() if name not in SPIKE_BLIND])
def test_a_huge_value_is_scored_high_and_spoils_nothing(name):
    channels = 3 if name == "loda" else 1  # made for several: of the last values of one, a spike is a small part
    rng = np.random.default_rng(5)
    time_ms, values = START_MS + STEP_MS * np.arange(900), rng.normal(100.0, 3.0, (900, channels))
    spoilt = values.copy()
    spoilt[600] = 1e308
    scores = new(name, channels).run(time_ms, spoilt)
    usual = new(name, channels).run(time_ms, values)
    assert scores.score[600] >= 0.95
    assert scores.severity[600] >= usual.severity[600:].max() * 0.9
    later = slice(650, None)
    if name in LONG_MEMORY:
        assert 0 < scores.severity[later].mean() <= usual.severity[later].mean()
        return
    assert scores.severity[later].mean() == pytest.approx(usual.severity[later].mean(), rel=0.5)
    assert np.nanmean(scores.score[later]) == pytest.approx(0.5, abs=0.15)


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
