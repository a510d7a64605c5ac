"""The rows of a history that may alert, and those of them that do under a budget. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_jobs.alert_budget import CANDIDATE_SCORE, WEEK_MS, AlertBudget
from stream_jobs.detectors.base import Floats, Scores
from stream_jobs.detectors.own_past import OwnPast


@dataclass(frozen=True, slots=True)
class Alert:
    """A row that alerts."""

    series: int
    """Number of the series, in the order in which the file names them."""
    time_ms: int
    row: int
    """From 0, among the rows written."""
    alarm: float
    severity: float
    score: float


@dataclass(slots=True)
class FirstWeek:
    """How rare a series' severities are among its own, while no budget knows better: its first week."""

    past: OwnPast = field(default_factory=OwnPast)
    """Of its severities: detectors measure alarms in different ways, and the start of a budget needs one."""
    first_ms: int | None = None
    last_ms: int | None = None

    def rarity(self, time_ms: NDArray[np.int64], severity: Floats) -> Floats:
        """log10 of "1 in so many" of each severity, among those before it; 0 when no budget needs it any more."""
        if not len(time_ms):
            return severity
        self.first_ms = int(time_ms[0]) if self.first_ms is None else self.first_ms
        if int(time_ms[0]) - self.first_ms >= WEEK_MS:
            return np.zeros(len(severity))
        before = time_ms[0] if self.last_ms is None else self.last_ms
        elapsed_ms = np.diff(time_ms, prepend=before).astype(np.float64)
        self.last_ms = int(time_ms[-1])
        return self.past.run(time_ms, elapsed_ms, severity, np.zeros(len(severity), dtype=np.bool_)).alarm


@dataclass
class Candidates:
    """The rows that may alert, collected in the file's order: about 1 in 100."""

    series: list[NDArray[np.int64]] = field(default_factory=list)
    time_ms: list[NDArray[np.int64]] = field(default_factory=list)
    row: list[NDArray[np.int64]] = field(default_factory=list)
    numbers: list[NDArray[np.float64]] = field(default_factory=list)
    """(n, 4) Alarm, rarity of the severity, severity, score."""
    first_ms: int | None = None
    """The earliest time of any row."""
    last_ms: int | None = None
    """The latest."""

    def take(
        self, series: int, first_week: FirstWeek, time_ms: NDArray[np.int64], row: NDArray[np.int64], scores: Scores
    ) -> None:
        """The next scored rows of a series, in order; `row` are their numbers, `first_week` is the series' own."""
        there = ~np.isnan(scores.severity)
        rarity = np.zeros(len(time_ms))
        rarity[there] = first_week.rarity(time_ms[there], scores.severity[there])
        likely = np.flatnonzero(there & (scores.score >= CANDIDATE_SCORE))
        numbers = np.stack([scores.alarm, rarity, scores.severity, scores.score], axis=1)[likely]
        self.add(series, time_ms[likely], row[likely], numbers)
        self.see(time_ms[there])

    def add(
        self,
        series: int,
        time_ms: NDArray[np.int64],
        row: NDArray[np.int64],
        numbers: NDArray[np.float64],
    ) -> None:
        """Rows of one series; `numbers` is (n, 4): alarm, rarity of the severity, severity, score."""
        if len(time_ms):
            self.series.append(np.full(len(time_ms), series, dtype=np.int64))
            self.time_ms.append(time_ms)
            self.row.append(row)
            self.numbers.append(numbers)

    def see(self, time_ms: NDArray[np.int64]) -> None:
        """Times of rows that were scored, in order."""
        if len(time_ms):
            first, last = int(time_ms[0]), int(time_ms[-1])
            self.first_ms = first if self.first_ms is None else min(self.first_ms, first)
            self.last_ms = last if self.last_ms is None else max(self.last_ms, last)

    def alerts(self, a_week: int) -> list[Alert]:
        """Those that alert, in the order of time."""
        if not self.series or self.first_ms is None:
            return []
        series, time_ms, row = (np.concatenate(part) for part in (self.series, self.time_ms, self.row))
        numbers = np.concatenate(self.numbers)
        budget = AlertBudget(a_week, self.first_ms)
        found = []
        for at in np.lexsort((row, time_ms)).tolist():
            alarm, rarity, severity, score = numbers[at].tolist()
            if budget.alerts(int(series[at]), int(time_ms[at]), alarm, rarity):
                found.append(Alert(int(series[at]), int(time_ms[at]), int(row[at]), alarm, severity, score))
        return found
