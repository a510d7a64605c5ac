"""Which metrics of a series' window are scored, what is usual for them, and when they alert: few, and quiet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.anomalies import AnomalyKind
from stream_jobs.decide import AlertPolicy
from stream_jobs.detectors.forecast_residual import ResidualPolicy
from stream_jobs.settings import JobSettings
from stream_jobs.window_rows import SeriesWindow

NEVER = 2.0
"""A score is at most 1: no single window opens the incident."""


CONFIRMING_SHARE = 0.75
"""How far into the band's upper half the median must be: 0 at the expected value, 1 at the band's end."""


class Weight(StrEnum):
    """What a window must have enough of for a metric to be judged."""

    ANSWERED = "answered"
    REQUESTS = "requests"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of `windows` that is scored. `absent_is` is its value in a window without the series, if it has one."""

    name: str
    weight: Weight
    weight_min: int
    residual: ResidualPolicy
    alert: AlertPolicy
    absent_is: float | None = None
    confirmed_by: str | None = None
    """A column that confirms a rise when it reaches what this one usually is."""

    def value_of(self, window: SeriesWindow) -> float | None:
        """The metric's value; None when the window holds too little to judge it."""
        amount = window.answered if self.weight is Weight.ANSWERED else window.requests
        if self.weight is not Weight.ANY and amount < self.weight_min:
            return None
        return window.values[self.name]

    def confirmed(self, window: SeriesWindow | None, expected: float, upper: float) -> bool:
        """Whether most requests share the anomaly: half of them are slower than the slowest usually are."""
        if self.confirmed_by is None or window is None:
            return True
        return window.values[self.confirmed_by] >= expected + CONFIRMING_SHARE * (upper - expected)


def metrics_of(settings: JobSettings) -> tuple[Metric, ...]:
    """The metrics, as the settings tune them."""
    return _latency(settings), _errors(settings), _rate(settings)


def _latency(settings: JobSettings) -> Metric:
    name = "total_ms_p95"
    residual = _residual(
        settings,
        direction=1,
        deviation_min=settings.latency_ms_min,
        deviation_share_min=settings.latency_share_min,
        unit_min=20.0,
    )
    alert = _alert(settings, AnomalyKind.LATENCY_SHIFT, name, settings.open_windows, NEVER)
    return Metric(name, Weight.ANSWERED, settings.requests_min, residual, alert, confirmed_by="total_ms_p50")


def _errors(settings: JobSettings) -> Metric:
    name = "error_share"
    residual = _residual(
        settings,
        direction=1,
        deviation_min=settings.error_share_min,
        deviation_share_min=1.0,
        unit_min=0.01,
    )
    alert = _alert(settings, AnomalyKind.ERROR_BURST, name, settings.open_windows, 0.9)
    return Metric(name, Weight.REQUESTS, settings.requests_min, residual, alert)


def _rate(settings: JobSettings) -> Metric:
    name = "requests_per_second"
    residual = _residual(
        settings,
        direction=-1,
        deviation_min=settings.rate_min,
        deviation_share_min=settings.rate_share_min,
        unit_min=1.0,
    )
    alert = _alert(settings, AnomalyKind.THROUGHPUT_DROP, name, settings.open_windows + 2, NEVER)
    return Metric(name, Weight.ANY, 0, residual, alert, absent_is=0.0)


def _residual(
    settings: JobSettings, *, direction: int, deviation_min: float, deviation_share_min: float, unit_min: float
) -> ResidualPolicy:
    return ResidualPolicy(
        direction=direction,
        deviation_min=deviation_min,
        deviation_share_min=deviation_share_min,
        unit_min=unit_min,
        learning_windows=settings.learning_windows,
        level_seconds=settings.level_seconds,
        scale_seconds=settings.scale_seconds,
        adapt_seconds=settings.adapt_seconds,
        gap_seconds=3.5 * settings.window_seconds,
    )


def _alert(
    settings: JobSettings, kind: AnomalyKind, metric: str, open_windows: int, extreme_score: float
) -> AlertPolicy:
    return AlertPolicy(
        kind=kind,
        metric=metric,
        open_windows=open_windows,
        unconfirmed_windows=settings.tail_windows,
        extreme_score=extreme_score,
        resolve_windows=settings.resolve_windows,
        unjudged_ms=round(settings.idle_seconds * 1000),
        update_ms=round(settings.update_seconds * 1000),
        cool_down_ms=round(settings.cool_down_seconds * 1000),
    )
