"""How often a quiet fleet would be called on: alarms over a day of an unlabelled GPU service, by series and week.

Nobody labelled that day, so every alarm counts as false: the figure is an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.choice import Make
from benchmarks.detection.event_f1 import COOL_DOWN
from benchmarks.detection.event_sweep import alarms_of
from stream_jobs.detectors.base import Floats, Scores

FILE = "genai_serving.parquet"
POINTS_MIN = 300
"""Shorter series say little about a week: at their usual pace of a minute these are five hours."""
WEEK_MS = 7 * 86_400_000

Rule = Callable[[Scores], NDArray[np.bool_]]
"""Which points are alarms, before the cool-down."""


def above(threshold: float) -> Rule:
    """One threshold of severity for every series; nothing is said while a detector has learnt nothing."""
    return lambda scores: (scores.severity >= threshold) & (scores.confidence > 0.0)


def quiet_figures(make: Make, folder: Path, rule: Rule) -> dict[str, Any]:
    """`quiet_false_alarms_per_series_week` and what it was counted over. `folder` is that of the traces."""
    series = alarms = loud = 0
    weeks = 0.0
    for time_ms, values in gpu_series(folder):
        scores = make(1).run(time_ms, values)
        places = np.flatnonzero(rule(scores))
        count = int(alarms_of(places, COOL_DOWN).sum())
        series, alarms, loud = series + 1, alarms + count, loud + (count > 0)
        weeks += (int(time_ms[-1]) - int(time_ms[0])) / WEEK_MS
    return {
        "quiet_false_alarms_per_series_week": alarms / weeks,
        "quiet_series": series,
        "quiet_series_with_an_alarm": loud,
        "quiet_alarms": alarms,
        "quiet_series_weeks": weeks,
    }


def gpu_series(folder: Path) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """Each metric of each container with enough points: times (n,) and values (n, 1), in order of time."""
    from pyarrow import parquet

    table = parquet.read_table(folder / FILE)
    metric, container = (_codes(table[name]) for name in ("metric", "container_ip"))
    time_ms = np.round(table["ts"].to_numpy() * 1_000).astype(np.int64)
    order = np.lexsort((time_ms, container, metric))
    key = (metric * (int(container.max()) + 2) + container)[order]
    edges = [0, *(np.flatnonzero(key[1:] != key[:-1]) + 1), len(key)]
    values = table["value"].to_numpy()
    for begin, end in pairwise(edges):
        at = order[begin:end]
        if end - begin >= POINTS_MIN and time_ms[at[-1]] > time_ms[at[0]]:
            yield time_ms[at], values[at].astype(np.float64).reshape(-1, 1)


def _codes(column: Any) -> NDArray[np.int64]:
    """The number of each row's word; -1 where there is none."""
    codes = column.combine_chunks().indices.fill_null(-1)
    return codes.to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]
