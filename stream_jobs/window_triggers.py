"""What of a series' window is scored for each kind of anomaly, what is usual for it, and when it alerts."""

from __future__ import annotations

from dataclasses import replace

from schemas.anomalies import AnomalyKind
from stream_jobs.decide import AlertPolicy
from stream_jobs.detectors.forecast_residual import ResidualPolicy
from stream_jobs.detectors.histogram_drift import DriftPolicy
from stream_jobs.detectors.memory_trend import TrendPolicy
from stream_jobs.detectors.rare_rise import RisePolicy
from stream_jobs.scored_metric import Fact, Metric, Weight
from stream_jobs.settings import JobSettings
from stream_jobs.window_rows import RATE, RESIDUAL

NEVER = 2.0
"""A score is at most 1: no single window opens the incident."""
EXTREME = 0.9
"""Nine times the room that the band leaves: one window is enough."""
NEVER_OPEN = 2**31
"""Windows in a row that do not come."""
SLOW_LOOKS = 2
"""Judgements in a row that open and that resolve an incident of what is judged once in minutes."""
GIVEN_UP_LOOKS = 10
"""An incident of such a metric is given up after so many judgements did not come."""


def latency_shift(settings: JobSettings) -> Metric:
    """The 95 % latency of computed answers, confirmed by the median."""
    name = "total_ms_p95"
    residual = _residual(
        settings,
        direction=1,
        deviation_min=settings.latency_ms_min,
        deviation_share_min=settings.latency_share_min,
        unit_min=20.0,
    )
    alert = _alert(settings, AnomalyKind.LATENCY_SHIFT, name, settings.open_windows, NEVER)
    return Metric(
        name,
        Weight.COMPUTED,
        settings.requests_min,
        residual,
        alert,
        confirmed_by="total_ms_p50",
        is_latency=True,
        scored=True,
        fact=Fact.CONFIRMED,
    )


def latency_residual(settings: JobSettings) -> Metric:
    """What a regression on the requests leaves of their mean latency. It alerts nobody: the latency does."""
    found = latency_shift(settings)
    alert = replace(found.alert, metric=RESIDUAL, open_windows=NEVER_OPEN, unconfirmed_windows=NEVER_OPEN)
    return replace(found, name=RESIDUAL, alert=alert, confirmed_by=None, scored=False, fact=Fact.ALWAYS)


def error_burst(settings: JobSettings) -> Metric:
    """Failed over all requests."""
    name = "error_share"
    residual = _residual(
        settings,
        direction=1,
        deviation_min=settings.error_share_min,
        deviation_share_min=1.0,
        unit_min=0.01,
    )
    alert = _alert(settings, AnomalyKind.ERROR_BURST, name, settings.open_windows, EXTREME)
    return Metric(name, Weight.REQUESTS, settings.requests_min, residual, alert, scored=True)


def throughput_drop(settings: JobSettings) -> Metric:
    """Requests a second; none in a window without the series."""
    name = RATE
    residual = _residual(
        settings,
        direction=-1,
        deviation_min=settings.rate_min,
        deviation_share_min=settings.rate_share_min,
        unit_min=1.0,
    )
    alert = _alert(settings, AnomalyKind.THROUGHPUT_DROP, name, settings.open_windows + 2, NEVER)
    return Metric(name, Weight.ANY, 0, residual, alert, absent_is=0.0, scored=True, fact=Fact.NOTHING_LEFT)


def timeout(settings: JobSettings) -> Metric:
    """Requests without an answer in time, over all."""
    return _rare(
        settings, AnomalyKind.TIMEOUT, "timeout_share", "timed_out", Weight.REQUESTS, settings.timeout_share_min
    )


