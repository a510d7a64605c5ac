"""What holds for the triggers of windows: quiet noise raises nothing, state is exact, no value poisons it."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_jobs.detectors.forecast_residual import ResidualPolicy
from stream_jobs.detectors.histogram_drift import DriftPolicy
from stream_jobs.detectors.memory_trend import TrendPolicy
from stream_jobs.detectors.rare_rise import RisePolicy
from tests.kind_windows import MIB, Watch, service

T0 = 1_700_000_000_000
RESIDUAL = ResidualPolicy(direction=1, deviation_min=0.05, deviation_share_min=0.2, unit_min=0.01)
RISE, TREND = RisePolicy(deviation_min=0.05), TrendPolicy(bucket_seconds=60, points_min=4, points_max=8)
DRIFT = DriftPolicy(reference_windows=5, reference_requests=100, epoch_seconds=30.0, epoch_requests=50)
CASES = st.tuples(st.integers(0, 500).map(float), st.integers(1, 500))
NUMBERS = st.one_of(st.floats(0, 1), st.floats(0, 1e12), st.sampled_from([0.0, 1e308, 5e-324]))
HISTOGRAMS = st.fixed_dictionaries(
    {"a": st.lists(st.integers(0, 60), max_size=12), "b": st.lists(st.integers(0, 2**53), max_size=3)}
)
USABLE = {
    "rare_rise": st.one_of(NUMBERS, CASES),
    "memory_trend": NUMBERS,
    "forecast_residual": NUMBERS,
    "histogram_drift": HISTOGRAMS,
}
NO_NUMBER = st.sampled_from([None, math.nan, math.inf, -math.inf])
UNUSABLE = {
    "rare_rise": st.one_of(NO_NUMBER, st.just(-1.0)),
    "memory_trend": st.one_of(NO_NUMBER, st.just(-1.0)),
    "forecast_residual": NO_NUMBER,
    "histogram_drift": st.sampled_from([None, {}, {"a": []}, {"a": [0, 0], "b": []}]),
}
STEPS = st.sampled_from([10_000, 10_000, 10_000, 60_000, 60_000, 0, -20_000, 600_000])


def quiet(seed, windows, window_seconds=10.0):
    """A healthy service: rates, lengths, unknown words and memory wander, a request times out now and then."""
    watch, one = Watch(window_seconds=window_seconds), service(seed)
    rng = np.random.default_rng(seed + 1_000)
    length = 0.0
    for number in range(windows):
        length = 0.9 * length + rng.normal(0.0, 0.03)  # other callers come and go
        one.length, one.unknown = 12.0 * math.exp(length), 0.02 * math.exp(2 * length)
        one.fertility = 0.2 * math.exp(0.4 * length)  # as far as lengths, of its own spread
        one.requests = int(250 * (1.0 + 0.5 * math.sin(number / 60.0)))
        one.memory = (900.0 + 0.05 * (number % 700) + 40.0 * (number % 13) + rng.normal(0.0, 20.0)) * MIB
        one.shares = {"timed_out": 0.01 * rng.random() ** 3, "repeated": 0.3 if number % 97 == 50 else 0.0}
        one.counts = {"out_of_memory": int(number % 301 == 300)}
        watch(one.window())
    return watch


@pytest.mark.parametrize("seed", range(6))
def test_quiet_noise_raises_nothing_over_many_windows(seed):
    watch = quiet(seed, 900)
    assert watch.changes == []
    assert sum("score_drift_psi" in scores for scores in watch.scores) > 30, "drift was judged"


@pytest.mark.parametrize("seed", range(3))
def test_nor_does_it_in_windows_of_a_minute_over_fifteen_hours(seed):
    watch = quiet(seed, 900, window_seconds=60.0)
    assert watch.changes == []
    assert sum("memory_bytes_per_hour" in scores for scores in watch.scores) > 60, "memory was judged"


@pytest.mark.parametrize("policy", [RISE, TREND, RESIDUAL, DRIFT], ids=lambda policy: policy.name)
@settings(max_examples=60)
@given(steps=st.lists(STEPS, max_size=40), data=st.data())
def test_a_detector_goes_on_from_its_state_and_unusable_values_leave_no_trace(policy, steps, data):
    plain, other, time_ms = policy.detector(), policy.detector(), T0
    for step in steps:
        value = data.draw(USABLE[policy.name])
        time_ms += step
        if data.draw(st.booleans()):
            wrong = data.draw(UNUSABLE[policy.name])
            when = data.draw(st.sampled_from([time_ms, time_ms + 10**7, time_ms + 10**12, 0]))
            assert other.judge(wrong, when) is None
            other.learn(wrong, when)
        again = policy.detector()
        again.restore(json.loads(json.dumps(other.state())))
        other = again
        judged, expected = other.judge(value, time_ms), plain.judge(value, time_ms)
        assert judged == expected
        if judged is not None:
            assert 0.0 <= judged.score <= 1.0
            assert math.isfinite(judged.expected)
            assert math.isfinite(judged.upper)
        plain.learn(value, time_ms)
        other.learn(value, time_ms)
        assert other.state() == plain.state()


@settings(max_examples=60)
@given(windows=st.lists(st.tuples(HISTOGRAMS, STEPS), max_size=40))
def test_drift_goes_on_from_its_state_and_stays_within_its_bounds(windows):
    plain, other, time_ms = DRIFT.detector(), DRIFT.detector(), T0
    for value, step in windows:
        time_ms += step
        again = DRIFT.detector()
        again.restore(json.loads(json.dumps(other.state())))
        other = again
        judged = other.judge(value, time_ms)
        assert judged == plain.judge(value, time_ms)
        if judged is not None:
            assert 0.0 <= judged.score <= 1.0
            assert judged.actual >= 0.0
            assert all(abs(judged.effects[f"{name}_delta"]) <= 1.0 for name in ("a", "b"))
            assert not judged.contributors or math.isclose(sum(judged.contributors.values()), 1.0)
        plain.learn(value, time_ms)
        other.learn(value, time_ms)
        assert other.state() == plain.state()
        assert len(json.dumps(other.state())) < 1_000


@settings(max_examples=40)
@given(counts=st.lists(st.integers(0, 400), min_size=2, max_size=16), epochs=st.integers(1, 4))
def test_what_is_distributed_as_the_reference_is_no_drift(counts, epochs):
    """The same counts again and again: as near to the reference as anything can be."""
    one, window = DRIFT.detector(), {"a": counts, "b": []}
    for number in range(10 + 8 * epochs):
        judged = one.judge(window, T0 + number * 10_000)
        assert judged is None or (judged.actual < 0.05 and not judged.anomalous)
        one.learn(window, T0 + number * 10_000)


BROKEN = [None, {}, [], [1], "x", [1, 2, 3, 4, 5, 6, 7], [math.nan, math.nan, math.nan], [[], [], [], []]]


@pytest.mark.parametrize("policy", [RISE, TREND, RESIDUAL, DRIFT], ids=lambda policy: policy.name)
@pytest.mark.parametrize("state", BROKEN, ids=str)
def test_a_broken_state_is_a_value_error_and_changes_nothing(policy, state):
    one = policy.detector()
    before = one.state()
    with pytest.raises(ValueError, match=policy.name.replace("_", " ")):
        one.restore(state)
    assert one.state() == before


@pytest.mark.parametrize(
    ("policy", "change"),
    [
        (RISE, lambda s: [s[0], math.inf, s[2]]),
        (RISE, lambda s: [-1, *s[1:]]),
        (TREND, lambda s: [s[0], s[1], [1, 2], [5, 5]]),
        (TREND, lambda s: [s[0], s[1], [2, 1], [5]]),
        (TREND, lambda s: [s[0], s[1], [2, 1], [5, -5]]),
        (TREND, lambda s: [s[0], s[1], [2, 1], [5, 2**80]]),
        (DRIFT, lambda s: [*s[:5], {"a": [-1]}, {}]),
        (DRIFT, lambda s: [*s[:5], {"a": [1] * 99}, {}]),
        (DRIFT, lambda s: [*s[:2], math.nan, *s[3:]]),
    ],
)
def test_an_altered_state_is_refused(policy, change):
    one = policy.detector()
    for number in range(8):
        one.learn({"a": [3, 4]} if policy is DRIFT else 0.5 * MIB, T0 + number * 60_000)
    with pytest.raises(ValueError):
        policy.detector().restore(change(one.state()))
    policy.detector().restore(one.state())


def test_policies_that_differ_have_other_digests():
    digests = {
        one.digest() for one in (RISE, RisePolicy(deviation_min=0.06), TREND, TrendPolicy(), DRIFT, DriftPolicy())
    }
    assert len(digests) == 6
