"""What a detector's scores must keep on real series: no look ahead, batches equal to loops, no matter the unit."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.choice import Make
from benchmarks.detection.data_sets import Series
from stream_jobs.detectors.base import Floats, Scores

POINTS = 6_000
"""Of each series that is tried: enough for slow memories to matter, few enough for slow detectors."""
CUT_SHARES = (0.001, 0.1, 1 / 3, 0.5, 0.77, 0.999)
LOOP_POINTS = 400
INVARIANCE_MIN = 0.999
"""Rank correlation from which on scores do not depend on the unit: see `invariance`."""
AFFINE = ((3.7, -12.5), (0.013, 400.0), (1_000.0, 0.0))
"""Units and offsets, as if a metric were reported in others."""


def causality(make: Make, series: Series) -> bool:
    """The scores of a prefix are the prefix of the scores, bit for bit, at several cuts."""
    times, values = series.time_ms[:POINTS], series.values[:POINTS]
    whole = make(values.shape[1]).run(times, values)
    cuts = sorted({max(1, int(len(times) * share)) for share in CUT_SHARES})
    return all(_same(make(values.shape[1]).run(times[:cut], values[:cut]), whole, cut) for cut in cuts)


def loop_equals_batch(make: Make, series: Series) -> bool:
    """Points given one by one, then in unequal parts, get the scores of one call, bit for bit, to the same state."""
    times, values = series.time_ms[:POINTS], series.values[:POINTS]
    one, other = make(values.shape[1]), make(values.shape[1])
    whole = one.run(times, values)
    edges = sorted({*range(min(LOOP_POINTS, len(times)) + 1), len(times) // 2, len(times) * 3 // 4, len(times)})
    parts = [other.run(times[a:b], values[a:b]) for a, b in pairwise(edges)]
    joined = Scores(**{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Scores)})
    return _same(whole, joined, len(times)) and one.state() == other.state()


def invariance(make: Make, series: Series) -> float:
    """Least rank correlation (Spearman) of severity and of alarm between v and a v + b, a > 0.

    Exactly 1 where ranks do not move. Sums round differently in another unit, so that points which score nearly the
    same may change places: 0.999 and above is no dependence on the unit.
    """
    times, values = series.time_ms[:POINTS], series.values[:POINTS]
    plain = make(values.shape[1]).run(times, values)
    least = 1.0
    for a, b in AFFINE:
        other = make(values.shape[1]).run(times, a * values + b)
        least = min(least, _correlation(plain.severity, other.severity), _correlation(plain.alarm, other.alarm))
    return least


def _same(one: Scores, other: Scores, n: int) -> bool:
    """The first n of all fields are the same, bit for bit; any NaN is the same as any other."""
    return all(
        np.array_equal(getattr(one, field.name)[:n], getattr(other, field.name)[:n], equal_nan=True)
        for field in fields(Scores)
    )


def _correlation(one: Floats, other: Floats) -> float:
    if (np.isnan(one) != np.isnan(other)).any():
        return -1.0
    said = ~np.isnan(one)
    first, second = _ranks(one[said]), _ranks(other[said])
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 1.0 if np.array_equal(first, second) else 0.0
    return float(np.corrcoef(first, second)[0, 1]) if not np.array_equal(first, second) else 1.0


def _ranks(values: NDArray[Any]) -> Floats:
    """From 0; equal values share the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts) + (counts - 1) / 2.0)[group].astype(np.float64)
