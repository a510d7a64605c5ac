"""The loops over requests that make vectors of them and add up their products, compiled (numba)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.compiled import compiled, part

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@part
def _usable(value: float, most: float) -> float:
    """0 for what is negative or NaN, the most for what is more."""
    return min(value, most) if value > 0.0 else 0.0


@compiled
def fill_vectors(
    total_ms: Floats, queue_ms: Floats, tokens: Floats, padded: Floats, size: Floats, cached: Floats, memory: Floats,
    per_unit: Floats, most: Floats, out: Ints,
) -> None:  # fmt: skip
    """Column i of `out`, (7, n), becomes request i in whole units: see `factors.vectors_of`."""
    for i in range(len(total_ms)):
        real = _usable(tokens[i], most[2])
        out[0, i] = int(_usable(total_ms[i], most[0]) * per_unit[0] + 0.5)
        out[1, i] = int(_usable(queue_ms[i], most[1]) * per_unit[1] + 0.5)
        out[2, i] = int(real * per_unit[2] + 0.5)
        out[3, i] = int(_usable(_usable(padded[i], most[3]) - real, most[3]) * per_unit[3] + 0.5)
        out[4, i] = int(_usable(size[i], most[4]) * per_unit[4] + 0.5)
        out[5, i] = int(_usable(cached[i], most[5]) * per_unit[5] + 0.5)
        out[6, i] = int(_usable(memory[i], most[6]) * per_unit[6] + 0.5)


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
