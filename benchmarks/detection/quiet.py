"""How often a quiet fleet would be called on: alerts over a day of an unlabelled GPU service, by series and week.

Nobody labelled that day, so every alarm counts as false: the figure is an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.choice import Make
from benchmarks.detection.event_f1 import COOL_DOWN
from benchmarks.detection.event_sweep import alarms_of
from stream_jobs.alert_budget import DEFAULT_A_WEEK
from stream_jobs.detectors.base import Floats, Scores
from stream_jobs.detectors.own_past import OwnPast
from stream_jobs.history.candidates import Candidates, FirstWeek

FILE = "genai_serving.parquet"
POINTS_MIN = 300
"""Shorter series say little about a week: at their usual pace of a minute these are five hours."""
WEEK_MS = 7 * 86_400_000

Rule = Callable[[Scores], NDArray[np.bool_]]
"""Which points are alarms, before the cool-down."""


def above(threshold: float) -> Rule:
    """One threshold of severity for every series; nothing is said while a detector has learnt nothing."""
    return lambda scores: (scores.severity >= threshold) & (scores.confidence > 0.0)


def quiet_figures(make: Make, folder: Path, a_week: int = DEFAULT_A_WEEK, rule: Rule | None = None) -> dict[str, Any]:
    """`quiet_false_alarms_per_series_week` with that budget over all series, and what it was counted over.

    `folder` is that of the traces. With `rule` also what a threshold alone would raise, without any budget.
    """
    series = beyond = 0
    weeks, candidates = 0.0, Candidates()
    for time_ms, values in gpu_series(folder):
        scores = make(1).run(time_ms, values)
        candidates.take(series, FirstWeek(), time_ms, np.arange(len(time_ms)), _ranked(time_ms, scores))
        if rule is not None:
            beyond += int(alarms_of(np.flatnonzero(rule(scores)), COOL_DOWN).sum())
        series += 1
        weeks += (int(time_ms[-1]) - int(time_ms[0])) / WEEK_MS
    alerts = candidates.alerts(a_week)
    found = {
        "quiet_false_alarms_per_series_week": len(alerts) / weeks,
        "quiet_budget_a_week": a_week,
        "quiet_series": series,
        "quiet_series_with_an_alarm": len({one.series for one in alerts}),
        "quiet_alarms": len(alerts),
        "quiet_series_weeks": weeks,
    }
    return found if rule is None else found | {"quiet_per_series_week_at_a_threshold": beyond / weeks}


def _ranked(time_ms: NDArray[np.int64], scores: Scores) -> Scores:
    """With the rank in the series' own past as score, for a baseline that gives none."""
    there = ~np.isnan(scores.severity)
    if not np.isnan(scores.score[there]).any():
        return scores
    elapsed_ms = np.diff(time_ms[there], prepend=time_ms[there][:1]).astype(np.float64)
    score = np.full(len(time_ms), np.nan)
    learning = np.zeros(int(there.sum()), dtype=np.bool_)
    score[there] = OwnPast().run(time_ms[there], elapsed_ms, scores.severity[there], learning).score
    return replace(scores, score=score)


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
