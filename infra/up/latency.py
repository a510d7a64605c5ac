"""Quantiles of latencies in constant memory, within 1 %, over all time and over the last seconds."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALLEST_MS = 0.05
GAMMA = 1.02
"""Width of a bucket: the middle of one is within 1 % of all in it."""
BUCKETS = 1_200
"""0.05 ms times 1.02^1200 is 10^9 ms."""


class LatencyHistogram:
    """Counts of latencies, milliseconds, in buckets that grow by 2 %."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BUCKETS, np.int64)

    def add(self, latencies_ms: ArrayLike) -> None:
        """Count latencies; what is below 0.05 ms counts as 0.05."""
        values = np.maximum(np.asarray(latencies_ms, dtype=np.float64), SMALLEST_MS)
        indexes = np.minimum(np.log(values / SMALLEST_MS) / np.log(GAMMA), BUCKETS - 1).astype(np.int64)
        self.counts += np.bincount(indexes, minlength=BUCKETS)

    def quantile(self, q: float) -> float | None:
        """The latency that a share `q` of all is not above, milliseconds; None without any."""
        return _quantile(self.counts, q)


class RecentLatency:
    """The latencies of about the last `seconds`, in slices that are dropped whole."""

    def __init__(self, seconds: float = 30.0, slices: int = 6) -> None:
        self._slice_seconds = seconds / slices
        self._slices: deque[tuple[int, LatencyHistogram]] = deque(maxlen=slices)

    def add(self, latencies_ms: ArrayLike, now: float) -> None:
        """Count latencies seen at `now`, monotonic seconds."""
        number = int(now // self._slice_seconds)
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append((number, LatencyHistogram()))
        self._slices[-1][1].add(latencies_ms)

    def quantile(self, q: float, now: float) -> float | None:
        """As `LatencyHistogram.quantile`, over the slices that are not too old at `now`."""
        oldest = int(now // self._slice_seconds) - (self._slices.maxlen or 1)
        fresh = [one.counts for number, one in self._slices if number > oldest]
        return _quantile(np.sum(fresh, axis=0), q) if fresh else None


def _quantile(counts: NDArray[np.int64], q: float) -> float | None:
    total = int(counts.sum())
    if total == 0:
        return None
    index = int(np.searchsorted(np.cumsum(counts), max(1, int(np.ceil(q * total)))))
    return float(SMALLEST_MS * GAMMA ** (index + 0.5))
