"""Our detectors are models of River's, and where they carry the name of one they say what it says."""

import sys
import types

import numpy as np
import pytest

from stream_jobs.detectors.base import TIME_KEY
from stream_jobs.detectors.registry import detector_named, names
from tests.parts import takes_long

CHANNELS = ("m0", "m1", "m2", "m3")
START_MS, STEP_MS = 1_700_000_000_000, 60_000
ROWS = 300
"""Rows of a check's data, twice as many where it looks at memory."""
SLOW = {"kswin", "loda"}
"""A tenth of a millisecond a point, and the checks ask for thousands."""


def labelled_rows(scale):
    """Points of four channels, one in fifty of them far off: local data in place of a download."""
    rng = np.random.default_rng(4)
    values = rng.normal(10.0, 2.0, (ROWS * scale, len(CHANNELS)))
    odd = rng.random(len(values)) < 0.02
    odd[:50] = False
    values[odd] += 30.0
    return [
        ({TIME_KEY: START_MS + STEP_MS * row, **dict(zip(CHANNELS, values[row].tolist(), strict=True))}, bool(odd[row]))
        for row in range(len(values))
    ]


def auc(labels, scores):
    """Share of pairs of an anomaly and a usual row that are ranked rightly; ties count half."""
    labels, scores = np.array(labels), np.array(scores)
    above = scores[labels][:, None] - scores[~labels][None, :]
    return ((above > 0).sum() + 0.5 * (above == 0).sum()) / above.size


@pytest.mark.parametrize("name", names())
def test_it_passes_rivers_own_checks(name, monkeypatch):
    if name in SLOW:
        takes_long(f"River's checks of {name}")
    from river import checks

    from stream_jobs.detectors.as_river import RiverDetector

    # River takes one function from scikit-learn, which nothing else here needs.
    monkeypatch.setitem(sys.modules, "sklearn", types.SimpleNamespace(metrics=types.SimpleNamespace(roc_auc_score=auc)))
    monkeypatch.setattr(checks, "_yield_datasets", lambda model, scale=1: iter([labelled_rows(min(scale, 2))]))
    model = RiverDetector(name, CHANNELS)
    passed = []
    for check in checks.yield_checks(model):
        assert check.__name__ not in model._unit_test_skips()
        check(model.clone())
        passed.append(check.__name__)
    assert {"check_roc_auc", "check_pickling", "check_bounded_memory_growth"} <= set(passed)
    assert len(passed) >= 24


def values_of(seed, points=400):
    rng = np.random.default_rng(seed)
    return START_MS + STEP_MS * np.arange(points), rng.normal(50, 3, points) + 6 * np.sin(np.arange(points) / 15)


def after_the_first(values):
    """What a model reads: the first 16 values only tell the scale. No value here is so far off that it is clipped."""
    return values[16:].tolist()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_forecast_and_its_band_are_rivers_bit_for_bit(seed):
    from river import anomaly, time_series

    time_ms, values = values_of(seed)
    detector = detector_named("predictive_anomaly_detection", alpha=0.3, beta=0.1, n_std=3.5, floor_share=1e-9)
    ours = detector.run(time_ms, values[:, None])
    theirs = anomaly.PredictiveAnomalyDetection(time_series.HoltWinters(alpha=0.3, beta=0.1), n_std=3.5)
    for row, value in enumerate(after_the_first(values), 16):
        if row >= 18:
            forecast = theirs.predictive_model.forecast(1)[0]
            assert ours.expected[row, 0] == forecast
            usual = theirs.dynamic_mae.get() + 3.5 * theirs.dynamic_se_variance.get() ** 0.5
            if row > 20:
                assert ours.upper[row, 0] == forecast + usual**0.5
                score = theirs.score_one(None, value)
                if row > 16 + 50 and score < 1.0:
                    assert ours.severity[row] ** 2 == pytest.approx(score, rel=1e-12)
            else:
                theirs.score_one(None, value)
        theirs.learn_one(None, value)


@pytest.mark.parametrize("window_size", [None, 120])
def test_gaussian_scorer_ranks_as_rivers_does(window_size):
    from river import anomaly

    time_ms, values = values_of(9)
    ours = detector_named("gaussian_scorer", window_size=window_size).run(time_ms, values[:, None])
    theirs, said = anomaly.GaussianScorer(window_size=window_size, grace_period=100), []
    for value in after_the_first(values):
        said.append(theirs.score_one(None, value))
        theirs.learn_one(None, value)
    late = slice(16 + 100, None)
    assert np.argsort(ours.severity[late]).tolist() == np.argsort(said[100:]).tolist()


def test_drift_detectors_say_where_a_level_moved():
    time_ms, values = values_of(5, 1_000)
    values[600:] += 40.0
    for name in ("adwin", "page_hinkley", "kswin"):
        scores = detector_named(name).run(time_ms, values[:, None])
        assert 600 <= int(np.argmax(scores.severity)) < 700, name
        assert scores.severity[600:700].max() > scores.severity[100:600].max(), name
