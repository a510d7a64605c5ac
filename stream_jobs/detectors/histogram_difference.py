"""How far two histograms differ: population stability index, size of the effect, and whether chance explains it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from statistics import NormalDist

Histogram = Sequence[int]
"""Counts by bin; bins at the end that are 0 may be left out."""


@dataclass(frozen=True, slots=True)
class Difference:
    """`psi` is the index less what chance makes of it, at least 0. `effect` is of numbers Cliff's delta, above 0 where
    recent values are larger, of names the share of requests in other bins."""

    psi: float
    effect: float
    significant: bool


NO_DIFFERENCE = Difference(0.0, 0.0, False)


def compared_numbers(reference: Histogram, recent: Histogram, significance: float) -> Difference:
    """Bins in the order of their values: Cliff's delta, and the Kolmogorov-Smirnov test. None where one is empty."""
    before, after = sum(reference), sum(recent)
    if not before or not after:
        return NO_DIFFERENCE
    pairs = list(zip_longest(reference, recent, fillvalue=0))
    psi, _ = _index(pairs, before, after)
    below = list(accumulate(a for a, _ in pairs))
    cumulative = list(accumulate(b for _, b in pairs))
    larger = sum(b * (below[number - 1] if number else 0) for number, (_, b) in enumerate(pairs))
    smaller = sum(b * (before - below[number]) for number, (_, b) in enumerate(pairs))
    distance = max(abs(a / before - b / after) for a, b in zip(below, cumulative, strict=True))
    ks = distance * math.sqrt(before * after / (before + after))
    return Difference(psi, (larger - smaller) / (before * after), ks > math.sqrt(-math.log(significance / 2.0) / 2.0))


def compared_names(reference: Histogram, recent: Histogram, significance: float) -> Difference:
    """Bins in no order: total variation, and Pearson's test of two samples. None where one is empty."""
    before, after = sum(reference), sum(recent)
    if not before or not after:
        return NO_DIFFERENCE
    pairs = list(zip_longest(reference, recent, fillvalue=0))
    psi, used = _index(pairs, before, after)
    moved = sum(abs(a / before - b / after) for a, b in pairs) / 2.0
    chi = sum((a * after - b * before) ** 2 / ((a + b) * before * after) for a, b in pairs if a or b)
    return Difference(psi, moved, used > 1 and chi > _chi_squared(used - 1, significance))


def _index(pairs: Sequence[tuple[int, int]], before: int, after: int) -> tuple[float, int]:
    """The index (Siddiqi 2006) without what chance makes of it, and how many bins hold anything."""
    used = [(a, b) for a, b in pairs if a or b]
    # Half a case more in each bin: an empty one would make the index infinite.
    shares = [((a + 0.5) / (before + 0.5 * len(used)), (b + 0.5) / (after + 0.5 * len(used))) for a, b in used]
    psi = sum((new - old) * math.log(new / old) for old, new in shares)
    chance = (len(used) - 1) * (1.0 / before + 1.0 / after)
    return max(0.0, psi - chance), len(used)


def _chi_squared(freedom: int, significance: float) -> float:
    """What chi-squared exceeds with this probability, within a few per cent (Wilson and Hilferty 1931)."""
    step = 2.0 / (9.0 * freedom)
    far = NormalDist().inv_cdf(1.0 - significance)
    return float(freedom * (1.0 - step + far * math.sqrt(step)) ** 3)
