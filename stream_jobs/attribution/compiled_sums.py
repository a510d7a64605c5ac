"""The loop over requests that adds up products of their vectors, compiled (numba)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.compiled import compiled

Ints = NDArray[np.int64]


@compiled
def add_vectors(
    series: Ints, slots: Ints, rows: Ints, vectors: Ints, counted: NDArray[np.bool_], products: Ints, sums: Ints
) -> None:
    """For each counted request its vector goes to row `rows[series]` of `sums`, products to `slots[series]`."""
    variables = vectors.shape[0]
    for i in range(len(series)):
        if not counted[i]:
            continue
        slot, row, at = slots[series[i]], rows[series[i]], 0
        sums[row, 0] += 1
        for a in range(variables):
            one = vectors[a, i]
            sums[row, 1 + a] += one
            for b in range(a, variables):
                products[slot, at] += one * vectors[b, i]
                at += 1
