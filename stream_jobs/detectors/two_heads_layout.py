"""Where each number of a series' state lies: a row of float64 a series, first the series' own, then each channel's."""

from __future__ import annotations

LAYOUT = 2
"""Another one makes another digest, so that a state of before is known as such."""

# The series.
LAST_MS, CLOCK = 0, 5
"""Time of the last point learnt, and what else the clock's rule keeps: the first CLOCK numbers are its own."""
COUNT, USUAL_MS = 5, 6
"""Points learnt, the usual interval between them."""
SMOOTH = 7
"""The severity before it is divided by past peaks, smoothed."""
HOUR, HOUR_PEAK, PEAK_MEAN, PEAK_COUNT = 8, 9, 10, 11
"""Number of the current hour and its highest severity so far; decayed mean of past hours' and how many there were."""
ONSET_MS = 12
"""Start of the run of unusual points that goes on; -1: none."""
SINCE_ALARM = 13
"""Points since the last alarm."""
TALLY, TALLIES, TALLY_WEIGHT = 14, 32, 46
"""A histogram of log severity with decayed counts, and the weight of the next count."""
LOG_USUAL = 47
"""Logarithm of the 95 % quantile of past smoothed severities."""
SERIES = 48

# A channel, from its first number on.
SEEN = 0
"""Usable values learnt."""
PREVIOUS, BEFORE, FAST, MIDDLE, SLOW = 1, 2, 3, 4, 5
"""The last value, the last but one, and moving means by how fast they move."""
LEVEL, TREND = 6, 7
"""Holt's."""
MEAN, VARIANCE = 8, 9
"""Of the value, with the long memory."""
HELD = 10
"""The first deviation ever of a channel that was constant."""
STEP_SQUARE, SPIKES = 11, 12
"""Long-memory mean square of the difference, and the recent share of differences that are many times its root."""
SQUARE, RESIDUALS, HOLT = 13, 5, 2
"""Long-memory mean square of each residual: off the fast, middle, Holt's and slow mean, and off two points ago."""
WEIGHTS = (1.0, 0.5, 0.5, 0.5, 2.0)
"""Of the residuals. The one over two points sees a step and a spike alike and hardly any noise of a single point."""
LATEST, LATESTS = 18, 11
"""The last values, as a ring: their median is a level that a spike does not move."""
ABSURD = 29
"""How many absurd values there were of late, see `TwoHeadsPolicy`."""
EXTREME, FEATURES, KEPT = 30, 7, 3
"""For each rarity feature and side: the current block's extreme, then the highest kept ones and their weights."""
RARITY_WEIGHTS = (2.0, 0.5, 2.0, 1.0, 1.0, 2.0, 1.0)
"""Of the features: value, off the middle mean, off Holt's forecast, bend, middle off slow, median of 11, spikes."""
SIDE = 1 + 2 * KEPT
CHANNEL = EXTREME + FEATURES * 2 * SIDE

FIRST = 5
"""So many first values of a channel are held in the place of the extremes until their median is known."""


def width(channels: int) -> int:
    """Numbers in the state of a series."""
    return SERIES + channels * CHANNEL


# The policy as a row of float64, in the order of `TwoHeadsPolicy`'s fields.
(
    FAST_SHARE, MIDDLE_SHARE, HOLT_LEVEL, HOLT_TREND, SPIKE_SIZE, SPIKE_SHARE, SLOW_S, SCALE_S, SMOOTH_S,
    SMOOTH_MANY_S, FLOOR, CAP, PEAK_POWER, PEAK_HOURS, GAP_INTERVALS, LEARNING_POINTS, ALARM_LEARNING_POINTS,
    BLOCK_POINTS, BLOCK_DECAY, MARGIN, UNSEEN, EXCESS, RARE, COOL_POINTS, TALLY_S, UNUSUAL, USUAL, BAND, USUAL_POWER,
    ABSURD_DEVIATIONS,
) = range(30)  # fmt: skip
