"""The checks pass honest detectors and catch those that cheat: without the second half they would prove nothing."""

import numpy as np
import pytest

from benchmarks.detection import promises
from benchmarks.detection.baselines import BASELINES, GaussianZ, plain_scores
from benchmarks.detection.data_sets import Series
from tests.detection_data import kpi


@pytest.fixture(scope="module")
def series():
    values, labels = kpi(1)
    values[40] = np.nan
    times = 1_500_000_000_000 + np.arange(len(values)) * 60_000
    times[500] = times[499]
    return Series("made", times, values.reshape(-1, 1), labels == 1, 600)


class Cheat(GaussianZ):
    """Scores differently than the model it is made of."""

    def run(self, time_ms, values):
        return plain_scores(self.bent(super().run(time_ms, values).severity, values[:, 0]), 1)


class LooksAhead(Cheat):
    def bent(self, severity, values):
        return severity - np.nanmax(severity)


class CountsCalls(Cheat):
    def bent(self, severity, values):
        return severity + (len(severity) == 1)


class KnowsTheUnit(Cheat):
    def bent(self, severity, values):
        return np.where(np.isnan(severity), np.nan, np.nan_to_num(values))


def made(cls):
    return lambda channels: cls(("value",) * channels)


@pytest.mark.parametrize("cls", BASELINES.values())
def test_the_baselines_keep_them(cls, series):
    assert promises.causality(made(cls), series)
    assert promises.loop_equals_batch(made(cls), series)
    assert promises.invariance(made(cls), series) > 0.999


@pytest.mark.parametrize("cls", BASELINES.values())
def test_a_restored_baseline_goes_on_bit_for_bit(cls, series):
    whole, first, second = (made(cls)(1) for _ in range(3))
    wanted = whole.run(series.time_ms, series.values).severity
    first.run(series.time_ms[:700], series.values[:700])
    second.restore(first.state())
    rest = second.run(series.time_ms[700:], series.values[700:]).severity
    np.testing.assert_array_equal(rest, wanted[700:])
    assert np.isnan(wanted[[40, 500]]).all()
    with pytest.raises(ValueError, match="not a state"):
        second.restore(first.state()[:-1])


@pytest.mark.parametrize("cls", BASELINES.values())
def test_one_by_one_as_in_river_gives_the_same(cls, series):
    detector, wanted = made(cls)(1), made(cls)(1).run(series.time_ms, series.values).severity
    for i in range(700):
        if np.isnan(wanted[i]):
            continue
        point = {"value": float(series.values[i, 0]), "time_ms": int(series.time_ms[i])}
        assert detector.score_one(point) == wanted[i]
        detector.learn_one(point)


def test_looking_ahead_is_caught(series):
    assert not promises.causality(made(LooksAhead), series)
    assert promises.loop_equals_batch(made(GaussianZ), series)


def test_a_batch_that_differs_from_the_loop_is_caught(series):
    assert not promises.loop_equals_batch(made(CountsCalls), series)


def test_a_score_that_depends_on_the_unit_is_caught(series):
    class Limit(Cheat):
        def bent(self, severity, values):
            return np.where(np.isnan(severity), np.nan, np.maximum(np.nan_to_num(values), 10.0))

    assert promises.invariance(made(KnowsTheUnit), series) > 0.999  # the value itself keeps its order
    assert promises.invariance(made(Limit), series) < 0.99
