"""The loops over requests that fold them into windows, compiled (numba). Sums add in the order of the rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.compiled import compiled, part

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@compiled
def count_outcomes(slots: Ints, outcome: Ints, answered: Ints, failed: Ints, shed: Ints, dead_lettered: Ints) -> None:
    """Count each request in its slot, by outcome."""
    for row in range(len(slots)):
        if outcome[row] == 0:
            answered[slots[row]] += 1
        elif outcome[row] == 1:
            failed[slots[row]] += 1
        elif outcome[row] == 2:
            shed[slots[row]] += 1
        else:
            dead_lettered[slots[row]] += 1


@compiled
def add_at(slots: Ints, values: Ints | Floats, sums: Ints | Floats) -> None:
    """`sums[slots[i]] += values[i]`, one after the other."""
    for row in range(len(slots)):
        sums[slots[row]] += values[row]


@compiled
def raise_at(slots: Ints, values: Ints | Floats, most: Ints | Floats) -> None:
    """`most[slots[i]]` becomes the larger of itself and `values[i]`."""
    for row in range(len(slots)):
        if values[row] > most[slots[row]]:
            most[slots[row]] = values[row]


@compiled
def sketch_rows(
    slots: Ints, values: Floats, mask: Bools, ends: Floats, sums: Floats, least: Floats, most: Floats, codes: Ints
) -> int:
    """Fold the values that the mask has into their slots' sum, least and most; `codes` gets slot x len(ends) + bucket
    of each. Returns how many."""
    count, buckets = 0, len(ends)
    for row in range(len(slots)):
        if not mask[row]:
            continue
        slot, value = slots[row], values[row]
        sums[slot] += value
        if value < least[slot]:
            least[slot] = value
        if value > most[slot]:
            most[slot] = value
        low, high = 0, buckets
        while low < high:
            middle = (low + high) >> 1
            if ends[middle] < value:
                low = middle + 1
            else:
                high = middle
        codes[count] = slot * buckets + low
        count += 1
    return count


@part
def _bin_of(value: float, edges: Floats) -> int:
    """How many of the rising edges are not above the value."""
    low, high = 0, len(edges)
    while low < high:
        middle = (low + high) >> 1
        if edges[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def bins_of(values: Floats, counted: Bools, edges: Floats) -> Ints:
    """The bin of each value, (n,), that `counted`, (n,), has, -1 for the others: bin i holds what is below edge i and
    not below edge i-1."""
    found = np.full(len(values), -1, dtype=np.int64)
    for row in range(len(values)):
        if counted[row]:
            found[row] = _bin_of(values[row], edges)
    return found


@compiled
def fertility_bins_of(
    tokens: Ints, input_bytes: Ints, inputs: Ints, truncated: Bools, special_bytes: int, edges: Floats
) -> Ints:
    """The bin of each request's tokens over its bytes and `special_bytes`, as `bins_of` has it; columns are (n,),
    `edges` tokens a byte. -1 for what is no ratio of one text: several inputs (of which one may be counted with each
    of the others), a truncated one, and none at all."""
    found = np.full(len(tokens), -1, dtype=np.int64)
    for row in range(len(tokens)):
        if inputs[row] == 1 and not truncated[row] and tokens[row] > 0 and input_bytes[row] > 0:
            found[row] = _bin_of(tokens[row] / (input_bytes[row] + special_bytes), edges)
    return found


@compiled
def count_bins(slots: Ints, bins: Ints, counts: Ints) -> None:
    """Count each row that has a bin: `counts` is (slots, bins)."""
    for row in range(len(slots)):
        if bins[row] >= 0:
            counts[slots[row], bins[row]] += 1


@compiled
def squashed(columns: Floats, scales: Floats) -> Floats:
    """x / (x + scale) for (features, n) `columns`, as (n, features). What is negative or NaN is 0, infinity 1e12."""
    features, count = columns.shape
    rows = np.empty((count, features))
    for feature in range(features):
        for row in range(count):
            value = columns[feature, row]
            value = min(value, 1e12) if value > 0.0 else 0.0
            rows[row, feature] = value / (value + scales[feature])
    return rows


@compiled
def sorted_codes(codes: Ints, distinct: Ints, series: Ints) -> int:
    """As `np.unique(codes, return_inverse=True)` for few different codes: fills `distinct`, rising, and `series`.

    Returns how many are different; -1 when they are more than `distinct` holds.
    """
    count = 0
    for row in range(len(codes)):
        code = codes[row]
        place = 0
        while place < count and distinct[place] < code:
            place += 1
        if place < count and distinct[place] == code:
            continue
        if count == len(distinct):
            return -1
        for later in range(count, place, -1):
            distinct[later] = distinct[later - 1]
        distinct[place] = code
        count += 1
    for row in range(len(codes)):
        place = 0
        while distinct[place] != codes[row]:
            place += 1
        series[row] = place
    return count
