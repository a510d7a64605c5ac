"""Requests as vectors of whole numbers, latency first, then each factor: what the sums of a window are made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.windows import FACTOR_UNITS, FACTORS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VARIABLES = 1 + len(FACTORS)
PRODUCTS = VARIABLES * (VARIABLES + 1) // 2
NUMBER_MAX = 2**20 - 1
"""A larger number is learnt as this one (65 s, a million tokens, 16 TiB): products of 4 million requests then add up
below 2^62, and one wild number does not drown the others."""
_UNITS = np.array(FACTOR_UNITS)
_PER_UNIT, _MAX = 1.0 / _UNITS, NUMBER_MAX * _UNITS


def vectors_of(
    total_ms: Floats,
    queue_ms: Floats,
    batch_tokens: Ints | Floats,
    batch_padded_tokens: Ints | Floats,
    batch_size: Ints | Floats,
    cached: Floats,
    memory_bytes: Ints | Floats,
) -> Ints:
    """The vectors of n requests, (VARIABLES, n), of columns of n each. What is negative or NaN is 0."""
    from stream_jobs.attribution.compiled_sums import fill_vectors  # numba takes a second to import

    columns = (total_ms, queue_ms, batch_tokens, batch_padded_tokens, batch_size, cached, memory_bytes)
    total, queue, tokens, padded, size, hits, memory = (np.asarray(one, dtype=np.float64) for one in columns)
    vectors = np.empty((VARIABLES, len(total)), dtype=np.int64)
    fill_vectors(total, queue, tokens, padded, size, hits, memory, _PER_UNIT, _MAX, vectors)
    return vectors
