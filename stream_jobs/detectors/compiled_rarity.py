"""How rare a value is: few past blocks of points had an extreme that reached it, in any of several features."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors import two_heads_layout as at
from stream_jobs.detectors.compiled import part

Floats = NDArray[np.float64]

EXCESS_MAX = 10.0


@part
def rarity(channel: Floats, value: float, policy: Floats, learn: bool) -> float:
    """Root mean square over features of the rarer side's 1 / (1 + past blocks that reached it); may take the value in.

    Above 1 where a feature is outside the range it had, by the logarithm of how many ranges.
    """
    if learn and (channel[at.SEEN] - at.FIRST) % policy[at.BLOCK_POINTS] == 0.0 and channel[at.SEEN] > at.FIRST:
        _close_block(channel, policy[at.BLOCK_DECAY])
    total = 0.0
    for k in range(at.FEATURES):
        if k == 0:
            feature = value
        elif k == 1:
            feature = value - channel[at.MIDDLE]
        elif k == 2:
            feature = value - (channel[at.LEVEL] + channel[at.TREND])
        elif k == 3:
            feature = value - 2.0 * channel[at.PREVIOUS] + channel[at.BEFORE]
        elif k == 4:
            feature = channel[at.MIDDLE] - channel[at.SLOW]
        elif k == 5:
            feature = _median_with(channel, value)
        else:
            feature = _spikes_with(channel, value, policy)
        high = at.EXTREME + 2 * k * at.SIDE
        low = high + at.SIDE
        extent = max(0.0, channel[high + 1] + channel[low + 1])
        if learn:
            channel[high], channel[low] = max(channel[high], feature), max(channel[low], -feature)
        rarer = max(
            _side(channel[high : high + at.SIDE], feature, extent, policy),
            _side(channel[low : low + at.SIDE], -feature, extent, policy),
        )
        total += at.RARITY_WEIGHTS[k] * rarer * rarer
    return math.sqrt(total / sum(at.RARITY_WEIGHTS))


@part
def _median_with(channel: Floats, value: float) -> float:
    """Median of the last values, this one in the place of the oldest."""
    latest = channel[at.LATEST : at.LATEST + at.LATESTS].copy()
    latest[int(channel[at.SEEN]) % at.LATESTS] = value
    # Insertion sort: for eleven numbers it is faster than a call.
    for i in range(1, at.LATESTS):
        one, k = latest[i], i
        while k > 0 and latest[k - 1] > one:
            latest[k] = latest[k - 1]
            k -= 1
        latest[k] = one
    return float(latest[at.LATESTS // 2])


@part
def _spikes_with(channel: Floats, value: float, policy: Floats) -> float:
    """The share of spikes among recent differences, this value's counted in."""
    limit = policy[at.SPIKE_SIZE] * math.sqrt(channel[at.STEP_SQUARE])
    spike = 1.0 if abs(value - channel[at.PREVIOUS]) > limit else 0.0
    return float(channel[at.SPIKES] + policy[at.SPIKE_SHARE] * (spike - channel[at.SPIKES]))


@part
def _side(side: Floats, feature: float, extent: float, policy: Floats) -> float:
    """Rarity on one side. What is beyond a past extreme by less than a margin has been reached before."""
    reached = policy[at.UNSEEN]
    feature -= policy[at.MARGIN] * extent
    for k in range(1, 1 + at.KEPT):
        if side[k] < feature:
            break
        reached += side[k + at.KEPT]
    if side[1] > -np.inf and feature > side[1]:
        beyond = math.log1p((feature - side[1]) / extent) if extent > 0.0 else 1.0
        return float(1.0 + policy[at.EXCESS] * min(beyond, EXCESS_MAX))
    return float(1.0 / (1.0 + reached))


@part
def _close_block(channel: Floats, decay: float) -> None:
    """Put each side's extreme in its place among the kept ones; the lowest of them answers for all that are lower."""
    for start in range(at.EXTREME, at.EXTREME + at.FEATURES * 2 * at.SIDE, at.SIDE):
        side = channel[start : start + at.SIDE]
        extreme, last = side[0], at.KEPT
        for k in range(1 + at.KEPT, at.SIDE):
            side[k] *= decay
        lower = side[last + at.KEPT]
        if extreme <= side[last]:
            side[last + at.KEPT] += 1.0
        else:
            k = last
            while k > 1 and extreme > side[k - 1]:
                side[k], side[k + at.KEPT] = side[k - 1], side[k + at.KEPT - 1]
                k -= 1
            side[k], side[k + at.KEPT] = extreme, 1.0
            side[last + at.KEPT] += lower
        side[0] = -np.inf


@part
def cooled(state: Floats, rare: float, policy: Floats) -> float:
    """The alarm: what is rare enough to call somebody does so once in COOL_POINTS, the rest of them stay below."""
    state[at.SINCE_ALARM] += 1.0
    if rare < policy[at.RARE]:
        return rare
    if state[at.SINCE_ALARM] >= policy[at.COOL_POINTS]:
        state[at.SINCE_ALARM] = 0.0
        return rare
    return float(0.5 * policy[at.RARE] * rare / (1.0 + rare))
