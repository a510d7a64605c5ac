"""The compiled loop of the two heads: for each point its row of state is read, the point scored, and then learnt."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors import clock, compiled_rarity, compiled_tally
from stream_jobs.detectors import two_heads_layout as at
from stream_jobs.detectors.compiled import compiled, part, stamp_of
from stream_jobs.detectors.compiled_rarity import cooled, rarity
from stream_jobs.detectors.compiled_tally import share_below, take_tally

Floats = NDArray[np.float64]

USABLE_MAX = 1.7976931348623157e308
"""The largest finite number."""
HUGE = 1e150
"""Larger values count as this one: their squares are still finite."""
Z_MAX = 1e4
"""A residual is at most so many scales: all of them say the same."""
Z_NEW = 100.0
"""What the first move of a channel counts that was constant."""
PEAK_MAX = 100.0
"""A higher peak of an hour counts as this one: it is not to hide what comes after."""
ROUNDING = 1e-12
"""A deviation of this share of the level is the arithmetic's own."""
TIME_MS_MAX = 1 << 53
"""Further from 1970 is no time: the state holds times as float64."""
HOUR_MS = 3_600_000
TOP = 5
"""A service's severity is the mean of so many of its channels, the worst."""


_passed_ms = part(clock.passed_ms)


@part
def _tick(state: Floats, time_ms: int, policy: Floats, rates: Floats) -> bool:
    """Whether the time is believed; then the point is counted, and so is its interval.

    `rates` gets the interval in seconds, as far as it is evidence, and the shares by which clocks move.
    """
    count, step = state[at.COUNT], 0.0
    if count == 0.0:
        state[at.LAST_MS] = time_ms
    else:
        step = _passed_ms(state[: at.CLOCK], state[at.USUAL_MS], float(time_ms))
        if step <= 0.0:
            return False
    if count == 1.0:
        state[at.USUAL_MS] = step
    elif step > state[at.USUAL_MS]:
        state[at.USUAL_MS] *= 1.0 + min(0.1, 1.0 / count)
    elif step < state[at.USUAL_MS]:
        state[at.USUAL_MS] /= 1.0 + min(0.1, 1.0 / count)
    seconds = min(step, policy[at.GAP_INTERVALS] * state[at.USUAL_MS]) / 1000.0
    if seconds != rates[0]:
        rates[0] = seconds
        rates[1] = -math.expm1(-seconds / policy[at.SLOW_S])
        rates[2] = -math.expm1(-seconds / policy[at.SCALE_S])
        rates[3] = -math.expm1(-seconds / policy[at.SMOOTH_S])
        rates[4] = math.exp(min(1.0, seconds / policy[at.TALLY_S]))
        rates[5] = -math.expm1(-seconds / policy[at.SMOOTH_MANY_S])
    state[at.COUNT] = count + 1.0
    return True


@part
def _forecast(channel: Floats, policy: Floats, out: Floats) -> None:
    """The value to come and the band around it, from Holt's level and trend and the size of its past errors."""
    if channel[at.SEEN] >= at.FIRST:
        half = policy[at.BAND] * math.sqrt(
            max(channel[at.SQUARE + at.HOLT], policy[at.FLOOR] ** 2 * channel[at.VARIANCE])
        )
        out[0] = channel[at.LEVEL] + channel[at.TREND]
        out[1] = out[0] - half
        out[2] = out[0] + half


