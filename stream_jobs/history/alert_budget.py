"""At most N alerts a week over all series: which unusual rows alert, decided from earlier rows alone. Pure."""

from __future__ import annotations

import bisect
import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_jobs.alert_budget import QUIET_MS, WEEK_MS

CANDIDATE_SCORE = 0.99
"""A row that is not among the most unusual 1 in 100 of its series never alerts."""
MEMORY_WEEKS = 4
COOL_DOWN_MS = QUIET_MS
"""Unusual rows of a series that follow each other so soon are one incident: it alerts once."""


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


@dataclass(slots=True)
class _Incident:
    began_ms: int
    last_ms: int
    peak: float
    alerted: bool = False


class AlertBudget:
    """Decides row after row, in the order of time; a decision depends on rows that came before, and never changes.

    The bar is the alarm that N incidents a week reached in the last four weeks, or in as many as there were. In the
    first week nobody knows it, and how rare a severity is in its own series decides: with R rows a week, N of them are
    rarer than 1 in R/N, and R is a hundred times the unusual rows so far. Whatever the bar, N alerts in seven days are
    the most: so a burst of incidents after a quiet month costs N alerts.
    """

    def __init__(self, a_week: int, first_ms: int) -> None:
        if a_week < 1:
            raise ValueError(f"{a_week} alerts a week: at least 1")
        self._a_week, self._first_ms = a_week, first_ms
        self._alerted_ms: deque[int] = deque()
        self._open: dict[int, _Incident] = {}
        self._past: deque[_Incident] = deque()
        """Incidents of the last four weeks, by their beginning."""
        self._rows = 0
        self._peaks: list[float] = []
        """Their peaks, sorted."""

    def alerts(self, series: int, time_ms: int, alarm: float, rarity: float) -> bool:
        """True when this unusual row of a series alerts. Times must not fall. `rarity` is log10 of "1 in so many"."""
        self._forget(time_ms)
        self._rows += 1
        incident = self._open.get(series)
        if incident is None or time_ms - incident.last_ms > COOL_DOWN_MS:
            incident = self._open[series] = _Incident(time_ms, time_ms, alarm)
            bar = self._bar(time_ms)
            self._past.append(incident)
            bisect.insort(self._peaks, alarm)
        else:
            self._drop(incident.peak, incident.began_ms, time_ms)
            bar = self._bar(time_ms)
            incident.last_ms, incident.peak = time_ms, max(incident.peak, alarm)
            if self._counts(incident.began_ms, time_ms):
                bisect.insort(self._peaks, incident.peak)
        rare = rarity > self._rare(time_ms) if self._weeks(time_ms) < 1.0 else alarm > bar
        if incident.alerted or not rare or len(self._alerted_ms) >= self._a_week:
            return False
        incident.alerted = True
        self._alerted_ms.append(time_ms)
        return True

    def _weeks(self, time_ms: int) -> float:
        return max(1, time_ms - self._first_ms) / WEEK_MS

    def _rare(self, time_ms: int) -> float:
        """The rarity that N rows of a week exceed, from how many unusual rows there were."""
        rows_a_week = self._rows / (1.0 - CANDIDATE_SCORE) / self._weeks(time_ms)
        return math.log10(max(1.0, rows_a_week / self._a_week))

    def _bar(self, time_ms: int) -> float:
        """The alarm that N incidents a week reached, without the one in question."""
        due = int(self._a_week * min(MEMORY_WEEKS, self._weeks(time_ms)))
        return self._peaks[-due] if 0 < due <= len(self._peaks) else 0.0

    def _forget(self, time_ms: int) -> None:
        while self._alerted_ms and time_ms - self._alerted_ms[0] >= WEEK_MS:
            self._alerted_ms.popleft()
        while self._past and not self._counts(self._past[0].began_ms, time_ms):
            incident = self._past.popleft()
            del self._peaks[bisect.bisect_left(self._peaks, incident.peak)]

    def _drop(self, peak: float, began_ms: int, time_ms: int) -> None:
        if self._counts(began_ms, time_ms):
            del self._peaks[bisect.bisect_left(self._peaks, peak)]

    @staticmethod
    def _counts(began_ms: int, time_ms: int) -> bool:
        return time_ms - began_ms < MEMORY_WEEKS * WEEK_MS
