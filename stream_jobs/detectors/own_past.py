"""How rare a severity is in the series' own past: from scores of any scale to "1 in 100 of its points"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.base import Floats

HEADS, BINS = 5, 48


@dataclass(frozen=True, slots=True)
class Ranks:
    """What the past says of n severities; the fields are those of `Scores`."""

    score: Floats
    alarm: Floats
    confidence: Floats
    onset_ms: NDArray[np.int64]


class OwnPast:
    """A quantile sketch of the severities of one series, with a memory of 14 days, in under 1.3 KB.

    48 bins that touch or leave gaps, as in a streaming histogram (Ben-Haim and Tom-Tov, JMLR 11, 2010); which two are
    joined follows the t-digest (Dunning and Ertl, arXiv:1902.04023) for the upper end alone: a bin holds a share of
    what lies above it. A rank of 0.99 is exact to about 0.002. Equal severities are one bin, so ties cost nothing.
    The alarm is log10 of "1 in so many", and beyond the largest severity seen, how far beyond. It fails where
    severities drift faster than the memory: everything is then unusual, or nothing.
    """

    def __init__(self) -> None:
        self._heads = np.array([0.0, 0.0, 1.0, 0.0, -1.0])
        self._bins = np.zeros((3, BINS + 1))

    def run(
        self, time_ms: NDArray[np.int64], elapsed_ms: Floats, severity: Floats, learning: NDArray[np.bool_]
    ) -> Ranks:
        """Rank each severity and then take it in. What is given while the model is learning is not taken in."""
        from stream_jobs.detectors.compiled_past import rank  # numba takes a second to import

        n = len(severity)
        ranks = Ranks(np.empty(n), np.empty(n), np.empty(n), np.empty(n, dtype=np.int64))
        rank(
            time_ms, elapsed_ms, severity, learning, self._heads, self._bins, ranks.score, ranks.alarm,
            ranks.confidence, ranks.onset_ms,
        )  # fmt: skip
        return ranks

    def state(self) -> bytes:
        """Everything learnt, as little-endian floats: the bins in use only."""
        used = int(self._heads[0])
        return self._heads.astype("<f8").tobytes() + self._bins[:, :used].astype("<f8").tobytes()

    def restore(self, state: bytes) -> None:
        """Take over what `state` gave. Raises ValueError when it is cut or makes no sense."""
        if len(state) < 8 * HEADS or len(state) % 8:
            raise ValueError(f"own past: {len(state)} bytes of state")
        numbers = np.frombuffer(state, dtype="<f8").astype(np.float64)
        heads, rest = numbers[:HEADS].copy(), numbers[HEADS:]
        if not np.isfinite(numbers).all() or not 0 <= heads[0] <= BINS or len(rest) != 3 * int(heads[0]):
            raise ValueError("own past: the bins do not fit")
        self._heads, self._bins = heads, np.zeros((3, BINS + 1))
        self._bins[:, : int(heads[0])] = rest.reshape(3, -1)