@part
def _score_channel(channel: Floats, value: float, policy: Floats, rates: Floats) -> tuple[float, float]:
    """Root mean square of the value's residuals in their usual sizes, and its rarity; -1 while it has hardly begun."""
    if channel[at.SEEN] < at.FIRST:
        channel[at.EXTREME + int(channel[at.SEEN])] = value
        channel[at.SEEN] += 1.0
        if channel[at.SEEN] == at.FIRST:
            _begin(channel, policy, rates)
        return -1.0, 0.0
    young = 1.0 / (channel[at.SEEN] + 1.0)
    scale_share = max(rates[2], young)
    deviation = math.sqrt(channel[at.VARIANCE])
    limit = policy[at.CAP] * deviation
    floor = policy[at.FLOOR] ** 2 * channel[at.VARIANCE]
    noise = ROUNDING * abs(channel[at.MEAN])
    total = 0.0
    for k in range(at.RESIDUALS):
        if k == 0:
            residual = value - channel[at.FAST]
        elif k == 1:
            residual = value - channel[at.MIDDLE]
        elif k == at.HOLT:
            residual = value - (channel[at.LEVEL] + channel[at.TREND])
        elif k == 3:
            residual = value - channel[at.SLOW]
        else:
            residual = value - channel[at.BEFORE]
        if abs(residual) <= noise:
            residual = 0.0
        scale = math.sqrt(max(channel[at.SQUARE + k], floor))
        if residual != 0.0:
            ratio = min(abs(residual) / scale, Z_MAX) if scale > 0.0 else Z_NEW
            total += at.WEIGHTS[k] * ratio * ratio
        kept = min(max(residual, -limit), limit)
        channel[at.SQUARE + k] += scale_share * (kept * kept - channel[at.SQUARE + k])
    rare = rarity(channel, value, policy)
    _learn(channel, _capped(channel, value, limit, noise), policy, rates, scale_share, young)
    return math.sqrt(total / sum(at.WEIGHTS)), rare


@part
def _capped(channel: Floats, value: float, limit: float, noise: float) -> float:
    """The value as it is learnt: within `limit` of the mean; the first move of a constant channel is not learnt."""
    mean = channel[at.MEAN]
    if limit > 0.0:
        return float(min(max(value, mean - limit), mean + limit))
    off = value - mean
    if abs(off) <= noise:
        return value
    if channel[at.HELD] == 0.0:
        channel[at.HELD] = abs(off)
        return float(mean)
    return float(mean + math.copysign(min(abs(off), channel[at.HELD]), off))


