"""Our half-space trees are River's: same trees, same scores, bit for bit, however the rows are cut into batches."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_jobs.detectors.half_space_trees import HalfSpaceTrees

SHARES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]))


@pytest.fixture(scope="module")
def river():
    from river import anomaly

    return anomaly.HalfSpaceTrees


def new(features, shape):
    height, n_trees, window_size, seed = shape
    return HalfSpaceTrees(features, height=height, n_trees=n_trees, window_size=window_size, seed=seed)


SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(2, 40), st.integers(0, 2**31))


@settings(max_examples=40)
@given(shape=SHAPES, columns=st.integers(1, 4), data=st.data())
def test_scores_are_rivers_bit_for_bit(river, shape, columns, data):
    rows = data.draw(st.lists(st.lists(SHARES, min_size=columns, max_size=columns), min_size=1, max_size=120))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    names = [f"f{i}" for i in range(columns)]
    height, n_trees, window_size, seed = shape
    theirs = river(n_trees=n_trees, height=height, window_size=window_size, seed=seed)
    expected, learning = [], []
    for row in rows:
        x = dict(zip(names, row, strict=True))
        learning.append(theirs._first_window)
        expected.append(float(theirs.score_one(x)))
        theirs.learn_one(x)
    ours = new(names, shape)
    parts = [ours.score_then_learn_many(np.array(rows[a:b]).reshape(-1, columns)) for a, b in _spans(cuts, len(rows))]
    assert np.concatenate([scores for scores, _ in parts]).tolist() == expected
    assert np.concatenate([young for _, young in parts]).tolist() == learning
    probe = dict(zip(names, rows[-1], strict=True))
    assert ours.score_one(probe) == theirs.score_one(probe)


@settings(max_examples=40)
@given(shape=SHAPES, seed=st.integers(0, 1_000), count=st.integers(0, 150))
def test_state_round_trips_exactly(shape, seed, count):
    rows = np.random.default_rng(seed).random((count + 50, 3))
    one, other = new("abc", shape), new("abc", shape)
    one.score_then_learn_many(rows[:count])
    other.restore(one.state())
    assert other.state() == one.state()
    assert one.score_then_learn_many(rows[count:])[0].tolist() == other.score_then_learn_many(rows[count:])[0].tolist()
    assert one.state() == other.state()


def test_a_broken_state_is_refused():
    model = HalfSpaceTrees("ab", height=3, n_trees=2, window_size=10)
    model.score_then_learn_many(np.random.default_rng(1).random((17, 2)))
    state = model.state()
    wrong = bytearray(state)
    wrong[-1] ^= 1
    for broken in (b"", state[:-1], bytes(wrong), b"XXXX" + state[4:]):
        with pytest.raises(ValueError, match="half-space trees"):
            HalfSpaceTrees("ab", height=3, n_trees=2, window_size=10).restore(broken)
    with pytest.raises(ValueError, match="other trees"):
        HalfSpaceTrees("ab", height=3, n_trees=2, window_size=10, seed=9).restore(state)


def test_scoring_alone_learns_nothing():
    model = HalfSpaceTrees("ab", height=3, n_trees=2, window_size=10)
    before = model.state()
    assert model.score_one({"a": 0.5, "b": 0.1}) == 0.0
    assert model.state() == before
    for _ in range(10):
        model.learn_one({"a": 0.5, "b": 0.1})
    assert not model.learning
    assert model.score_one({"a": 0.99, "b": 0.99}) > model.score_one({"a": 0.5, "b": 0.1})


def _spans(cuts, length):
    edges = [0, *cuts, length]
    return list(itertools.pairwise(edges))
