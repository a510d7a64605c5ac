"""How long before a deadline a batch must be closed, by what batches have lately taken to compute. Pure."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from inference_workers.batching.planner import DEADLINE_MARGIN_MS

KEPT_BATCHES = 32
"""Compute times kept. Whatever was slow is forgotten after so many batches."""
OUTLIER_EVERY = 16
"""One in so many batches may be as slow as it likes: a stall among them does not make the margin. Before there are so
many, the slowest counts: an answer in time is worth more than company."""
COMPUTE_MS_MAX = 60_000
"""No estimate is above this: what takes longer is a machine that stood still."""


@dataclass(slots=True)
class ComputeTimes:
    """The last compute times of one lane, milliseconds.

    Assumes that the next batch is like one of the last: true where traffic and machine stay. Too short for the first
    batches after a change, and too long for small batches among full ones, which costs them company alone.
    """

    _last: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_BATCHES))

    def add(self, compute_ms: float) -> None:
        """A batch took so long."""
        self._last.append(compute_ms)

    @property
    def margin_ms(self) -> int:
        """What a batch is likely to take at most, a quantile of 15/16 of the last ones, and the time to tell of it."""
        if not self._last:
            return DEADLINE_MARGIN_MS
        likely_ms = sorted(self._last)[-1 - len(self._last) // OUTLIER_EVERY]
        return DEADLINE_MARGIN_MS + math.ceil(min(likely_ms, COMPUTE_MS_MAX))
