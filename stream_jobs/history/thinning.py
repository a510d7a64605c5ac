"""A long series as few points that look the same: of each stretch the lowest, the highest and the most anomalous."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.base import Floats

STRETCHES = 2_000
COLUMNS = ("time_ms", "value", "expected", "lower", "upper", "score", "alarm")


@dataclass
class Thinned:
    """Collects rows of (time_ms, value, expected, lower, upper, score, alarm), at most about three a stretch."""

    rows_expected: int
    """How many will come: known from an earlier pass, and only used to draw."""
    seen: int = 0
    parts: list[Floats] = field(default_factory=list)

    def add(self, rows: Floats) -> None:
        """`rows` is (n, 7), in order."""
        stretch = max(1, -(-self.rows_expected // STRETCHES))
        numbers = (self.seen + np.arange(len(rows))) // stretch
        self.seen += len(rows)
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for start, end in itertools.pairwise([*starts.tolist(), len(rows)]):
            self.parts.append(rows[start:end][_telling(rows[start:end])])

    def columns(self) -> dict[str, Floats]:
        """What is left, by name."""
        rows = np.concatenate(self.parts) if self.parts else np.empty((0, len(COLUMNS)))
        return {name: rows[:, number] for number, name in enumerate(COLUMNS)}


def _telling(rows: Floats) -> NDArray[np.int64]:
    chosen = {0}
    for number, most in ((1, False), (1, True), (6, True)):
        column = np.where(np.isnan(rows[:, number]), -np.inf if most else np.inf, rows[:, number])
        chosen.add(int(np.argmax(column) if most else np.argmin(column)))
    return np.array(sorted(chosen))
