"""The score is the share of the series' own past that was less severe: checked against sorting the past."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_jobs.detectors.own_past import OwnPast

STEP_MS = 60_000.0
DRAWS = {
    "exponential": lambda rng, n: rng.exponential(size=n),
    "heavy tail": lambda rng, n: rng.pareto(1.2, n),
    "uniform, narrow": lambda rng, n: 0.95 + 0.01 * rng.random(n),
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.9, 0.0, rng.random(n)),
    "few values": lambda rng, n: rng.integers(0, 4, n).astype(float),
}


def ranked(severity, *, past=None, start=0):
    n = len(severity)
    times = (np.arange(start, start + n) * STEP_MS).astype(np.int64)
    return (past or OwnPast()).run(times, np.full(n, STEP_MS), severity, np.zeros(n, dtype=np.bool_))


@pytest.mark.parametrize("kind", DRAWS)
def test_the_score_is_the_share_of_the_past_that_was_less_severe(kind):
    severity = DRAWS[kind](np.random.default_rng(3), 3_000)
    scores = ranked(severity).score
    for row in range(200, 3_000, 7):
        true = (severity[:row] < severity[row]).mean()
        assert scores[row] == pytest.approx(true, abs=0.05 if true < 0.9 else 0.012), row


@pytest.mark.parametrize("kind", ["exponential", "heavy tail", "uniform, narrow"])
def test_one_point_in_a_hundred_scores_above_099(kind):
    scores = ranked(DRAWS[kind](np.random.default_rng(8), 20_000)).score[2_000:]
    assert (scores >= 0.99).mean() == pytest.approx(0.01, abs=0.003)
    assert (scores >= 0.999).mean() == pytest.approx(0.001, abs=0.0008)
    assert (scores >= 0.5).mean() == pytest.approx(0.5, abs=0.03)


@given(
    severity=st.lists(st.one_of(st.floats(0, 1e6), st.sampled_from([0.0, 1.0, 2.0])), min_size=1, max_size=300),
    cut=st.integers(0, 300),
)
@settings(max_examples=40)
def test_it_goes_on_exactly_from_its_state(severity, cut):
    severity = np.array(severity)
    whole, first, second = OwnPast(), OwnPast(), OwnPast()
    expected = ranked(severity, past=whole)
    one = ranked(severity[:cut], past=first)
    second.restore(first.state())
    two = ranked(severity[cut:], past=second, start=min(cut, len(severity)))
    for field in ("score", "alarm", "confidence", "onset_ms"):
        joined = np.concatenate([getattr(one, field), getattr(two, field)])
        np.testing.assert_array_equal(joined, getattr(expected, field))
    assert second.state() == whole.state()
    assert len(whole.state()) <= 1_300


@given(severity=st.lists(st.floats(0, 1e6), min_size=70, max_size=300), probe=st.floats(0, 1e6))
@settings(max_examples=40)
def test_more_severe_never_scores_less(severity, probe):
    past = OwnPast()
    ranked(np.array(severity), past=past)
    state, said = past.state(), []
    for value in sorted([probe, probe / 2, probe * 2, *severity[:10]]):
        past.restore(state)
        ranks = ranked(np.array([value]), past=past, start=len(severity))
        said.append((ranks.score[0], ranks.alarm[0]))
    assert [score for score, _ in said] == sorted(score for score, _ in said)
    assert all(alarm >= before - 1e-9 for (_, before), (_, alarm) in itertools.pairwise(said))


def test_it_forgets_in_weeks():
    past, n = OwnPast(), 40_000
    ranked(np.random.default_rng(1).random(n) + 100.0, past=past)
    later = ranked(np.random.default_rng(2).random(60_000) + 1.0, past=past, start=n)
    assert later.score[100] < 0.05
    assert later.score[-1_000:].mean() > 0.3


def test_a_run_of_unusual_points_has_an_onset():
    severity = np.random.default_rng(1).random(500)
    severity[300:305] = [5.0, 6.0, 7.0, 8.0, 0.1]
    ranks = ranked(severity)
    assert ranks.onset_ms[300:304].tolist() == [300 * STEP_MS] * 4
    assert ranks.onset_ms[304] == -1
    assert ranks.alarm[303] > ranks.alarm[250:300].max()


@pytest.mark.parametrize("broken", [b"", b"\0" * 12, b"\0" * 39, np.array([9.0, 1, 1, 1, -1]).tobytes()])
def test_a_broken_state_is_refused(broken):
    with pytest.raises(ValueError, match="own past"):
        OwnPast().restore(broken)
