"""A new model version's first state of `two_heads`: its own levels, with the sizes usual for the version before.

A deployment is no anomaly, and what a real regression is worth is known from its first minutes on.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors import two_heads_layout as at
from stream_jobs.detectors.base import Floats
from stream_jobs.detectors.two_heads import DEFAULT, TwoHeadsPolicy, run_many

FIRST_MIN = 12
"""Values of the new version that its level is the median of: two minutes of windows of ten seconds. They are judged
as those of any new series."""
WIDER_MAX = 20.0
"""The new version's values may vary so many times as much as the old one's and still borrow."""
WIDER_MIN = 1.5
UNSURE = 2.5
"""The range seen is wider by so many deviations over the root of the first values: twice a median's standard error."""
HOUR_MS = 3_600_000
_LEVELS = (at.PREVIOUS, at.BEFORE, at.FAST, at.MIDDLE, at.SLOW, at.LEVEL, at.MEAN)
_SQUARES = (at.VARIANCE, at.STEP_SQUARE, *range(at.SQUARE, at.SQUARE + at.RESIDUALS))
_OF_VALUES = (0, 5)
"""Rarity features that are values; the others but the last are differences of values."""
_OF_SHARES = at.FEATURES - 1
_OFF_LEVELS = (0, 1, 4, 5)
"""Those that a wrong level would make rare."""
_MAD = 1.4826


def borrowed(old: Floats, time_ms: NDArray[np.int64], first: Floats, policy: TwoHeadsPolicy = DEFAULT) -> Floats | None:
    """The state of a new version from the one of its predecessor and the new one's `first` values, (n, channels).

    It is the old state moved from the old level to the median of the first values, which it then learns. Where those
    vary more than the old ones did, it is widened by as much; never narrowed. `time_ms`, (n,), rises. `old` is not
    changed. None: there is nothing to borrow, because the old one is learning itself or a channel has too few values;
    then the new version begins from nothing. Raises ValueError where shapes do not fit or values are missing.
    """
    if first.ndim != 2 or len(first) != len(time_ms) or old.shape != (at.width(first.shape[1]),):
        raise ValueError(f"borrowed: {old.shape} numbers of state, {len(time_ms)} times, {first.shape} values")
    if len(first) < FIRST_MIN or not np.isfinite(first).all() or (np.diff(time_ms) <= 0).any():
        raise ValueError(f"borrowed: {len(first)} values, {FIRST_MIN} or more are needed, finite and in order")
    channels = old[at.SERIES :].reshape(-1, at.CHANNEL)
    if old[at.COUNT] <= policy.learning_points or (channels[:, at.SEEN] <= at.FIRST).any():
        return None
    new = old.copy()
    new[: at.CLOCK] = 0.0
    new[at.LAST_MS] = float(time_ms[0]) - max(1.0, old[at.USUAL_MS])
    new[at.HOUR], new[at.HOUR_PEAK] = float(int(time_ms[0]) // HOUR_MS), 0.0
    calm = min(old[at.SMOOTH], math.exp(old[at.LOG_USUAL]))
    new[at.SMOOTH] = calm
    for channel, values in zip(new[at.SERIES :].reshape(-1, at.CHANNEL), first.T, strict=True):
        _move(channel, values)
    run_many(new.reshape(1, -1), np.zeros(len(first), dtype=np.int64), time_ms, first, policy)
    # Whatever the first values looked like, and whatever ended just before them, is no news.
    new[at.SMOOTH], new[at.HOUR_PEAK] = min(new[at.SMOOTH], calm), min(new[at.HOUR_PEAK], calm)
    new[at.ONSET_MS], new[at.SINCE_ALARM] = -1.0, policy.cool_points
    return new


def _move(channel: Floats, values: Floats) -> None:
    """Put the channel at the values' level, as wide as the wider of the two."""
    level, before = float(np.median(values)), float(channel[at.SLOW])
    spread = _MAD * float(np.median(np.abs(values - level)))
    usual = math.sqrt(channel[at.VARIANCE])
    # So few values say how wide they are within a third: only what is clearly wider is.
    wider = min(max(1.0, spread / (WIDER_MIN * usual)), WIDER_MAX) if usual > 0.0 else 1.0
    unsure = UNSURE * wider * usual / math.sqrt(len(values))
    channel[list(_SQUARES)] *= wider * wider
    channel[at.HELD] *= wider
    channel[at.ABSURD] = 0.0
    channel[list(_LEVELS)] = level
    channel[at.LATEST : at.LATEST + at.LATESTS] = level
    channel[at.TREND] = 0.0
    for feature in range(at.FEATURES):
        if feature == _OF_SHARES:
            continue
        for side, sign in ((0, 1.0), (1, -1.0)):
            start = at.EXTREME + (2 * feature + side) * at.SIDE
            extremes = channel[start : start + 1 + at.KEPT]
            if feature in _OF_VALUES:
                extremes[:] = sign * level + wider * (extremes - sign * before)
            else:
                extremes *= wider
            if feature in _OFF_LEVELS:
                extremes += unsure
