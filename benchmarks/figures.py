"""Figures from measurements: medians with their spread, rates, quantiles, growth. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

DIGITS = 5
"""Significant digits of a printed figure: more would only be noise."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure measured several times."""

    median: float
    least: float
    most: float
    values: tuple[float, ...]

    def as_json(self) -> dict[str, object]:
        """For programs, rounded."""
        return {name: _rounded(value) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.median:.5g} (median of {len(self.values)}; {self.least:.5g} to {self.most:.5g})"


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    return Spread(statistics.median(values), min(values), max(values), tuple(values))


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Ratios of what was measured in the same round, so that a slow minute of the machine hits both."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def steady_rate(times_ms: ArrayLike, warm_share: float) -> float:
    """Events a second from their times in milliseconds, with the first `warm_share` of them left out.

    Raises ValueError when the rest does not span any time.
    """
    times = np.sort(np.asarray(times_ms, dtype=np.float64))
    first = int(len(times) * warm_share)
    if len(times) - first < 2 or times[-1] <= times[first]:
        raise ValueError(f"{len(times)} events span no time after the warm part")
    return float((len(times) - 1 - first) * 1000 / (times[-1] - times[first]))


def quantile(values: ArrayLike, q: float) -> float:
    """The value that a share `q` is not above: an observed one, not interpolated."""
    return float(np.quantile(np.asarray(values, dtype=np.float64), q, method="inverted_cdf"))


def growth(samples: Sequence[tuple[int, int]], requests: int, warm_share: float = 0.25) -> int | None:
    """How much a size grew after the warm part: the median over the last tenth of the requests minus the median over
    the tenth that follows the warm part. `samples` are (requests done, size); None where one of them has no sample."""

    def sizes(begin: float, end: float) -> list[int]:
        return [size for done, size in samples if begin * requests <= done <= end * requests]

    first, last = sizes(warm_share, warm_share + 0.1), sizes(0.9, 1.0)
    if not first or not last:
        return None
    return round(statistics.median(last) - statistics.median(first))


def _rounded(value: object) -> object:
    if isinstance(value, tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
