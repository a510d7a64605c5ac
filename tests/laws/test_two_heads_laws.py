"""What the default detector must satisfy on any series: exact batches, exact state, nothing poisons it."""

import itertools
import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_jobs.detectors.base import TIME_KEY
from stream_jobs.detectors.two_heads import TwoHeads, TwoHeadsPolicy, new_states, run_many, warm_up

VALUES = st.one_of(
    st.floats(-1e3, 1e3), st.sampled_from([0.0, 1.0, float("nan"), float("inf"), 1e308, 1e250, -1e250, 5e-324])
)
STEPS = st.sampled_from([60_000, 60_000, 60_000, 1, 0, -60_000, 3_600_000, 86_400_000, 10 * 366 * 86_400_000])
SHORT = TwoHeadsPolicy(
    learning_points=6.0, alarm_learning_points=9.0, block_points=7.0, cool_points=3.0, tally_seconds=600.0
)
"""Everything that happens after so many points happens within a short series."""


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    warm_up()


@st.composite
def series(draw, channels_max=3):
    c, n = draw(st.integers(1, channels_max)), draw(st.integers(1, 90))
    steps = np.array(draw(st.lists(STEPS, min_size=n, max_size=n)), dtype=np.int64)
    noise = np.random.default_rng(draw(st.integers(0, 2**32))).normal(10, 2, (n, c))
    odd = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, c - 1), VALUES), max_size=12))
    for i, j, value in odd:
        noise[i, j] = value
    return 1_700_000_000_000 + np.cumsum(steps), noise


def new(channels, policy=SHORT):
    return TwoHeads([f"c{i}" for i in range(channels)], policy)


def bits(scores):
    return [(field.name, getattr(scores, field.name).tobytes()) for field in fields(scores)]


def joined(parts):
    return [(f.name, b"".join(getattr(part, f.name).tobytes() for part in parts)) for f in fields(parts[0])]


def minutes(n):
    return 1_700_000_000_000 + 60_000 * np.arange(n, dtype=np.int64)


@settings(max_examples=60, deadline=None)
@given(data=series(), cuts=st.lists(st.integers(0, 90), max_size=4))
def test_a_batch_is_its_points_one_by_one(data, cuts):
    times, values = data
    whole, single, pieces = (new(values.shape[1]) for _ in range(3))
    expected = bits(whole.run(times, values))
    assert joined([single.run(times[i : i + 1], values[i : i + 1]) for i in range(len(times))]) == expected
    edges = sorted({0, len(times), *(min(cut, len(times)) for cut in cuts)})
    parts = [pieces.run(times[a:b], values[a:b]) for a, b in itertools.pairwise(edges)]
    assert joined(parts) == expected
    assert whole.state() == single.state() == pieces.state()


@settings(max_examples=40, deadline=None)
@given(data=series(), at=st.integers(0, 90))
def test_state_goes_on_exactly(data, at):
    times, values = data
    one, other = new(values.shape[1]), new(values.shape[1])
    one.run(times[:at], values[:at])
    other.restore(one.state())
    assert other.state() == one.state()
    assert bits(other.run(times[at:], values[at:])) == bits(one.run(times[at:], values[at:]))


@settings(max_examples=40, deadline=None)
@given(data=series(channels_max=1))
def test_every_number_is_in_its_range(data):
    times, values = data
    scores = new(1).run(times, values)
    said = ~np.isnan(scores.severity)
    assert (np.isnan(scores.score) == ~said).all()
    assert (scores.severity[said] >= 0).all()
    assert (scores.alarm[said] >= 0).all()
    assert np.isfinite(scores.severity[said]).all()
    assert np.isfinite(scores.alarm[said]).all()
    for share in (scores.score, scores.confidence):
        assert ((share[said] >= 0) & (share[said] <= 1)).all()
    total = scores.contributions.sum(axis=1)
    assert np.allclose(total, np.where(np.nan_to_num(scores.severity) > 0, 1.0, 0.0))
    banded = ~np.isnan(scores.expected)
    assert (scores.lower[banded] <= scores.expected[banded]).all()
    assert (scores.expected[banded] <= scores.upper[banded]).all()


