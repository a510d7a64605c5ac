"""The fast scorers of detection agree with the slow ones that follow the definitions word by word."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.detection.average_precision import average_precision
from benchmarks.detection.event_f1 import COOL_DOWN, SLACK, LabelledScores
from benchmarks.detection.nab_score import PROFILES, NabFile, nab_score, score_at
from benchmarks.detection.vus_pr import N_THRESHOLDS, vus_pr

SEEDS = st.integers(0, 2**32 - 1)


def scores_and_labels(seed, n, events, levels, missing):
    """Made data: few distinct scores give ties, some are missing, events lie anywhere and may touch."""
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, levels, n).astype(float), np.zeros(n, dtype=bool)
    scores[rng.random(n) < missing] = np.nan
    for first in rng.integers(0, n, events):
        labels[first : first + int(rng.integers(1, 12))] = True
    return scores, labels


MADE = st.builds(
    scores_and_labels,
    SEEDS,
    st.integers(2, 300),
    st.integers(0, 8),
    st.sampled_from([2, 5, 40, 10_000]),
    st.sampled_from([0.0, 0.3, 1.0]),
)


def runs(labels):
    marks = np.diff(np.concatenate([[0], labels.astype(int), [0]]))
    return list(zip(np.flatnonzero(marks == 1), np.flatnonzero(marks == -1), strict=True))


def slow_event_counts(series, threshold):
    found = false = events = 0
    for scores, labels in series:
        spans, alarms = runs(labels), []
        for place, score in enumerate(scores):
            if score >= threshold and (not alarms or place - alarms[-1] >= COOL_DOWN):
                alarms.append(place)
        events += len(spans)
        found += sum(any(first <= one < end + SLACK for one in alarms) for first, end in spans)
        false += sum(not any(first <= one < end + SLACK for first, end in spans) for one in alarms)
    return found, false, events


@settings(max_examples=80, deadline=None)
@given(series=st.lists(MADE, min_size=1, max_size=3))
def test_the_best_threshold_for_events_is_the_best_of_all(series):
    book = LabelledScores(series)
    f1 = {}
    for threshold in {value for scores, _ in series for value in scores.tolist() if value == value}:
        score = book.at(threshold)
        assert (score.found, score.false, score.events) == slow_event_counts(series, threshold)
        f1[threshold] = score.f1
    best = book.best()
    if book.events and f1:
        assert best.f1 == max(f1.values())
        assert best.threshold == max(threshold for threshold, value in f1.items() if value == best.f1)
        assert best == book.at(best.threshold)
    else:
        assert best.f1 == 0.0


def slow_vus_pr(scores, labels, width_max):
    scores = np.where(np.isnan(scores), -np.inf, scores)
    spans = [(first, end - 1) for first, end in runs(labels)]
    high_to_low = np.sort(scores)[::-1]
    thresholds = [high_to_low[i] for i in np.linspace(0, len(scores) - 1, N_THRESHOLDS).astype(int)]
    areas = []
    for width in range(width_max + 1):
        half, soft = width // 2, np.zeros(len(scores))
        for first, last in spans:
            for i in range(len(scores)):
                distance = max(first - i, i - last)
                if 0 < distance <= half:
                    soft[i] += np.sqrt(1 - distance / width)
        soft = np.where(labels, 1.0, np.minimum(soft, 1.0))
        groups = []
        for first, last in spans:
            if groups and groups[-1][1] >= first - half:
                groups[-1][1] = last + half
            else:
                groups.append([max(first - half, 0), last + half])
        area, before = 0.0, 0.0
        for threshold in thresholds:
            said = scores >= threshold
            wanted = np.where(labels, 1.0, soft * said)
            true = float((wanted * said).sum())
            touched = sum(said[first : last + 1].any() for first, last in groups) / len(groups)
            recall = min(true / ((labels.sum() + wanted.sum()) / 2), 1.0) * touched
            area += (recall - before) * true / said.sum()
            before = recall
        areas.append(area)
    return float(np.mean(areas))


@settings(max_examples=40, deadline=None)
@given(made=MADE.filter(lambda made: made[1].any()), width_max=st.integers(0, 12))
def test_vus_pr_follows_its_definition(made, width_max):
    scores, labels = made
    np.testing.assert_allclose(vus_pr(scores, labels, width_max), slow_vus_pr(scores, labels, width_max), rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, levels=st.sampled_from([2, 6, 40]), name=st.sampled_from(sorted(PROFILES)))
def test_the_best_threshold_of_nab_is_the_best_of_all(seed, levels, name):
    rng = np.random.default_rng(seed)
    files = []
    for n in rng.integers(60, 200, 3):
        places = np.sort(rng.choice(np.arange(30, n), 4, replace=False))
        windows = [(int(places[0]), int(places[1])), (int(places[2]), int(places[3]))]
        files.append(NabFile(rng.integers(0, levels, n).astype(float), windows))
    best = nab_score(files, PROFILES[name])
    all_of_them = [score_at(files, PROFILES[name], threshold) for threshold in range(levels)]
    np.testing.assert_allclose(best.score, max([0.0, *all_of_them]), atol=1e-9)
    assert best.score <= 100.0 + 1e-9


@settings(max_examples=60, deadline=None)
@given(made=MADE.filter(lambda made: made[1].any()))
def test_only_the_order_of_scores_counts(made):
    scores, labels = made
    other = np.exp2(scores / 2.0**14) * 8.0  # strictly rising, and no two become equal
    assert average_precision(scores, labels) == average_precision(other, labels)
    assert vus_pr(scores, labels, 6) == vus_pr(other, labels, 6)
    one, two = LabelledScores([(scores, labels)]).best(), LabelledScores([(other, labels)]).best()
    assert (one.found, one.false, one.events) == (two.found, two.false, two.events)
