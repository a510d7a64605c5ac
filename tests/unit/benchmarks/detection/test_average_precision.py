import numpy as np
import pytest

from benchmarks.detection.average_precision import average_precision


def test_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    labels = np.array([True, False, True, False])
    assert average_precision(scores, labels) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


def test_equal_scores_are_one_threshold():
    assert average_precision(np.array([1.0, 1.0, 0.0]), np.array([True, False, False])) == pytest.approx(1 / 2)
    assert average_precision(np.zeros(8), np.arange(8) < 2) == pytest.approx(2 / 8)


def test_a_perfect_score_gets_1_its_opposite_little_and_a_random_one_the_share_of_anomalies():
    labels = np.arange(10_000) % 20 == 0
    assert average_precision(labels.astype(float), labels) == 1.0
    assert average_precision(-labels.astype(float), labels) == pytest.approx(0.05)
    assert average_precision(np.random.default_rng(1).random(10_000), labels) == pytest.approx(0.05, abs=0.01)


def test_what_has_no_score_ranks_last_and_infinity_first():
    labels = np.array([True, False, True])
    assert average_precision(np.array([np.inf, 1.0, np.nan]), labels) == pytest.approx((1 + 2 / 3) / 2)


def test_without_an_anomalous_point_there_is_no_precision():
    with pytest.raises(ValueError, match="no anomalous point"):
        average_precision(np.zeros(3), np.zeros(3, dtype=bool))
