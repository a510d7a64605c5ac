"""From what the channels say of a point to what is said of it: severity, score, confidence, shares and onset."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors import two_heads_layout as at
from stream_jobs.detectors.compiled import part
from stream_jobs.detectors.compiled_tally import share_below, take_tally

Floats = NDArray[np.float64]

PEAK_MAX = 100.0
"""A higher peak of an hour counts as this one: it is not to hide what comes after."""
HOUR_MS = 3_600_000
TOP = 5
"""A service's severity is the mean of so many of its channels, the worst."""


@part
def finish(
    state: Floats,
    z: Floats,
    calm: Floats,
    learns: bool,
    usable: int,
    policy: Floats,
    rates: Floats,
    i: int,
    per_point: Floats,
    shares: Floats,
) -> None:
    """Severity, score, confidence, contributions and onset of point i from its channels' z; -1 in z: nothing said.

    `calm` is z without what is not to be learnt, and `learns` whether there is any of it.
    """
    learning = state[at.COUNT] <= policy[at.LEARNING_POINTS]
    smooth_share = rates[3] if len(z) == 1 else rates[5]
    smooth = state[at.SMOOTH] + smooth_share * (_over_channels(z) - state[at.SMOOTH])
    severity = _in_past_sizes(state, smooth, policy)
    told = severity
    if learns:
        state[at.SMOOTH] += smooth_share * (_over_channels(calm) - state[at.SMOOTH])
        told = _in_past_sizes(state, state[at.SMOOTH], policy)
        _take_peak(state, policy)
        _take_usual(state, rates)
    per_point[0, i] = per_point[1, i] = per_point[2, i] = per_point[3, i] = 0.0
    if learning:
        return
    score = share_below(state, severity)
    if learns:
        take_tally(state, told, rates[4])
    per_point[0, i] = severity
    per_point[2, i] = score
    per_point[3, i] = (1.0 - policy[at.LEARNING_POINTS] / state[at.COUNT]) * usable / len(z)
    squares = 0.0
    for c in range(len(z)):
        squares += max(z[c], 0.0) ** 2
    for c in range(len(z)):
        shares[c] = max(z[c], 0.0) ** 2 / squares if squares > 0.0 and severity > 0.0 else 0.0
    if score < policy[at.USUAL]:
        state[at.ONSET_MS] = -1.0
    elif score >= policy[at.UNUSUAL] and state[at.ONSET_MS] < 0.0:
        state[at.ONSET_MS] = state[at.LAST_MS]


@part
def _in_past_sizes(state: Floats, severity: float, policy: Floats) -> float:
    """Divided by powers of what past hours peaked at and of the 95 % quantile."""
    if state[at.PEAK_MEAN] > 0.0:
        severity /= state[at.PEAK_MEAN] ** policy[at.PEAK_POWER]
    return float(severity / math.exp(policy[at.USUAL_POWER] * state[at.LOG_USUAL]))


@part
def _over_channels(z: Floats) -> float:
    """Mean of the TOP highest; what is below 0 does not count."""
    if len(z) == 1:
        return float(max(z[0], 0.0))
    total, taken = 0.0, 0
    highest = np.sort(z)[::-1]
    for c in range(min(TOP, len(z))):
        if highest[c] >= 0.0:
            total, taken = total + highest[c], taken + 1
    return total / taken if taken > 0 else 0.0


@part
def _take_usual(state: Floats, rates: Floats) -> None:
    """Move the 95 % quantile: up by 19 steps where it is exceeded, else down by one (Robbins and Monro 1951)."""
    step = 0.2 * max(10.0 * rates[1], min(0.25, 1.0 / state[at.COUNT]))
    if state[at.SMOOTH] > math.exp(state[at.LOG_USUAL]):
        state[at.LOG_USUAL] = min(state[at.LOG_USUAL] + 19.0 * step, 5.0)
    else:
        state[at.LOG_USUAL] = max(state[at.LOG_USUAL] - step, -3.0)


@part
def _take_peak(state: Floats, policy: Floats) -> None:
    """Keep the hour's highest severity; at its end it moves the mean of past hours' peaks."""
    hour = float(int(state[at.LAST_MS]) // HOUR_MS)
    if hour != state[at.HOUR]:
        if state[at.HOUR_PEAK] > 0.0:
            state[at.PEAK_COUNT] += 1.0
            share = max(1.0 / state[at.PEAK_COUNT], 1.0 / policy[at.PEAK_HOURS])
            state[at.PEAK_MEAN] += share * (state[at.HOUR_PEAK] - state[at.PEAK_MEAN])
        state[at.HOUR] = hour
        state[at.HOUR_PEAK] = 0.0
    state[at.HOUR_PEAK] = max(state[at.HOUR_PEAK], min(state[at.SMOOTH], PEAK_MAX))
