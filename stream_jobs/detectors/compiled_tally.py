"""A series' own past severities as a histogram of their logarithm: which share of them was lower than this one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors import two_heads_layout as at
from stream_jobs.detectors.compiled import part

Floats = NDArray[np.float64]

LOWEST = math.log(0.05)
STEP = 0.2
"""Bins are this wide in log severity: 22 %."""
WEIGHT_MAX = 1e6


@part
def _place(severity: float) -> float:
    """Where the severity lies, in bins from the lowest."""
    if severity <= 0.0:
        return 0.0
    return min(max((math.log(severity) - LOWEST) / STEP, 0.0), at.TALLIES - 1e-9)


@part
def share_below(state: Floats, severity: float) -> float:
    """Share of past severities, decayed, below this one; within a bin they are taken to be spread evenly."""
    place = _place(severity)
    whole = int(place)
    below, total = 0.0, state[at.TALLY_WEIGHT]
    for k in range(at.TALLIES):
        if k < whole:
            below += state[at.TALLY + k]
        total += state[at.TALLY + k]
    return float((below + (place - whole) * state[at.TALLY + whole]) / total)


@part
def take_tally(state: Floats, severity: float, growth: float) -> None:
    """Count it. Later counts weigh more, which is the same as a decay of earlier ones and touches one number."""
    weight = state[at.TALLY_WEIGHT] * growth
    state[at.TALLY + int(_place(severity))] += weight
    if weight > WEIGHT_MAX:
        for k in range(at.TALLIES):
            state[at.TALLY + k] /= weight
        weight = 1.0
    state[at.TALLY_WEIGHT] = weight
