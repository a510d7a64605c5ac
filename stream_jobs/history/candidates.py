"""The rows of a history that may alert, and those of them that do under a budget. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_jobs.alert_budget import AlertBudget


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
            first = int(time_ms[0])
            self.first_ms = first if self.first_ms is None else min(self.first_ms, first)

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
