"""Quantile sketches with 1 % relative error, merged by adding counts (DDSketch: Masson, Rim, Lee, VLDB 2019).

The bucket boundaries are made by multiplication alone, so that every machine puts a value into the same bucket.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from schemas.windows import Sketch

RELATIVE_ERROR = 0.01
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
SMALLEST = 1e-3
"""Upper end of bucket 0, milliseconds: what is below a microsecond counts as nothing."""
LARGEST = 1e12
"""Bounds `schemas.base.Milliseconds`."""


def _upper_ends() -> tuple[float, ...]:
    ends = [SMALLEST]
    while ends[-1] < LARGEST:
        ends.append(ends[-1] * GAMMA)
    return tuple(ends)


UPPER_ENDS = _upper_ends()
BUCKETS = len(UPPER_ENDS)
ENDS = np.array(UPPER_ENDS)


def merge(sketches: Iterable[Sketch]) -> Sketch:
    """All values of all sketches. Counts add exactly; `sum` adds in the order given."""
    counts: dict[int, int] = {}
    total, smallest, largest, some = 0.0, 0.0, 0.0, False
    for sketch in sketches:
        if not sketch.bucket:
            continue
        for bucket, count in zip(sketch.bucket, sketch.count, strict=True):
            counts[bucket] = counts.get(bucket, 0) + count
        total += sketch.sum
        smallest = min(smallest, sketch.min) if some else sketch.min
        largest = max(largest, sketch.max) if some else sketch.max
        some = True
    buckets = sorted(counts)
    return Sketch.model_construct(
        bucket=buckets, count=[counts[bucket] for bucket in buckets], sum=total, min=smallest, max=largest
    )


def quantile(sketch: Sketch, share: float) -> float:
    """The value of rank floor(share x (n - 1)), within 1 %; 0.0 for an empty sketch."""
    rank = int(share * (sum(sketch.count) - 1))
    below = 0
    for bucket, count in zip(sketch.bucket, sketch.count, strict=True):
        below += count
        if below > rank:
            return min(max(_middle(bucket), sketch.min), sketch.max)
    return 0.0


def _middle(bucket: int) -> float:
    if bucket == 0:
        return 0.0
    return UPPER_ENDS[min(bucket, BUCKETS - 1)] * 2.0 / (1.0 + GAMMA)
