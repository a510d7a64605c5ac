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
_PADDING = 1 + FACTORS.index("padding")
_MAX = NUMBER_MAX * np.array(FACTOR_UNITS).reshape(-1, 1)
_PER_UNIT = np.array([1.0 / unit for unit in FACTOR_UNITS]).reshape(-1, 1)


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
    columns = (total_ms, queue_ms, batch_tokens, batch_padded_tokens, batch_size, cached, memory_bytes)
    raw = np.stack(columns, dtype=np.float64)
    # In this order NaN becomes 0, too: every comparison with it is false.
    np.copyto(raw, 0.0, where=~(raw > 0.0))
    np.minimum(raw, _MAX, out=raw)
    raw[_PADDING] = np.maximum(raw[_PADDING] - raw[_PADDING - 1], 0.0)
    raw *= _PER_UNIT
    raw += 0.5
    return raw.astype(np.int64)
