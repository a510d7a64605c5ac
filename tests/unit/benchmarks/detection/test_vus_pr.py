import numpy as np
import pytest

from benchmarks.detection.vus_pr import PERIOD_WITHOUT_RHYTHM, period, vus_pr


def labels_of(n, *events):
    labels = np.zeros(n, dtype=bool)
    for first, end in events:
        labels[first:end] = True
    return labels


def test_by_hand_with_a_buffer_of_one_point():
    # Width 0 and 1 have no buffer, width 2 one point on each side that counts sqrt(1/2).
    labels = labels_of(5, (2, 3))
    scores = np.array([0.0, 0.0, 1.0, 3.0, 0.0])
    narrow = 1 * 1 / 2  # at the second score one of two predicted points is right
    root = np.sqrt(1 / 2)
    first = min(root / (1 + root / 2), 1.0)
    second = 1.0  # both right, more than is asked for
    third = 1.0
    wide = first * root + (second - first) * (1 + root) / 2 + (third - second)
    assert vus_pr(scores, labels, 1) == pytest.approx(narrow)
    assert vus_pr(scores, labels, 2) == pytest.approx((2 * narrow + wide) / 3)


def test_a_perfect_score_gets_1_where_no_buffer_is_asked_for():
    labels = labels_of(500, (40, 60), (200, 230))
    assert vus_pr(labels.astype(float), labels, 0) == pytest.approx(1.0)
    assert vus_pr(labels.astype(float), labels, 40) > 0.9


def test_a_random_score_gets_about_the_share_of_anomalies():
    rng = np.random.default_rng(5)
    labels = labels_of(20_000, *((i, i + 20) for i in range(500, 20_000, 1_000)))
    scores = [vus_pr(rng.random(20_000), labels, 0) for _ in range(5)]
    assert np.mean(scores) == pytest.approx(labels.mean(), abs=0.01)


def test_near_is_better_than_far():
    labels = labels_of(1_000, (500, 520))
    near, far = np.zeros(1_000), np.zeros(1_000)
    near[522:530], far[700:708] = 1.0, 1.0
    assert vus_pr(near, labels, 60) > 2 * vus_pr(far, labels, 60)


def test_without_an_anomalous_point_there_is_no_precision():
    with pytest.raises(ValueError, match="no anomalous point"):
        vus_pr(np.zeros(9), np.zeros(9, dtype=bool), 3)


def test_the_period_of_a_wave_is_found():
    wave = np.sin(np.arange(6_000) * 2 * np.pi / 48) + np.random.default_rng(2).normal(0, 0.1, 6_000)
    assert period(wave) % 48 in (0, 1, 47)
    assert period(np.ones(500)) == PERIOD_WITHOUT_RHYTHM
    assert period(np.arange(500.0)) == PERIOD_WITHOUT_RHYTHM
    assert period(np.array([1.0])) == PERIOD_WITHOUT_RHYTHM
    assert period(np.array([np.nan, np.inf])) == PERIOD_WITHOUT_RHYTHM
