import numpy as np
import pytest

from benchmarks.detection.event_f1 import LabelledScores


def made(points, events, n=400):
    """Scores of 0 but at `points` {place: score}, labels true in `events` (first, end)."""
    scores, labels = np.zeros(n), np.zeros(n, dtype=bool)
    for place, score in points.items():
        scores[place] = score
    for first, end in events:
        labels[first:end] = True
    return scores, labels


def test_an_event_counts_once_and_every_other_alarm_is_false():
    book = LabelledScores([made({100: 9, 104: 9, 200: 9, 201: 9, 300: 9}, [(98, 105), (350, 360)])])
    score = book.at(9.0)
    # 104 and 201 fall into cool-downs; 200 and 300 are false.
    assert (score.found, score.false, score.events) == (1, 2, 2)
    assert score.f1 == pytest.approx(2 * 1 / (1 + 2 + 2))
    assert score.precision == pytest.approx(1 / 3)
    assert score.recall == pytest.approx(1 / 2)


@pytest.mark.parametrize(("place", "found"), [(99, 0), (100, 1), (109, 1), (114, 1), (115, 0)])
def test_an_event_is_found_from_its_first_point_to_four_points_behind_its_end(place, found):
    score = LabelledScores([made({place: 1.0}, [(100, 110)])]).at(1.0)
    assert (score.found, score.false) == (found, 1 - found)


@pytest.mark.parametrize(("second", "false"), [(134, 1), (135, 2)])
def test_the_cool_down_ends_after_35_points(second, false):
    assert LabelledScores([made({100: 1.0, second: 1.0}, [(300, 310)])]).at(1.0).false == false


def test_an_alarm_just_before_an_event_hides_it():
    assert LabelledScores([made({99: 1.0, 100: 1.0}, [(100, 110)])]).at(1.0).found == 0


def test_one_alarm_finds_all_events_that_hold_it():
    score = LabelledScores([made({113: 1.0}, [(100, 110), (112, 120)])]).at(1.0)
    assert (score.found, score.false, score.events) == (2, 0, 2)


def test_no_cool_down_and_no_event_reaches_into_the_next_series():
    first, second = made({399: 1.0}, [(395, 400)]), made({0: 1.0}, [])
    score = LabelledScores([first, second]).at(1.0)
    assert (score.found, score.false) == (1, 1)


def test_one_threshold_serves_all_series():
    low, high = made({100: 1.0}, [(100, 110)]), made({100: 8.0, 200: 5.0, 260: 5.0, 320: 5.0}, [(100, 110)])
    best = LabelledScores([low, high]).best()
    assert (best.threshold, best.found, best.false) == (8.0, 1, 0)
    assert best.f1 == pytest.approx(2 / 3)


def test_a_perfect_score_gets_1_and_nothing_said_gets_0():
    _, labels = made({}, [(10, 12), (60, 90), (390, 400)])
    assert LabelledScores([(labels.astype(float), labels)]).best().f1 == 1.0
    assert LabelledScores([(np.full(400, np.nan), labels)]).best().f1 == 0.0
    assert LabelledScores([(np.ones(400), np.zeros(400, dtype=bool))]).best().f1 == 0.0
    assert LabelledScores([]).best().f1 == 0.0


def test_a_random_score_gets_next_to_nothing():
    rng = np.random.default_rng(3)
    labels = np.zeros(100_000, dtype=bool)
    for first in rng.choice(99_000, 40, replace=False):
        labels[first : first + int(rng.integers(1, 60))] = True
    assert LabelledScores([(rng.random(100_000), labels)]).best().f1 < 0.08