def oom(settings: JobSettings) -> Metric:
    """Requests that failed for want of memory: counted, from the first window on."""
    name = "out_of_memory"
    # Half a case less, so that the least number lies outside the band.
    policy = RisePolicy(
        deviation_min=settings.oom_min - 0.5, learning_windows=0, gap_seconds=3.5 * settings.window_seconds
    )
    alert = _alert(settings, AnomalyKind.OOM, name, settings.open_windows, EXTREME)
    return Metric(name, Weight.ANY, 0, policy, alert, is_rare=True)


def empty_result(settings: JobSettings) -> Metric:
    """Empty over answered requests."""
    return _rare(settings, AnomalyKind.EMPTY_RESULT, "empty_share", "empty", Weight.ANSWERED, settings.empty_share_min)


def duplicate(settings: JobSettings) -> Metric:
    """Outcomes told again over all that were told. A worker that ends gives back what it had in work: once."""
    found = _rare(
        settings, AnomalyKind.DUPLICATE, "repeated_share", "repeated", Weight.TOLD, settings.repeated_share_min
    )
    return replace(found, alert=replace(found.alert, open_windows=settings.open_windows + 2, extreme_score=NEVER))


def schema_break(settings: JobSettings) -> Metric:
    """Broken over all requests of the partitions that had broken ones."""
    found = _rare(
        settings, AnomalyKind.SCHEMA_BREAK, "schema_share", "schema_broken", Weight.OF_ALL, settings.schema_share_min
    )
    return replace(found, absent_is=0.0)


def memory_leak(settings: JobSettings) -> Metric:
    """Growth of the workers' memory, bytes an hour."""
    name = "memory_bytes_per_hour"
    policy = TrendPolicy(rise_share_min=settings.leak_share_min)
    alert = _slow(_alert(settings, AnomalyKind.MEMORY_LEAK, name, SLOW_LOOKS, NEVER), policy.bucket_seconds)
    return Metric(name, Weight.ANY, 0, policy, alert, column="memory_bytes_max")


def input_drift(settings: JobSettings) -> Metric:
    """Lengths, unknown tokens, tokens a byte, and writing systems, against the version's own first windows."""
    ordered = ("token_bins", "unknown_bins", "fertility_bins")
    return _drift(settings, AnomalyKind.INPUT_DRIFT, ordered, ("script_bins",))


def score_drift(settings: JobSettings) -> Metric:
    """How sure answers are, how long their vectors and where they point, against the version's own first windows."""
    return _drift(settings, AnomalyKind.SCORE_DRIFT, ("confidence_bins", "norm_bins"), ("direction_bins",))


def _rare(
    settings: JobSettings, kind: AnomalyKind, name: str, cases: str, weight: Weight, deviation_min: float
) -> Metric:
    policy = RisePolicy(
        deviation_min=deviation_min,
        usual_seconds=settings.scale_seconds,
        learning_windows=settings.learning_windows,
        gap_seconds=3.5 * settings.window_seconds,
    )
    alert = _alert(settings, kind, name, settings.open_windows, EXTREME)
    return Metric(name, weight, settings.requests_min, policy, alert, cases=cases, is_rare=True)


def _drift(settings: JobSettings, kind: AnomalyKind, ordered: tuple[str, ...], nominal: tuple[str, ...]) -> Metric:
    policy = DriftPolicy(psi_min=settings.drift_psi_min, reference_windows=settings.reference_windows, nominal=nominal)
    alert = _slow(_alert(settings, kind, f"{kind.value}_psi", SLOW_LOOKS, NEVER), policy.epoch_seconds)
    return Metric(f"{kind.value}_psi", Weight.ANY, 0, policy, alert, histograms=(*ordered, *nominal))


def _slow(alert: AlertPolicy, seconds: float) -> AlertPolicy:
    """The policy of what is judged once in so many seconds: windows without a judgement say nothing."""
    unjudged_ms = max(alert.unjudged_ms, round(GIVEN_UP_LOOKS * seconds * 1000))
    return replace(alert, resolve_windows=SLOW_LOOKS, unjudged_ms=unjudged_ms)


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
