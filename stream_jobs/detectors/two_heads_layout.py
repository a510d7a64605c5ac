"""Where each number of a series' state lies: a row of float64 a series, first the series' own, then each channel's."""

from __future__ import annotations

# The series.
LAST_MS, COUNT, USUAL_MS = 0, 1, 2
"""Time of the last point learnt, points learnt, the usual interval between them."""
JUMP_MS, JUMP_COUNT = 3, 4
"""A clock that jumped: its last time, and how many points in a row have followed it."""
SMOOTH = 5
"""The severity before it is divided by past peaks, smoothed."""
HOUR, HOUR_PEAK, PEAK_MEAN, PEAK_COUNT = 6, 7, 8, 9
"""Number of the current hour and its highest severity so far; decayed mean of past hours' and how many there were."""
ONSET_MS = 10
"""Start of the run of unusual points that goes on; -1: none."""
SINCE_ALARM = 11
"""Points since the last alarm."""
TALLY, TALLIES, TALLY_WEIGHT = 12, 32, 44
"""A histogram of log severity with decayed counts, and the weight of the next count."""
SERIES = 45

# A channel, from its first number on.
SEEN = 0
"""Usable values learnt."""
PREVIOUS, FAST, MIDDLE, SLOW = 1, 2, 3, 4
"""The last value, and moving means of it by how fast they move."""
LEVEL, TREND = 5, 6
"""Holt's."""
CHANGE, CHANGE_SLOW = 7, 8
"""Moving means of the absolute difference."""
MEAN, VARIANCE = 9, 10
"""Of the value, with the long memory."""
HELD = 11
"""The first deviation ever of a channel that was constant."""
SPREAD = 12
"""Moving mean square of the deviation from the middle mean."""
SQUARE, RESIDUALS = 13, 6
"""Long-memory mean square of each residual."""
EXTREME, FEATURES, KEPT = 19, 6, 3
"""For each rarity feature and side: the current block's extreme, then the highest kept ones and their weights."""
SIDE = 1 + 2 * KEPT
CHANNEL = EXTREME + FEATURES * 2 * SIDE

FIRST = 5
"""So many first values of a channel are held in the place of the extremes until their median is known."""


def width(channels: int) -> int:
    """Numbers in the state of a series."""
    return SERIES + channels * CHANNEL


# The policy as a row of float64, in the order of `TwoHeadsPolicy`'s fields.
(
    FAST_SHARE, MIDDLE_SHARE, HOLT_LEVEL, HOLT_TREND, CHANGE_SHARE, SPREAD_SHARE, SLOW_S, SCALE_S, SMOOTH_S,
    SMOOTH_MANY_S, FLOOR, CAP, PEAK_POWER, PEAK_HOURS, GAP_INTERVALS, LEARNING_POINTS, BLOCK_POINTS, BLOCK_DECAY,
    EXCESS, RARE, COOL_POINTS, TALLY_S, UNUSUAL, USUAL, BAND,
) = range(25)  # fmt: skip
