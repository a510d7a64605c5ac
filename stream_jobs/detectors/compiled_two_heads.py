"""The compiled loop of the two heads: for each point its row of state is read, the point scored, and then learnt."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors import clock, compiled_rarity, compiled_severity, compiled_tally
from stream_jobs.detectors import two_heads_layout as at
from stream_jobs.detectors.compiled import compiled, part, stamp_of
from stream_jobs.detectors.compiled_rarity import cooled, rarity
from stream_jobs.detectors.compiled_severity import finish

Floats = NDArray[np.float64]

USABLE_MAX = 1.7976931348623157e308
"""The largest finite number."""
HUGE = 1e150
"""Larger values count as this one: their squares are still finite."""
Z_MAX = 1e4
"""A residual is at most so many scales: all of them say the same."""
Z_NEW = 100.0
"""What the first move of a channel counts that was constant."""
UNREAL = 1e30
"""A larger value is no measurement: it is scored and never learnt."""
REPEATS = 2.0
"""Absurd values, counted with the memory of the slow mean: more of them are learnt."""
ROUNDING = 1e-12
"""A deviation of this share of the level is the arithmetic's own."""
TIME_MS_MAX = 1 << 53
"""Further from 1970 is no time: the state holds times as float64."""


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
def _is_held(channel: Floats, value: float, policy: Floats, rates: Floats) -> bool:
    """Whether the value is absurd, and none of many of late: then it is scored and not learnt."""
    channel[at.ABSURD] -= rates[1] * channel[at.ABSURD]
    if abs(value) > UNREAL:
        return True
    limit = policy[at.ABSURD_DEVIATIONS] * math.sqrt(channel[at.VARIANCE])
    if limit == 0.0 or abs(value - channel[at.MEAN]) <= limit:
        return False
    channel[at.ABSURD] += 1.0
    return bool(channel[at.ABSURD] <= REPEATS)


@part
def _score_channel(channel: Floats, value: float, policy: Floats, rates: Floats) -> tuple[float, float, bool]:
    """Root mean square of the value's residuals in their usual sizes, its rarity, and whether it was learnt.

    The first is -1 while the channel has hardly begun.
    """
    held = _is_held(channel, value, policy, rates)
    if channel[at.SEEN] < at.FIRST:
        if held:
            return -1.0, 0.0, False
        channel[at.EXTREME + int(channel[at.SEEN])] = value
        channel[at.SEEN] += 1.0
        if channel[at.SEEN] == at.FIRST:
            _begin(channel, policy, rates)
        return -1.0, 0.0, True
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
        if not held:
            kept = min(max(residual, -limit), limit)
            channel[at.SQUARE + k] += scale_share * (kept * kept - channel[at.SQUARE + k])
    rare = rarity(channel, value, policy, not held)
    if not held:
        _learn(channel, _capped(channel, value, limit, noise), policy, rates, scale_share, young)
    return math.sqrt(total / sum(at.WEIGHTS)), rare, not held


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
        z, calm = np.zeros(channels), np.zeros(channels)
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
            alarm, alarms, held, learnt = 0.0, 0, 0, 0
            for c in range(channels):
                z[c] = calm[c] = -1.0
                if abs(values[i, c]) <= USABLE_MAX:
                    channel = state[at.SERIES + c * at.CHANNEL : at.SERIES + (c + 1) * at.CHANNEL]
                    value = min(max(values[i, c], -HUGE), HUGE)
                    _forecast(channel, policy, per_channel[:, i, c])
                    z[c], rare, learns = _score_channel(channel, value, policy, rates)
                    if z[c] >= 0.0:
                        alarm, alarms = alarm + rare * rare, alarms + 1
                    if learns:
                        calm[c], learnt = z[c], learnt + 1
                    else:
                        held += 1
            learns = held == 0 or learnt > 0
            finish(state, z, calm, learns, usable, policy, rates, i, per_point, per_channel[3, i])
            if state[at.COUNT] > policy[at.ALARM_LEARNING_POINTS] and alarms > 0:
                per_point[1, i] = cooled(state, math.sqrt(alarm / alarms), policy)
            onset_ms[i] = int(state[at.ONSET_MS])

    return score_then_learn


score_then_learn = compiled(_entry(stamp_of(at, clock, compiled_rarity, compiled_severity, compiled_tally)))
