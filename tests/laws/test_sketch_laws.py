"""Sketches merge like sets of values, in any order, and their quantiles are within 1 %."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.windows import Sketch
from stream_jobs.sketch import BUCKETS, UPPER_ENDS, merge, quantile
from tests.sketches import buckets_of

VALUES = st.lists(st.one_of(st.floats(0, 1e12), st.floats(0.01, 5_000)), min_size=1, max_size=80)


def sketch_of(values):
    buckets = buckets_of(np.array(values, dtype=float)).tolist()
    distinct = sorted(set(buckets))
    counts = [buckets.count(bucket) for bucket in distinct]
    return Sketch(bucket=distinct, count=counts, sum=math.fsum(values), min=min(values), max=max(values))


@given(values=VALUES, share=st.floats(0, 1))
def test_quantiles_are_within_one_percent(values, share):
    expected = sorted(values)[int(share * (len(values) - 1))]
    found = quantile(sketch_of(values), share)
    assert abs(found - expected) <= 0.010001 * expected + 1e-3


@given(parts=st.lists(VALUES, min_size=1, max_size=5), data=st.data())
def test_merging_is_counting_everything_in_any_order(parts, data):
    together = sketch_of([value for part in parts for value in part])
    shuffled = data.draw(st.permutations(parts))
    merged = merge(sketch_of(part) for part in shuffled)
    assert (merged.bucket, merged.count, merged.min, merged.max) == (
        together.bucket,
        together.count,
        together.min,
        together.max,
    )
    left = merge([merge(map(sketch_of, shuffled[:2])), *map(sketch_of, shuffled[2:])])
    assert (left.bucket, left.count) == (merged.bucket, merged.count)
    assert math.isclose(merged.sum, together.sum, rel_tol=1e-9)


@given(values=VALUES)
def test_an_empty_sketch_changes_nothing(values):
    sketch = sketch_of(values)
    assert merge([Sketch(), sketch, Sketch()]) == sketch
    assert merge([]) == Sketch()
    assert quantile(Sketch(), 0.95) == 0.0


def test_the_boundaries_are_these_numbers_on_every_machine():
    assert BUCKETS == 1_728
    assert UPPER_ENDS[1000].hex() == "0x1.da1c310851a08p+18"
    assert UPPER_ENDS[-1] >= 1e12 > UPPER_ENDS[-2]
