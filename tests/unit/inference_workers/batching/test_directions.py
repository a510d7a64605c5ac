import numpy as np

from inference_workers.batching.directions import directions_of, planes
from schemas.telemetry import DIRECTIONS


def shares(vectors):
    return np.bincount(directions_of(vectors), minlength=DIRECTIONS + 1)[1:] / len(vectors)


def test_vectors_to_all_sides_have_all_directions_and_a_shift_moves_them():
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((20_000, 384)).astype(np.float32)
    usual = shares(vectors)
    assert (usual > 0.02).all()
    assert 0.5 * np.abs(shares(rng.standard_normal((20_000, 384)).astype(np.float32)) - usual).sum() < 0.05
    mean = rng.standard_normal(384).astype(np.float32)
    assert 0.5 * np.abs(shares(vectors + mean) - usual).sum() > 0.15


def test_length_does_not_count_and_a_vector_has_the_same_direction_in_any_batch_and_process():
    vectors = np.random.default_rng(2).standard_normal((50, 384)).astype(np.float32)
    assert directions_of(vectors * 7.0) == directions_of(vectors)
    assert [one for vector in vectors for one in directions_of(vector[None])] == directions_of(vectors)
    assert directions_of(vectors)[:8] == [12, 2, 6, 5, 12, 14, 7, 5]  # the measure of what is stored
    planes.cache_clear()
    assert directions_of(np.zeros((1, 3), dtype=np.float32)) == [1]
