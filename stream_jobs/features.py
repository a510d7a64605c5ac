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
_SCALES = np.array([SCALES[name] for name in NAMES]).reshape(-1, 1)


def features_of(columns: dict[str, Floats]) -> Floats:
    """Features of `n` requests, shape (n, len(NAMES)), C order, each x / (x + scale), so in [0, 1).

    What is missing, negative or not finite counts as 0 (and infinity as the largest number below 1).
    """
    raw = np.stack([columns[name] for name in NAMES])
    raw = np.nan_to_num(raw, copy=False, nan=0.0, posinf=1e12, neginf=0.0)
    np.clip(raw, 0.0, 1e12, out=raw)
    return np.ascontiguousarray((raw / (raw + _SCALES)).T)