@settings(max_examples=40, deadline=None)
@given(
    data=series(channels_max=1),
    junk=st.lists(st.tuples(st.integers(0, 89), st.sampled_from([None, "7", math.nan, -math.inf, math.inf, []]))),
)
def test_what_is_not_usable_never_came(data, junk):
    times, values = data
    with_junk, without = new(1), new(1)
    at = {i for i, _ in junk}
    for i, (time_ms, value) in enumerate(zip(times.tolist(), values[:, 0].tolist(), strict=True)):
        if i in at:
            unusable = {TIME_KEY: time_ms, "c0": next(thing for k, thing in junk if k == i)}
            assert math.isnan(with_junk.score_one(unusable))
            with_junk.learn_one(unusable)
        x = {TIME_KEY: time_ms + 1, "c0": value}
        np.testing.assert_equal(with_junk.score_one(x), without.score_one(x))
        with_junk.learn_one(x)
        without.learn_one(x)
    assert with_junk.state() == without.state()


@settings(max_examples=30, deadline=None)
@given(a=st.floats(1e-3, 1e3), b=st.floats(-1e3, 1e3), seed=st.integers(0, 1_000), data=st.data())
def test_another_unit_changes_no_severity(a, b, seed, data):
    n = 200
    values = np.random.default_rng(seed).normal(0, 1, (n, 1)).cumsum(axis=0)
    values[data.draw(st.integers(0, n - 1))] *= 7
    plain, changed = new(1).run(minutes(n), values), new(1).run(minutes(n), a * values + b)
    np.testing.assert_allclose(plain.severity, changed.severity, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(a * plain.expected + b, changed.expected, rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), channels=st.integers(1, 3), seed=st.integers(0, 99)
)
def test_many_series_at_once_are_each_series_alone(lengths, channels, seed):
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.repeat(np.arange(len(lengths)), lengths))
    values = rng.normal(0, 1, (len(rows), channels))
    values[rng.random(values.shape) < 0.1] = np.nan
    times = minutes(len(rows))
    states = new_states(len(lengths), channels)
    together = run_many(states, rows, times, values, SHORT)
    for series_of in range(len(lengths)):
        mine = rows == series_of
        alone = new(channels).run(times[mine], values[mine])
        for name, mine_bits in bits(alone):
            assert getattr(together, name)[mine].tobytes() == mine_bits


def test_learning_says_nothing():
    scores = TwoHeads().run(minutes(60), np.r_[np.ones(15), 50.0, np.ones(44)][:, None])
    for said in (scores.severity, scores.alarm, scores.score, scores.confidence):
        assert (said[:30] == 0).all()
    assert (scores.confidence[30:] > 0).all()


def test_a_constant_series_is_never_unusual_until_it_moves():
    scores = TwoHeads().run(minutes(500), np.r_[np.full(400, 3.7), np.full(100, 3.8)][:, None])
    assert (scores.severity[:400] == 0).all()
    assert (scores.score[:400] == 0).all()
    assert scores.score[400] > 0.99
    assert scores.alarm[400] > scores.alarm[30:400].max()


def test_a_huge_value_is_scored_high_and_spoils_nothing():
    values = np.random.default_rng(5).normal(10, 1, (3000, 1))
    spoilt = values.copy()
    spoilt[2000] = 1e200
    plain, scores = TwoHeads().run(minutes(3000), values), TwoHeads().run(minutes(3000), spoilt)
    assert scores.severity[2000] > 100 * plain.severity[100:].max()
    assert scores.score[2000] > 0.99
    np.testing.assert_allclose(scores.severity[2050:], plain.severity[2050:], rtol=1e-3)
    assert (scores.severity[2001:] < 1.5 * plain.severity[2001:]).all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999),
    at=st.integers(300, 2_600),
    after=st.integers(45, 380),
    deviations=st.floats(6.0, 40.0),
    huge=st.sampled_from([1e308, -1e200, 1e31, 1e15, -1e6, 1e4]),
)
def test_a_fault_after_a_huge_value_is_as_severe_and_as_rare_as_without_it(seed, at, after, deviations, huge):
    values = np.random.default_rng(seed).normal(100, 3, (3000, 1))
    values[at + after] += 3 * deviations
    plain = TwoHeads().run(minutes(3000), values)
    values[at] = huge
    spoilt = TwoHeads().run(minutes(3000), values)
    assert spoilt.severity[at + after] > 0.97 * plain.severity[at + after]
    assert spoilt.score[at + after] > plain.score[at + after] - 3e-3
    # Once in 40 points it calls somebody: whether one just before stood for it is another matter.
    if plain.alarm[at - 40 : at + after].max() < TwoHeadsPolicy().rare:
        assert spoilt.alarm[at + after] > 0.95 * plain.alarm[at + after]


