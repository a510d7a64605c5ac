"""Our detectors as models of River's: they go into its pipelines and evaluations, and through its own checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from river import base

from stream_jobs.detectors.base import VALUE_KEY, SeriesDetector
from stream_jobs.detectors.registry import DEFAULT, detector_named


class RiverDetector(base.AnomalyDetector):
    """A selectable detector of one series. Time is a feature, `time_ms`; a point without it is not learnt.

    `score_one` gives the severity, and 0.0 for a point that cannot be scored: River's models always give a number.

    In a pipeline as any of River's:

    >>> import math
    >>> from stream_jobs.detectors.as_river import RiverDetector
    >>> model = RiverDetector("gaussian_scorer")
    >>> for minute in range(400):
    ...     model.learn_one({"time_ms": 60_000 * minute, "value": 100.0 + 5.0 * math.sin(minute**2)})
    >>> round(model.score_one({"time_ms": 60_000 * 400, "value": 180.0}), 1)
    22.6
    """

    def __init__(self, name: str = DEFAULT, channels: tuple[str, ...] = (VALUE_KEY,)) -> None:
        self.name = name
        self.channels = channels
        self._detector: SeriesDetector = detector_named(name, channels)

    def score_one(self, x: Mapping[str, Any]) -> float:  # type: ignore[override]  # River wants a dict and reads it only
        """Severity of a point, which is not learnt."""
        severity = self._detector.score_one(x)
        return severity if severity == severity else 0.0

    def learn_one(self, x: Mapping[str, Any]) -> None:  # type: ignore[override]
        """Take a point in."""
        self._detector.learn_one(x)

    def __getstate__(self) -> tuple[str, tuple[str, ...], bytes]:
        return self.name, self.channels, self._detector.state()

    def __setstate__(self, state: tuple[str, tuple[str, ...], bytes]) -> None:
        name, channels, learnt = state
        self.__init__(name, channels)  # type: ignore[misc]
        self._detector.restore(learnt)

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"name": DEFAULT}
