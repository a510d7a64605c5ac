"""The compiled loops of `channel_scaling`: which points count, and what a usual value and a usual deviation are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors import clock as clock_rule
from stream_jobs.detectors.clock import LAST_MS
from stream_jobs.detectors.compiled import compiled, part, stamp_of

Floats = NDArray[np.float64]

FIRST = 16
"""Values that a channel starts from: their median stands half of them being wrong."""
COUNT, LEVEL, SQUARE, PEAK, LAST_Z, STEP_SQUARE, BUFFER = 0, 1, 2, 3, 4, 5, 6
CHANNEL_NUMBERS = BUFFER + FIRST
INTERVAL_MS, INTERVALS = clock_rule.NUMBERS, clock_rule.NUMBERS + 1
CLOCK_NUMBERS = clock_rule.NUMBERS + 2
"""Behind the rule's own numbers: the usual interval, and how many it is the mean of."""
TIME_MS_MAX = 8e15
"""Whole numbers up to here are exact as floats; the year 255,000."""
MEMORY_MS = 14 * 86_400_000.0
CLIP = 10.0
"""A value is learnt as at most so many usual deviations off."""
Z_MAX = 1e6
GAP_INTERVALS = 4.0
"""A longer pause counts as one of so many usual intervals: time without values is no evidence."""
INTERVALS_MAX = 100.0


_passed_ms = part(clock_rule.passed_ms)


@part
def evidence(clock: Floats, passed: float) -> float:
    """Learn the interval; what of it is evidence."""
    if clock[INTERVALS] > 0:
        passed = min(passed, GAP_INTERVALS * clock[INTERVAL_MS])
    clock[INTERVALS] = min(clock[INTERVALS] + 1.0, INTERVALS_MAX)
    clock[INTERVAL_MS] += (passed - clock[INTERVAL_MS]) / clock[INTERVALS]
    return float(passed)


def _entry(stamp: int) -> Callable[..., None]:
    """The loop, with the stamp of the rule's source in it: numba keeps machine code by what a function closes over."""

    def usable_points(
        time_ms: NDArray[np.int64], values: Floats, clock: Floats, keep: NDArray[np.bool_], elapsed_ms: Floats
    ) -> None:
        """Mark the points with a usable value and a time that is believed; their times are taken in.

        `elapsed_ms` gets the time since the point before, as far as it is evidence.
        """
        if not stamp:
            return
        for i in range(len(time_ms)):
            when = float(time_ms[i])
            keep[i] = False
            if not abs(when) < TIME_MS_MAX:
                continue
            for j in range(values.shape[1]):
                if np.isfinite(values[i, j]):
                    keep[i] = True
            if not keep[i]:
                continue
            if clock[LAST_MS] == -np.inf:
                clock[LAST_MS], elapsed_ms[i] = when, 0.0
                continue
            passed = _passed_ms(clock, clock[INTERVAL_MS], when)
            keep[i] = passed > 0.0
            if keep[i]:
                elapsed_ms[i] = evidence(clock, passed)

    return usable_points


usable_points = compiled(_entry(stamp_of(clock_rule)))


@compiled
def scale(
    values: Floats,
    channels: Floats,
    elapsed_ms: Floats,
    z: Floats,
    step: Floats,
    learnt: Floats,
    spread: Floats,
    ready: NDArray[np.bool_],
    absurd: float,
    absurd_clip: float,
) -> None:
    """Scale usable points one by one and learn each before the next; changes `channels` in place.

    What is more than `absurd` deviations off is learnt as `absurd_clip`, unless there was another just before.
    """
    for i in range(len(values)):
        for j in range(values.shape[1]):
            value = values[i, j]
            if not np.isfinite(value):
                z[i, j], step[i, j], learnt[i, j], spread[i, j], ready[i, j] = 0.0, 0.0, np.nan, np.nan, False
                continue
            one = channels[j]
            if one[COUNT] < FIRST:
                z[i, j], step[i, j], learnt[i, j], spread[i, j], ready[i, j] = 0.0, 0.0, value, np.nan, False
                _start(one, value)
                continue
            ready[i, j] = True
            spread[i, j] = max(np.sqrt(one[SQUARE]), _tiny(one[LEVEL]))
            off = value - one[LEVEL]
            z[i, j] = min(max(off / spread[i, j], -Z_MAX), Z_MAX)
            step[i, j] = min(max((z[i, j] - one[LAST_Z]) / max(np.sqrt(one[STEP_SQUARE]), 0.01), -Z_MAX), Z_MAX)
            limit = max(CLIP * np.sqrt(one[SQUARE]), one[PEAK])
            is_absurd = abs(off) > absurd * spread[i, j] and one[PEAK] <= CLIP * np.sqrt(one[SQUARE])
            most = absurd_clip * np.sqrt(one[SQUARE]) if is_absurd else limit
            taken = min(max(off, -most), most)
            learnt[i, j] = one[LEVEL] + taken
            _learn(one, off, taken, limit, elapsed_ms[i], spread[i, j])


@compiled
def _tiny(level: float) -> float:
    """What counts as a deviation from values that never changed."""
    return 1e-9 * abs(level) + 1e-12


@compiled
def _start(one: Any, value: float) -> None:
    """Keep one of the first values; from the last of them on there is a level and a deviation."""
    one[BUFFER + int(one[COUNT])] = value
    one[COUNT] += 1.0
    if one[COUNT] < FIRST:
        return
    ordered = np.sort(one[BUFFER:])
    one[LEVEL] = ordered[(FIRST - 1) // 2]
    off = np.sort(np.abs(ordered - one[LEVEL]))
    usual = 1.4826 * off[(FIRST - 1) // 2]
    if usual == 0.0:  # most are equal: take the mean without the three that are furthest off
        usual = off[: FIRST - 3].mean()
    one[SQUARE], one[STEP_SQUARE] = usual * usual, 1.0
    one[BUFFER:] = 0.0


@compiled
def _learn(one: Any, off: float, taken: float, limit: float, elapsed_ms: float, spread: float) -> None:
    one[COUNT] += 1.0
    rate = max(1.0 / one[COUNT], elapsed_ms / (elapsed_ms + MEMORY_MS))
    one[SQUARE] += rate * (taken * taken - one[SQUARE])
    # One huge value raises the limit tenfold for a moment; values that stay huge are usual after a while.
    one[PEAK] = max(0.9 * one[PEAK], min(abs(off), 10.0 * max(limit, _tiny(one[LEVEL]))))
    one[LEVEL] += rate * taken
    now = min(max(taken / spread, -CLIP), CLIP)
    change = now - one[LAST_Z]
    one[STEP_SQUARE] += rate * (change * change - one[STEP_SQUARE])
    one[LAST_Z] = now
