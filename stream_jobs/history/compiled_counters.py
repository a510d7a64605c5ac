"""The compiled loop of `counters`: what the counters of one series grow by in a second, row after row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors import clock as clock_rule
from stream_jobs.detectors import compiled_scaling
from stream_jobs.detectors.clock import LAST_MS
from stream_jobs.detectors.compiled import compiled, part, stamp_of
from stream_jobs.detectors.compiled_scaling import CLOCK_NUMBERS, INTERVAL_MS, evidence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_passed_ms = part(clock_rule.passed_ms)


def new_clock() -> Floats:
    """The clock of a series of which no row was read."""
    clock = np.zeros(CLOCK_NUMBERS)
    clock[LAST_MS] = -np.inf
    return clock


@part
def _believed(clock: Floats, when: float, last_values: Floats) -> bool:
    """Take in a row's time; after a jump of the clock no increase is known."""
    before = clock[LAST_MS]
    if before == -np.inf:
        clock[LAST_MS] = when
        return True
    passed = _passed_ms(clock, clock[INTERVAL_MS], when)
    if not passed > 0.0:
        return False
    if passed != when - before:
        last_values[:] = np.nan
    evidence(clock, passed)
    return True


def _entry(stamp: int) -> Callable[..., None]:
    """The loop, with the stamp of its parts' sources in it: numba keeps machine code by what a function closes over."""

    def increases_of(
        time_ms: Floats, values: Floats, columns: Ints, clock: Floats, last_values: Floats, last_ms: Floats, falls: Ints
    ) -> None:
        """Put increases a second in the place of the counters in `values` (n, metrics); the state is changed in place.

        `last_values`, `last_ms` and `falls` are parallel to `columns`, the numbers of the counters among the metrics.
        """
        if not stamp:
            return
        for i in range(len(time_ms)):
            is_there = False
            for j in range(values.shape[1]):
                if np.isfinite(values[i, j]):
                    is_there = True
            believed = is_there and np.isfinite(time_ms[i]) and _believed(clock, time_ms[i], last_values)
            for k in range(len(columns)):
                value, increase = values[i, columns[k]], np.nan
                if believed and np.isfinite(value):
                    if value < last_values[k]:
                        falls[k] += 1
                    elif np.isfinite(last_values[k]):
                        increase = (value - last_values[k]) / ((time_ms[i] - last_ms[k]) / 1000.0)
                    last_values[k], last_ms[k] = value, time_ms[i]
                values[i, columns[k]] = increase

    return increases_of


increases_of = compiled(_entry(stamp_of(clock_rule, compiled_scaling)))