@part
def _begin(channel: Floats, policy: Floats, rates: Floats) -> None:
    """Start from the first values, held around their median: one wild value at the start does not set the scale."""
    first = channel[at.EXTREME : at.EXTREME + at.FIRST].copy()
    channel[at.EXTREME :] = -np.inf
    for slot in range(at.EXTREME, len(channel), at.SIDE):
        channel[slot + 1 + at.KEPT : slot + at.SIDE] = 0.0
    median = np.sort(first)[at.FIRST // 2]
    limit = 10.0 * np.sort(np.abs(first - median))[at.FIRST // 2]
    for k in range(at.FIRST):
        value = min(max(first[k], median - limit), median + limit)
        if k == 0:
            for slot in (at.BEFORE, at.PREVIOUS, at.FAST, at.MIDDLE, at.SLOW, at.LEVEL, at.MEAN):
                channel[slot] = value
            channel[at.LATEST : at.LATEST + at.LATESTS] = value
        residuals = value - channel[at.PREVIOUS]
        share = 1.0 / (k + 1.0)
        for slot in range(at.SQUARE, at.SQUARE + at.RESIDUALS):
            channel[slot] += share * (residuals * residuals - channel[slot])
        _learn(channel, value, policy, rates, share, share)
    channel[at.SEEN] = at.FIRST
    channel[at.SPIKES] = 0.0


@part
def _learn(channel: Floats, value: float, policy: Floats, rates: Floats, scale_share: float, young: float) -> None:
    """Move every mean of the channel towards the value."""
    slow_share = max(rates[1], young)
    step = value - channel[at.PREVIOUS]
    spike = 1.0 if abs(step) > policy[at.SPIKE_SIZE] * math.sqrt(channel[at.STEP_SQUARE]) else 0.0
    channel[at.SPIKES] += policy[at.SPIKE_SHARE] * (spike - channel[at.SPIKES])
    channel[at.STEP_SQUARE] += scale_share * (step * step - channel[at.STEP_SQUARE])
    channel[at.LATEST + int(channel[at.SEEN]) % at.LATESTS] = value
    channel[at.BEFORE] = channel[at.PREVIOUS]
    channel[at.PREVIOUS] = value
    channel[at.FAST] += policy[at.FAST_SHARE] * (value - channel[at.FAST])
    channel[at.MIDDLE] += policy[at.MIDDLE_SHARE] * (value - channel[at.MIDDLE])
    channel[at.SLOW] += slow_share * (value - channel[at.SLOW])
    before = channel[at.LEVEL]
    forecast = before + channel[at.TREND]
    channel[at.LEVEL] = forecast + policy[at.HOLT_LEVEL] * (value - forecast)
    channel[at.TREND] += policy[at.HOLT_TREND] * (channel[at.LEVEL] - before - channel[at.TREND])
    off = value - channel[at.MEAN]
    channel[at.MEAN] += scale_share * off
    channel[at.VARIANCE] += scale_share * ((1.0 - scale_share) * off * off - channel[at.VARIANCE])
    channel[at.SEEN] += 1.0


@part
def _finish(
    state: Floats, z: Floats, usable: int, policy: Floats, rates: Floats, i: int, per_point: Floats, shares: Floats
) -> None:
    """Severity, score, confidence, contributions and onset of point i from its channels' z; -1 in z: nothing said."""
    learning = state[at.COUNT] <= policy[at.LEARNING_POINTS]
    raw = _over_channels(z)
    smooth_share = rates[3] if len(z) == 1 else rates[5]
    state[at.SMOOTH] += smooth_share * (raw - state[at.SMOOTH])
    severity = state[at.SMOOTH]
    if state[at.PEAK_MEAN] > 0.0:
        severity /= state[at.PEAK_MEAN] ** policy[at.PEAK_POWER]
    severity /= math.exp(policy[at.USUAL_POWER] * state[at.LOG_USUAL])
    _take_peak(state, policy)
    _take_usual(state, rates)
    per_point[0, i] = per_point[1, i] = per_point[2, i] = per_point[3, i] = 0.0
    if learning:
        return
    score = share_below(state, severity)
    take_tally(state, severity, rates[4])
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


def _entry(stamp: int) -> Callable[..., None]:
    """The loop, with the stamp of all sources in it: numba keeps machine code by what a function closes over."""

    def score_then_learn(
        states: Floats,
        rows: NDArray[np.int64],
        time_ms: NDArray[np.int64],
        values: Floats,
        policy: Floats,
        per_point: Floats,
        per_channel: Floats,
        onset_ms: NDArray[np.int64],
    ) -> None:
        """Score point i against the state in row `rows[i]`, then learn it there, for each i in turn.

        `values` is (n, c); `per_point` (4, n) takes severity, alarm, score and confidence, `per_channel` (4, n, c)
        expected, lower, upper and contribution. All come filled as for a point that is not usable.
        """
        if not stamp:
            return
        channels = values.shape[1]
        z = np.zeros(channels)
        rates = np.zeros(6)
        rates[0] = -1.0
        for i in range(len(rows)):
            state = states[rows[i]]
            usable = 0
            for c in range(channels):
                if abs(values[i, c]) <= USABLE_MAX:
                    usable += 1
            if usable == 0 or not abs(float(time_ms[i])) <= TIME_MS_MAX or not _tick(state, time_ms[i], policy, rates):
                continue
            alarm, alarms = 0.0, 0
            for c in range(channels):
                z[c] = -1.0
                if abs(values[i, c]) <= USABLE_MAX:
                    channel = state[at.SERIES + c * at.CHANNEL : at.SERIES + (c + 1) * at.CHANNEL]
                    value = min(max(values[i, c], -HUGE), HUGE)
                    _forecast(channel, policy, per_channel[:, i, c])
                    z[c], rare = _score_channel(channel, value, policy, rates)
                    if z[c] >= 0.0:
                        alarm, alarms = alarm + rare * rare, alarms + 1
            _finish(state, z, usable, policy, rates, i, per_point, per_channel[3, i])
            if state[at.COUNT] > policy[at.ALARM_LEARNING_POINTS] and alarms > 0:
                per_point[1, i] = cooled(state, math.sqrt(alarm / alarms), policy)
            onset_ms[i] = int(state[at.ONSET_MS])

    return score_then_learn


score_then_learn = compiled(_entry(stamp_of(at, clock, compiled_rarity, compiled_tally)))
