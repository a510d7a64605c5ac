"""What a detector gets on each set: it runs over one series after the other, and only what the scorer needs is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.average_precision import average_precision
from benchmarks.detection.choice import Make
from benchmarks.detection.data_sets import DATA_SETS, DataSet, Series
from benchmarks.detection.event_f1 import LabelledScores
from benchmarks.detection.nab_score import PROFILES, NabFile, nab_score, score_at
from benchmarks.detection.vus_pr import period, vus_pr
from stream_jobs.detectors.base import Floats

Say = Callable[[str], None]


@dataclass(slots=True)
class SetResult:
    """What a detector got on one set."""

    figures: dict[str, Any]
    by_series: dict[str, float]
    """How well each series with an anomaly went, in the set's own measure: for the choice of what to show."""
    threshold: float
    """The set's best."""
    book: LabelledScores | None = None
    """For thresholds of another set."""


@dataclass(slots=True)
class _Cost:
    points: int = 0
    seconds: float = 0.0
    state_bytes: int = 0
    series: int = 0

    def figures(self) -> dict[str, Any]:
        return {
            "series": self.series,
            "points": self.points,
            "seconds": self.seconds,
            "state_bytes_most": self.state_bytes,
        }


@dataclass(slots=True)
class SetRun:
    """One detector over one set."""

    folder: Path
    make: Make
    every: int
    """Only every so many-th series is run; 1 for all."""
    say: Say
    _cost: _Cost = field(default_factory=_Cost)

    def result(self, name: str) -> SetResult:
        """Run it over the set of that name. The cost of each run goes into its figures."""
        self._cost = _Cost()
        found = {"nab": self._nab, "aiops29": self._events, "wsd": self._events, "asd": self._rows}[name](
            DATA_SETS[name]
        )
        found.figures |= self._cost.figures() | {"every": self._step(DATA_SETS[name])}
        return found

    def _step(self, data_set: DataSet) -> int:
        return self.every if data_set.name in ("aiops29", "wsd") else 1

    def _scored(self, data_set: DataSet) -> Iterator[tuple[Series, Floats, Floats]]:
        """Each series with its severity and alarm, all points of it."""
        for number, series in enumerate(data_set.read(self.folder)):
            if number % self._step(data_set):
                continue
            detector = self.make(data_set.channels)
            began = time.perf_counter()
            scores = detector.run(series.time_ms, series.values)
            self._cost.seconds += time.perf_counter() - began
            self._cost.points += len(series.values)
            self._cost.series += 1
            self._cost.state_bytes = max(self._cost.state_bytes, len(detector.state()))
            self.say(f"{data_set.title}: {self._cost.series} series, {self._cost.points:,} points")
            yield series, scores.severity, scores.alarm

    def _nab(self, data_set: DataSet) -> SetResult:
        files = {series.name: NabFile(alarm, series.windows) for series, _, alarm in self._scored(data_set)}
        scores = {name: nab_score(list(files.values()), profile) for name, profile in PROFILES.items()}
        standard = scores["standard"].threshold
        by_series = {name: score_at([file], PROFILES["standard"], standard) for name, file in files.items()}
        figures: dict[str, Any] = {name: score.score for name, score in scores.items()}
        figures["thresholds"] = {name: score.threshold for name, score in scores.items()}
        return SetResult(figures, {name: one for name, one in by_series.items() if one is not None}, standard)

    def _events(self, data_set: DataSet) -> SetResult:
        parts: dict[str, tuple[Floats, NDArray[np.bool_]]] = {}
        volumes = []
        for series, severity, _ in self._scored(data_set):
            scored = slice(series.scored_from, None)
            parts[series.name] = severity[scored].copy(), series.labels[scored]
            if data_set.name == "wsd" and series.labels[scored].any():
                volumes.append(vus_pr(*parts[series.name], period(series.values[:, 0])))
        book = LabelledScores(list(parts.values()))
        best = book.best()
        each = {name: LabelledScores([part]).at(best.threshold) for name, part in parts.items()}
        figures = {
            "event_f1": best.f1,
            "precision": best.precision,
            "recall": best.recall,
            "events": best.events,
            "false_alarms": best.false,
            "threshold": best.threshold,
        }
        if volumes:
            figures |= {"mean_vus_pr": float(np.mean(volumes)), "vus_pr_series": len(volumes)}
        return SetResult(figures, {name: one.f1 for name, one in each.items() if one.events}, best.threshold, book)

    def _rows(self, data_set: DataSet) -> SetResult:
        by_series, book = {}, []
        for series, severity, _ in self._scored(data_set):
            scores, labels = severity[series.scored_from :].copy(), series.labels[series.scored_from :]
            by_series[series.name] = average_precision(scores, labels)
            book.append((scores, labels))
        best = LabelledScores(book).best()
        figures = {"mean_ap": float(np.mean(list(by_series.values()))), "event_f1": best.f1}
        return SetResult(figures, by_series, best.threshold)


def frozen_ratio(here: SetResult, there: SetResult) -> float | None:
    """How much of the best event-F1 there is left with the best threshold of here. None: nothing there is found."""
    best = float(there.figures["event_f1"]) if there.book is not None else 0.0
    if here.book is None or there.book is None or best <= 0.0:
        return None
    return there.book.at(here.threshold).f1 / best
