"""The compiled loops of `own_past`: a histogram of past severities whose bins are narrow where few points are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.compiled import compiled

Floats = NDArray[np.float64]

BINS = 48
LOW, HIGH, WEIGHT = 0, 1, 2
USED, TOTAL, UNIT, POINTS, ONSET_MS = 0, 1, 2, 3, 4
HEADS = 5
MEMORY_MS = 14 * 86_400_000.0
LEARNING_POINTS = 64.0
SURE_POINTS = 1_000.0
"""Half the confidence: a rank of 1 in 100 then rests on ten points."""
UNUSUAL = 0.99
"""A point with this score or more belongs to a run of unusual ones."""
UNIT_MAX = 1e6
SPLIT_SHARE = 0.35
SPLIT_POINTS = 8.0
TAIL_INDEX = 2.0
"""Beyond the largest severity seen, one twice as large is taken to be 2^2 times as rare."""
BEYOND_MAX = 2.0
"""What a value beyond the past can be rarer than the past is long: a hundred times."""


@compiled
def rank(
    time_ms: NDArray[np.int64],
    elapsed_ms: Floats,
    severity: Floats,
    learning: NDArray[np.bool_],
    heads: Floats,
    bins: Floats,
    score: Floats,
    alarm: Floats,
    confidence: Floats,
    onset_ms: NDArray[np.int64],
) -> None:
    """Rank each severity among the past ones and then take it in; changes `heads` and `bins` in place."""
    for i in range(len(severity)):
        score[i], alarm[i], confidence[i], onset_ms[i] = 0.0, 0.0, 0.0, -1
        _forget(heads, bins, elapsed_ms[i])
        if learning[i]:
            heads[ONSET_MS] = -1.0
            continue
        if heads[POINTS] >= LEARNING_POINTS:
            confidence[i] = heads[POINTS] / (heads[POINTS] + SURE_POINTS)
            above = _not_below(heads, bins, severity[i])
            # The total was summed in another order: what is all of it but for rounding is all of it.
            if above > heads[TOTAL] * (1.0 - 1e-9):
                above = heads[TOTAL]
            score[i] = 1.0 - above / heads[TOTAL]
            if severity[i] > 0.0:
                alarm[i] = np.log10((heads[TOTAL] + heads[UNIT]) / (above + heads[UNIT]))
                top = bins[HIGH, int(heads[USED]) - 1]
                if severity[i] > top > 0.0:  # beyond everything seen: how far says how rare
                    alarm[i] += min(BEYOND_MAX, TAIL_INDEX * np.log10(severity[i] / top))
        if score[i] < UNUSUAL:
            heads[ONSET_MS] = -1.0
        elif heads[ONSET_MS] < 0.0:
            heads[ONSET_MS] = float(time_ms[i])
        onset_ms[i] = int(heads[ONSET_MS])
        _take(heads, bins, severity[i])


@compiled
def _forget(heads: Floats, bins: Floats, elapsed_ms: float) -> None:
    """New points weigh more and more, which is the same as old ones weighing less."""
    heads[UNIT] *= np.exp(elapsed_ms / MEMORY_MS)
    if heads[UNIT] > UNIT_MAX:
        bins[WEIGHT] /= heads[UNIT]
        heads[TOTAL] /= heads[UNIT]
        heads[UNIT] = 1.0


@compiled
def _not_below(heads: Floats, bins: Floats, severity: float) -> float:
    """The weight of past points with at least this severity; evenly spread within a bin. Exactly 0 beyond the last."""
    above = 0.0
    for i in range(int(heads[USED]) - 1, -1, -1):
        if bins[LOW, i] >= severity:
            above += bins[WEIGHT, i]
        else:
            if bins[HIGH, i] >= severity:
                above += bins[WEIGHT, i] * (bins[HIGH, i] - severity) / (bins[HIGH, i] - bins[LOW, i])
            break
    return above


@compiled
def _take(heads: Floats, bins: Floats, severity: float) -> None:
    used = int(heads[USED])
    heads[TOTAL] += heads[UNIT]
    heads[POINTS] += 1.0
    at = 0
    while at < used and bins[HIGH, at] < severity:
        at += 1
    if at < used and bins[LOW, at] <= severity:
        bins[WEIGHT, at] += heads[UNIT]
        if bins[LOW, at] < bins[HIGH, at] and bins[WEIGHT, at] > SPLIT_POINTS * heads[UNIT]:
            tail = 0.0
            for i in range(at, used):
                tail += bins[WEIGHT, i]
            if bins[WEIGHT, at] > SPLIT_SHARE * tail:
                _insert(bins, used, at)
                middle = 0.5 * (bins[LOW, at + 1] + bins[HIGH, at + 1])
                bins[LOW, at], bins[HIGH, at], bins[LOW, at + 1] = bins[LOW, at + 1], middle, middle
                bins[WEIGHT, at + 1] *= 0.5
                bins[WEIGHT, at] = bins[WEIGHT, at + 1]
                used += 1
    else:
        _insert(bins, used, at)
        bins[LOW, at], bins[HIGH, at], bins[WEIGHT, at] = severity, severity, heads[UNIT]
        used += 1
    if used > BINS:
        _merge(bins, used, heads[UNIT])
        used -= 1
    heads[USED] = float(used)


@compiled
def _insert(bins: Floats, used: int, at: int) -> None:
    for row in range(3):
        for i in range(used, at, -1):
            bins[row, i] = bins[row, i - 1]


@compiled
def _merge(bins: Floats, used: int, unit: float) -> None:
    """Join the two neighbours that hold the least, as a share of what lies above them: the rare end stays exact."""
    best, least, above = 0, np.inf, 0.0
    for i in range(used - 2, -1, -1):
        cost = (bins[WEIGHT, i] + bins[WEIGHT, i + 1]) / (above + 0.5 * bins[WEIGHT, i + 1] + unit)
        if cost < least:
            best, least = i, cost
        above += bins[WEIGHT, i + 1]
    bins[HIGH, best] = bins[HIGH, best + 1]
    bins[WEIGHT, best] += bins[WEIGHT, best + 1]
    for row in range(3):
        for i in range(best + 1, used - 1):
            bins[row, i] = bins[row, i + 1]
    bins[:, used - 1] = 0.0
