"""Which way output vectors point, told as one of a few parts of space: so a drift of embeddings shows without them.

Signs of fixed random projections (Charikar 2002): two vectors at an angle a differ in each with probability a / pi.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from inference_workers.ports import Floats
from schemas.telemetry import DIRECTIONS

BITS = DIRECTIONS.bit_length() - 1
SEED = 20_260
"""Another one would be another measure: histograms of before could not be compared."""
_WEIGHTS = 1 << np.arange(BITS)


@lru_cache(maxsize=16)
def planes(width: int) -> NDArray[np.float32]:
    """The projections of vectors of this width, [width, BITS]."""
    return np.random.default_rng([SEED, width]).standard_normal((width, BITS)).astype(np.float32)


def directions_of(vectors: Floats) -> list[int]:
    """Of vectors [n, width], finite: 1 and the signs as bits, 1 to `DIRECTIONS`."""
    found: list[int] = (1 + (vectors @ planes(vectors.shape[1]) > 0.0) @ _WEIGHTS).tolist()
    return found
