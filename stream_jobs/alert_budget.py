"""At most N alerts a week over all series: which unusual points alert, decided from earlier ones alone. Pure.

The one budget there is: stage 2 asks it live, `inferwatch detect` and `inferwatch budget` ask it about history.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

WEEK_MS = 7 * 86_400_000
DEFAULT_A_WEEK = 21
"""Three a day over all series: docs/decisions/0009-alert-budget.md says why."""
CANDIDATE_SCORE = 0.99
"""A point that is not among the most unusual 1 in 100 of its series never alerts for its score."""
MEMORY_WEEKS = 4
COOL_DOWN_MS = 3_600_000
"""Unusual points of a series that follow each other so soon are one incident: it is charged once."""
INCIDENTS_MAX = 4_000
"""Incidents remembered, the newest: some 60 bytes each in the state. With more in four weeks the memory is shorter."""
LONG_AGO_MS = -(1 << 62)


@dataclass(slots=True)
class _Incident:
    series: str | int
    began_ms: int
    last_ms: int
    peak: float
    alerted: bool = False


class AlertBudget:
    """Decides point after point, in the order of time; a decision depends on earlier points alone, and never changes.

    The bar is the size that N incidents a week reached in the last four weeks, or in as many as are remembered. In the
    first week nobody knows it, and how rare a point is in its own series decides: with R points a week, N of them are
    rarer than 1 in R/N, and R is a hundred times the unusual ones so far. Whatever the bar, N alerts in seven days are
    the most: so a burst of incidents after a quiet month costs N alerts.
    """

    def __init__(self, a_week: int, first_ms: int | None = None) -> None:
        """`first_ms`: when history begins; None: with the first point. Raises ValueError for less than one a week."""
        if a_week < 1:
            raise ValueError(f"{a_week} alerts a week: at least 1")
        self._a_week, self._first_ms = a_week, first_ms
        self._now_ms = LONG_AGO_MS
        self._complete_ms = LONG_AGO_MS
        """Since when every incident is remembered."""
        self._alerted_ms: deque[int] = deque(maxlen=a_week)
        self._open: dict[str | int, _Incident] = {}
        """The last incident of each series, of those remembered."""
        self._past: deque[_Incident] = deque()
        """Incidents of the last four weeks, by their beginning."""
        self._rows = 0
        self._peaks: list[float] = []
        """Their peaks, sorted."""

    def alerts(self, series: str | int, time_ms: int, size: float, rarity: float) -> bool:
        """True when this unusual point of a series is the one that alerts: once an incident. See `admits`."""
        incident, bar = self._take(series, time_ms, size)
        return not incident.alerted and self._charge(incident, size > bar, rarity)

    def admits(self, series: str | int, time_ms: int, size: float, rarity: float = math.inf) -> bool:
        """Take an unusual point in; True when its incident may alert, as it has before or does from here on.

        `size`: how bad it is, comparable between series. `rarity`: log10 of "1 in so many"; infinite where other
        means say that it is worth an alert. A time before the last one counts as the last one.
        """
        incident, bar = self._take(series, time_ms, size)
        return incident.alerted or self._charge(incident, size > bar, rarity)

    def go_back(self, time_ms: int) -> None:
        """The clock was set back to `time_ms`: what was remembered is as old as it was, by the new one."""
        back_ms = self._now_ms - time_ms
        if self._first_ms is None or back_ms <= 0:
            return
        self._first_ms, self._now_ms = self._first_ms - back_ms, time_ms
        self._complete_ms = max(LONG_AGO_MS, self._complete_ms - back_ms)
        self._alerted_ms = deque((one - back_ms for one in self._alerted_ms), maxlen=self._a_week)
        for incident in self._past:
            incident.began_ms, incident.last_ms = incident.began_ms - back_ms, incident.last_ms - back_ms

    def entries(self) -> list[list[Any]]:
        """All of it as rows of plain values, exact through JSON; none while nothing was asked."""
        if self._first_ms is None:
            return []
        head = [self._first_ms, self._now_ms, self._complete_ms, self._rows]
        return [
            head,
            list(self._alerted_ms),
            *([one.series, one.began_ms, one.last_ms, one.peak, one.alerted] for one in self._past),
        ]

    def restore(self, entries: Iterable[Any]) -> None:
        """Take over what `entries` gave, under any number a week. Raises ValueError when it is broken."""
        rows = list(entries)
        if not rows:
            return
        head, alerted, *past = rows
        if any(type(number) is not int for number in (*head, *alerted)) or len(head) != 4 or alerted != sorted(alerted):
            raise ValueError("alert budget: times are broken")
        for row in past:
            series, began_ms, last_ms, peak, told = row
            whole = type(began_ms) is type(last_ms) is int and type(peak) is float and type(told) is bool
            if type(series) not in (str, int) or not whole or not math.isfinite(peak):
                raise ValueError(f"alert budget: incident {row!r} is broken")
            self._remember(_Incident(series, began_ms, last_ms, peak, told))
        self._first_ms, self._now_ms, self._complete_ms, self._rows = head
        self._alerted_ms.extend(alerted)

    def _take(self, series: str | int, time_ms: int, size: float) -> tuple[_Incident, float]:
        """The incident that the point begins or belongs to, and the bar, which is that of the others."""
        time_ms = self._now_ms = max(time_ms, self._now_ms)
        self._first_ms = time_ms if self._first_ms is None else self._first_ms
        self._forget(time_ms)
        self._rows += 1
        incident = self._open.get(series)
        if incident is None or time_ms - incident.last_ms > COOL_DOWN_MS:
            bar = self._bar(time_ms)
            incident = _Incident(series, time_ms, time_ms, size)
            self._remember(incident)
            return incident, bar
        del self._peaks[bisect.bisect_left(self._peaks, incident.peak)]
        bar = self._bar(time_ms)
        incident.last_ms, incident.peak = time_ms, max(incident.peak, size)
        bisect.insort(self._peaks, incident.peak)
        return incident, bar

    def _charge(self, incident: _Incident, is_beyond: bool, rarity: float) -> bool:
        """Whether the incident alerts now; if so, it is charged."""
        worth = rarity > self._rare(self._now_ms) if self._weeks(self._now_ms) < 1.0 else is_beyond
        if not worth or len(self._alerted_ms) >= self._a_week:
            return False
        incident.alerted = True
        self._alerted_ms.append(self._now_ms)
        return True

    def _remember(self, incident: _Incident) -> None:
        self._open[incident.series] = incident
        self._past.append(incident)
        bisect.insort(self._peaks, incident.peak)
        if len(self._past) > INCIDENTS_MAX:
            self._complete_ms = self._drop().began_ms

    def _weeks(self, time_ms: int) -> float:
        assert self._first_ms is not None
        return max(1, time_ms - self._first_ms) / WEEK_MS

    def _rare(self, time_ms: int) -> float:
        """The rarity that N points of a week exceed, from how many unusual ones there were."""
        rows_a_week = self._rows / (1.0 - CANDIDATE_SCORE) / self._weeks(time_ms)
        return math.log10(max(1.0, rows_a_week / self._a_week))

    def _bar(self, time_ms: int) -> float:
        """The size that N incidents a week reached, without the one in question; 0 where there were fewer."""
        weeks = min(MEMORY_WEEKS, self._weeks(time_ms), (time_ms - self._complete_ms) / WEEK_MS)
        due = max(1, int(self._a_week * weeks))
        return self._peaks[-due] if due <= len(self._peaks) else 0.0

    def _forget(self, time_ms: int) -> None:
        while self._alerted_ms and time_ms - self._alerted_ms[0] >= WEEK_MS:
            self._alerted_ms.popleft()
        while self._past and time_ms - self._past[0].began_ms >= MEMORY_WEEKS * WEEK_MS:
            self._drop()

    def _drop(self) -> _Incident:
        """Forget the oldest incident, also one that goes on: it is then a new one."""
        incident = self._past.popleft()
        del self._peaks[bisect.bisect_left(self._peaks, incident.peak)]
        if self._open.get(incident.series) is incident:
            del self._open[incident.series]
        return incident
