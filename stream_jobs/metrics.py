"""Which metrics of a series' window are scored, those of the kinds that windows show, and by what."""

from __future__ import annotations

from stream_jobs.alert_budget import AlertBudget
from stream_jobs.detector_bank import DetectorBank, bank_named
from stream_jobs.detectors import registry
from stream_jobs.kinds import KINDS
from stream_jobs.scored_metric import Metric
from stream_jobs.series_scoring import SeriesScoring
from stream_jobs.settings import JobSettings


def metrics_of(settings: JobSettings) -> tuple[Metric, ...]:
    """The metrics, as the settings tune them, in the order of the registry."""
    scored = [one for about in KINDS if about.metric is not None for one in (about.metric, *about.beside)]
    return tuple(one(settings) for one in scored)


SMOOTH_WINDOWS = 2.0
"""A window is a summary already. The default detector's own smoothing, of minutes, would hide a fault for minutes."""


def detector_options(name: str, settings: JobSettings) -> dict[str, float]:
    """How a detector of windows differs from one of any series. The default one learns as long as the triggers do;
    others are as they are."""
    if name != registry.DEFAULT:
        return {}
    return {
        "learning_points": float(settings.learning_windows),
        "smooth_seconds": SMOOTH_WINDOWS * settings.window_seconds,
    }


def bank_of(settings: JobSettings) -> DetectorBank:
    """The detectors of the scored metrics."""
    return bank_named(settings.detector, **detector_options(settings.detector, settings))


def scoring_of(settings: JobSettings, alerts_a_week: int) -> SeriesScoring:
    """What scores the windows of a partition, new; `alerts_a_week` is its share of the budget."""
    return SeriesScoring(metrics_of(settings), bank_of(settings), AlertBudget(alerts_a_week))


def share_of_budget(alerts_a_week: int, partition: int, partitions: int) -> int:
    """A partition's share of the budget: they differ by one at most, and sum to it."""
    return alerts_a_week // partitions + (partition < alerts_a_week % partitions)
