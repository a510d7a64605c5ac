"""What the row model sees of a request: numbers from 0 to 1, each with its own half-way point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SCALES: dict[str, float] = {
    "batch_size": 32.0,
    "compute_ms": 100.0,
    "error": 1.0,
    "input_bytes": 200.0,
    "output_norm": 5.0,
    "queue_ms": 100.0,
    "tokens": 16.0,
    "total_ms": 200.0,
    "unknown_share": 0.2,
}
"""The value that becomes 0.5, by feature; in alphabetical order, as River sorts them."""
NAMES: tuple[str, ...] = tuple(sorted(SCALES))
_SCALES = np.array([SCALES[name] for name in NAMES])


def features_of(columns: dict[str, Floats]) -> Floats:
    """Features of `n` requests, shape (n, len(NAMES)), C order, each x / (x + scale), so in [0, 1).

    What is missing, negative or not finite counts as 0 (and infinity as the largest number below 1).
    """
    from stream_jobs.compiled_window import squashed  # numba takes a second to import

    return squashed(np.stack([columns[name] for name in NAMES]), _SCALES)