@pytest.mark.parametrize("level", [0.0, 5.0, 1e9])
def test_no_number_of_unreal_values_is_learnt_and_not_of_a_constant_either(level):
    values = np.full((600, 1), level)
    plain = values.copy()
    values[100:400:7] = 1.7e308
    plain[500] = values[500] = level + 1.0
    spoilt, usual = TwoHeads().run(minutes(600), values), TwoHeads().run(minutes(600), plain)
    assert (spoilt.score[100:400:7] > 0.5).all()
    assert spoilt.severity[500] > 0.97 * usual.severity[500] > 0.0
    assert spoilt.score[500] > usual.score[500] - 0.01
    assert (spoilt.severity[501:] <= usual.severity[501:] * 1.05).all()


def test_what_is_absurd_is_learnt_when_it_comes_again_and_again():
    values = np.random.default_rng(2).normal(10, 1, (2000, 1))
    values[500:] += 1e5
    severity = TwoHeads().run(minutes(2000), values).severity
    assert severity[500] > 1e3
    assert severity[-200:].max() < 2.0
    spikes = np.random.default_rng(2).normal(10, 1, (4000, 1))
    spikes[500::60] += 1e5
    severity = TwoHeads().run(minutes(4000), spikes).severity
    assert severity[3980] < 0.1 * severity[500]


def test_times_that_go_back_or_stand_are_ignored():
    values = np.random.default_rng(5).normal(10, 1, (200, 1))
    times = minutes(200)
    plain, other = TwoHeads(), TwoHeads()
    expected = plain.run(times, values)
    order = np.repeat(np.arange(200), 3)
    late = times[order] - np.tile([0, 0, 3_600_000], 200)
    got = other.run(late, values[order] * np.tile([1, 5, -5], 200)[:, None])
    assert got.severity[::3].tobytes() == expected.severity.tobytes()
    assert np.isnan(got.severity[1::3]).all()
    assert np.isnan(got.severity[2::3]).all()


def test_a_clock_that_jumps_for_a_moment_changes_nothing_and_for_good_is_followed():
    values = np.random.default_rng(5).normal(10, 1, (200, 1))
    years = 20 * 366 * 86_400_000
    plain, moment, good = TwoHeads(), TwoHeads(), TwoHeads()
    plain.run(minutes(200), values)
    times = np.insert(minutes(200), 100, [minutes(1)[0] + years, 0])
    moment.run(times, np.insert(values, 100, [[99.0], [98.0]], axis=0))
    assert moment.state() == plain.state()
    jumped = minutes(200)
    jumped[100:] -= years
    said = ~np.isnan(good.run(jumped, values).severity)
    assert said[:100].all()
    assert not said[100:102].any()
    assert said[102:].all()


def test_a_score_of_99_is_one_point_in_a_hundred():
    rng = np.random.default_rng(8)
    values = np.exp(rng.normal(0, 0.5, (100_000, 1))) * (1.5 + np.sin(np.arange(100_000) / 229.0))[:, None]
    score = TwoHeads().run(minutes(100_000), values).score[5_000:]
    for level in (0.5, 0.9, 0.99, 0.999):
        assert 0.6 < (score >= level).mean() / (1 - level) < 1.6


def test_a_broken_state_is_refused():
    model = TwoHeads()
    model.run(minutes(100), np.random.default_rng(1).normal(0, 1, (100, 1)))
    state = model.state()
    for at in range(0, len(state), 37):
        altered = bytearray(state)
        altered[at] ^= 1
        with pytest.raises(ValueError, match="two_heads"):
            TwoHeads().restore(bytes(altered))
    for broken in (b"", state[:-1], state + b"x"):
        with pytest.raises(ValueError, match="two_heads"):
            TwoHeads().restore(broken)
    with pytest.raises(ValueError, match="another version or configuration"):
        TwoHeads(policy=SHORT).restore(state)
    assert len(state) <= 2048


def test_a_fault_has_an_onset_until_it_is_over():
    values = np.random.default_rng(3).normal(10, 1, (2_000, 1))
    values[1_500:1_510] += 30.0
    scores = TwoHeads().run(minutes(2_000), values)
    assert (scores.onset_ms[1_500:1_510] == minutes(2_000)[1_500]).all()
    assert scores.onset_ms[1_600] != minutes(2_000)[1_500]


def test_the_channel_at_fault_contributes_most():
    values = np.random.default_rng(3).normal(10, 1, (500, 4))
    values[400, 2] += 20.0
    scores = new(4).run(minutes(500), values)
    assert scores.contributions[400].argmax() == 2
    assert scores.contributions[400, 2] > 0.8
