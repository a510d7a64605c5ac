"""Event-F1: how well one threshold over all series of a set finds the labelled events, without crying too often.

An event is a run of anomalous points. A point is an alarm when its score reaches the threshold and the series' last
alarm is `COOL_DOWN` points or more ago. An event is found, once, when an alarm falls into [first, end + `SLACK`), `end`
being the point behind its last. Every alarm in no event is a false one. F1 = 2 found / (found + false + events).
Points are never adjusted: with that a random score looks good (Kim et al., AAAI 2022, arXiv 2109.05257).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.event_sweep import alarms_of, sweep

COOL_DOWN = 35
SLACK = 5
"""Both in points of the series."""


@dataclass(frozen=True, slots=True)
class EventScore:
    """Alarms against events at one threshold."""

    threshold: float
    found: int
    false: int
    events: int

    @property
    def f1(self) -> float:
        """0 to 1."""
        counted = self.found + self.false + self.events
        return 2 * self.found / counted if counted else 0.0

    @property
    def precision(self) -> float:
        """Found events over them and the false alarms: 0 without an alarm."""
        return self.found / (self.found + self.false) if self.found + self.false else 0.0

    @property
    def recall(self) -> float:
        """Share of the events that were found: 0 without an event."""
        return self.found / self.events if self.events else 0.0


class LabelledScores:
    """The scores of all series of a set, end to end, ready to be tried with thresholds.

    Between series lie `COOL_DOWN` places that never alarm, so that no cool-down reaches from one into the next.
    """

    def __init__(self, series: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]]) -> None:
        """`series`: scores (n,), NaN where nothing was said, and labels (n,)."""
        gap = np.full(COOL_DOWN, np.nan)
        quiet = np.zeros(COOL_DOWN, dtype=np.bool_)
        scores = [part for values, _ in series for part in (values, gap)]
        labels = [part for _, marks in series for part in (marks, quiet)]
        self._scores = np.concatenate(scores) if scores else np.empty(0)
        marks = np.concatenate([[False], *labels, [False]]).astype(np.int8)
        edges = np.diff(marks)
        self._firsts = np.flatnonzero(edges == 1).astype(np.int64)
        self._ends = np.flatnonzero(edges == -1).astype(np.int64) + SLACK
        places = np.arange(len(self._scores))
        # The events that hold a place are neighbours: from the first that has not ended to the last that has begun.
        self._from = np.searchsorted(self._ends, places, side="right").astype(np.int32)
        self._to = np.searchsorted(self._firsts, places, side="right").astype(np.int32)

    @property
    def events(self) -> int:
        """How many there are to find."""
        return len(self._firsts)

    def at(self, threshold: float) -> EventScore:
        """With this threshold."""
        places = np.flatnonzero(self._scores >= threshold)
        alarms = places[alarms_of(places, COOL_DOWN)]
        found = np.zeros(self.events, dtype=np.bool_)
        first, behind = self._from[alarms], self._to[alarms]
        for event in range(int(np.max(behind - first, initial=0))):
            held = first + event < behind
            found[(first + event)[held]] = True
        return EventScore(threshold, int(found.sum()), int((first >= behind).sum()), self.events)

    def best(self) -> EventScore:
        """With the threshold of the highest F1 among all that differ, the highest of them where several do as well."""
        places = np.flatnonzero(~np.isnan(self._scores))
        if self.events == 0 or len(places) == 0:
            return EventScore(float("inf"), 0, 0, self.events)
        order = places[np.argsort(self._scores[places], kind="stable")]
        threshold, found, false = sweep(
            order, self._scores[order], len(self._scores), self._from, self._to, self.events, COOL_DOWN
        )
        return EventScore(float(threshold), int(found), int(false), self.events)
