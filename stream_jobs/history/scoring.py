"""Scores of the rows of a file: one detector a series, each row scored before it is learnt, in the file's order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stream_jobs.detectors.base import Floats, Scores, SeriesDetector
from stream_jobs.history.candidates import Candidates, FirstWeek
from stream_jobs.history.cells import rows_by_name
from stream_jobs.history.columns import SERIES_MAX
from stream_jobs.history.reading import Batch

SCORES = ("score", "severity", "alarm", "expected", "lower", "upper")


@dataclass(slots=True)
class SeriesSummary:
    """What was seen of one series."""

    number: int
    detector: SeriesDetector
    rows: int = 0
    alarm: float = -1.0
    """The highest."""
    severity: float = 0.0
    """Of the row with the highest alarm."""
    time_ms: float = 0.0
    metric: int = 0
    """Which metric contributed most to it."""
    first_week: FirstWeek = field(default_factory=FirstWeek)


@dataclass
class ScoredColumns:
    """Scores of the rows of a batch; NaN: none. The band is that of the metric that contributed most."""

    score: Floats
    severity: Floats
    alarm: Floats
    expected: Floats
    lower: Floats
    upper: Floats
    metric: NDArray[np.int64]
    """Number of the metric that contributed most; -1: none did."""

    @classmethod
    def empty(cls, rows: int) -> ScoredColumns:
        """No scores yet."""
        none = np.full((len(SCORES), rows), np.nan)
        return cls(none[0], none[1], none[2], none[3], none[4], none[5], np.full(rows, -1, dtype=np.int64))

    def put(self, at: NDArray[np.int64], scores: Scores) -> None:
        """The scores of one series at its rows."""
        self.score[at], self.severity[at], self.alarm[at] = scores.score, scores.severity, scores.alarm
        bands = ((self.expected, scores.expected), (self.lower, scores.lower), (self.upper, scores.upper))
        if scores.contributions.shape[1] == 1:
            self.metric[at] = np.where(np.isnan(scores.severity), -1, 0)
            for ours, theirs in bands:
                ours[at] = theirs[:, 0]
            return
        top, rows = np.argmax(scores.contributions, axis=1), np.arange(len(at))
        unsaid = ~(scores.contributions[rows, top] > 0.0)
        self.metric[at] = np.where(unsaid, -1, top)
        for ours, theirs in bands:
            ours[at] = np.where(unsaid, np.nan, theirs[rows, top])


@dataclass
class HistoryScorer:
    """Scores batches of a file one after the other. A series' scores depend on its own earlier rows alone."""

    new_detector: Callable[[], SeriesDetector]
    only: object = None
    """The one series to look at; None: all."""
    series_max: int = SERIES_MAX
    series: dict[object, SeriesSummary] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    """Rows: all, scored, missing (no usable time or value), late (not after the last one of their series), beyond."""
    candidates: Candidates = field(default_factory=Candidates)

    def score(self, batch: Batch) -> ScoredColumns:
        """Scores of the batch's rows, in their order."""
        scored = ScoredColumns.empty(len(batch.time_ms))
        usable = ~np.isnan(batch.time_ms) & np.isfinite(batch.values).any(axis=1)
        self.counts["rows"] += len(batch.time_ms)
        self.counts["missing"] += int((~usable).sum())
        for name, at in rows_by_name(batch.series, usable):
            if self.only is not None and name != self.only:
                continue
            if (one := self._series(name)) is None:
                self.counts["beyond"] += len(at)
                continue
            self._score_series(one, at, batch, scored)
        return scored

    def _series(self, name: object) -> SeriesSummary | None:
        found = self.series.get(name)
        if found is None and len(self.series) < self.series_max:
            found = self.series[name] = SeriesSummary(len(self.series), self.new_detector())
        return found

    def _score_series(self, one: SeriesSummary, at: NDArray[np.int64], batch: Batch, scored: ScoredColumns) -> None:
        time_ms = batch.time_ms[at].astype(np.int64)
        scores = one.detector.run(time_ms, batch.values[at])
        scored.put(at, scores)
        there = ~np.isnan(scores.severity)
        self.counts["scored"] += int(there.sum())
        self.counts["late"] += int((~there).sum())
        first_row = self.counts["rows"] - len(batch.time_ms)
        self.candidates.take(one.number, one.first_week, time_ms, first_row + at, scores)
        one.rows += len(at)
        if there.any():
            top = int(np.nanargmax(scores.alarm))
            if scores.alarm[top] > one.alarm:
                one.alarm, one.severity = float(scores.alarm[top]), float(scores.severity[top])
                one.time_ms, one.metric = float(time_ms[top]), max(0, int(scored.metric[at[top]]))

    def worst(self, most: int = 1) -> list[tuple[Any, SeriesSummary]]:
        """The series with the highest alarms, highest first."""
        ranked = sorted(self.series.items(), key=lambda item: (-item[1].alarm, -item[1].severity, item[1].number))
        return ranked[:most]


def schema(types: tuple[Any, Any], metrics: tuple[str, ...]) -> pa.Schema:
    """The columns that are written; `types` are those of series and time."""
    fields = [("series", types[0]), ("ts", types[1]), *((name, pa.float64()) for name in SCORES)]
    return pa.schema([*fields, *([("metric", pa.string())] if len(metrics) > 1 else [])])


def as_table(batch: Batch, scored: ScoredColumns, metrics: tuple[str, ...]) -> pa.RecordBatch:
    """The rows to write: series and time as they came, the scores empty where there are none."""
    columns: list[pa.Array] = [batch.series, batch.time]
    for name in SCORES:
        column = getattr(scored, name)
        columns.append(pa.array(column, mask=np.isnan(column)))
    if len(metrics) > 1:
        columns.append(pc.take(pa.array(metrics), pa.array(scored.metric, mask=scored.metric < 0)))
    types = (batch.series.type, batch.time.type)
    return pa.RecordBatch.from_arrays(columns, schema=schema(types, metrics))
