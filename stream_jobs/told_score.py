"""What is told of one metric of a series in one window: the detector's score beside what the trigger says of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from schemas.anomalies import AnomalyDetected, Score, ScoreKind
from stream_jobs.attribution.regression import LatencyCauses
from stream_jobs.attribution.sentence import contributors, effects
from stream_jobs.decide import Observation
from stream_jobs.detectors.base import Scores
from stream_jobs.detectors.forecast_residual import Judgement
from stream_jobs.scored_metric import Metric, contributors_of, effects_of
from stream_jobs.window_rows import SeriesWindow, WindowId, id_of, name_of

NUMBER_MAX = 1e18
"""As the contract has it."""


class Said(NamedTuple):
    """What a detector said of one point; NaN where it said nothing, -1 for an onset that is none. See `Scores`."""

    score: float
    confidence: float
    severity: float
    expected: float
    lower: float
    upper: float
    onset_ms: int


def said_of(scores: Scores) -> list[Said]:
    """Point by point, as plain numbers: picking them out of arrays one by one costs more than the score."""
    ends = (scores.expected[:, 0], scores.lower[:, 0], scores.upper[:, 0])
    columns = (scores.score, scores.confidence, scores.severity, *ends, scores.onset_ms)
    return [Said(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


@dataclass(frozen=True, slots=True)
class ToldScore:
    """One score with all that it carries. Expected value and band are in the metric's unit."""

    score: float
    """0 to 1: the share of the series' own past windows that were less severe; of a trigger alone its strength."""
    score_kind: ScoreKind
    """Which of the two."""
    confidence: float
    severity: float
    actual: float
    expected: float
    lower: float
    upper: float
    strength: float
    """Of the trigger: 0.5 at the end of its band, towards 1 beyond."""
    onset_ms: int | None
    """Since when the run of unusual windows goes on; None: there is none."""
    contributors: Mapping[str, float]
    """Shares; they sum to 1."""
    detector: str
    config_digest: str


def of_trigger(judgement: Judgement, metric: Metric, actual: float, digest: str) -> ToldScore:
    """The score of a metric that no detector scores beside its trigger."""
    return ToldScore(
        score=judgement.score,
        score_kind=ScoreKind.STRENGTH,
        confidence=judgement.confidence,
        severity=judgement.score,
        actual=actual,
        expected=judgement.expected,
        lower=judgement.lower,
        upper=judgement.upper,
        strength=judgement.score,
        onset_ms=None,
        contributors=contributors_of(judgement, metric.name),
        detector=metric.policy.name,
        config_digest=digest,
    )


def of_detector(said: Said, judgement: Judgement, metric: Metric, actual: float, named: tuple[str, str]) -> ToldScore:
    """The score of a detector beside a trigger; `named` is its name and the digest of both configurations.

    What the detector does not say, as of its very first points, is the trigger's: its expected value and band.
    """
    expected, lower, upper = said.expected, said.lower, said.upper
    if not math.isfinite(expected):
        expected, lower, upper = judgement.expected, judgement.lower, judgement.upper
    return ToldScore(
        score=_number(said.score, 1.0),
        score_kind=ScoreKind.RANK,
        confidence=_number(said.confidence, 1.0),
        severity=_number(said.severity, NUMBER_MAX),
        actual=actual,
        expected=min(max(expected, -NUMBER_MAX), NUMBER_MAX),
        # No metric of a window is below 0.
        lower=_number(lower, NUMBER_MAX, missing=expected),
        upper=_number(upper, NUMBER_MAX, missing=expected),
        strength=judgement.score,
        onset_ms=said.onset_ms if said.onset_ms >= 0 else None,
        contributors={metric.name: 1.0},
        detector=named[0],
        config_digest=named[1],
    )


def digest_of(detector_digest: str, trigger_digest: str) -> str:
    """Hash of both configurations, 16 hexadecimal characters."""
    return hashlib.sha256(f"{detector_digest}/{trigger_digest}".encode()).hexdigest()[:16]


def anomaly_id(window: WindowId, seen: Observation, metric: str) -> str:
    """Name of an anomalous window of a series' metric: the same in every replay."""
    return id_of(window.topic_id, name_of(seen.series), metric, str(window.start_ms), str(window.end_ms))


def anomaly_event(
    seen: Observation, told: ToldScore, metric: Metric, onset_ms: int, found: SeriesWindow | None
) -> AnomalyDetected:
    """The event of an anomalous window; `found` is what the window held of the series."""
    causes = causes_of(metric, found)
    return AnomalyDetected.model_construct(
        anomaly_id=seen.anomaly_id,
        kind=metric.alert.kind,
        series=seen.series,
        metric=metric.name,
        window_start_ms=seen.window_start_ms,
        window_end_ms=seen.window_end_ms,
        onset_ms=onset_ms,
        score=Score.model_construct(
            score=told.score,
            confidence=told.confidence,
            actual=told.actual,
            expected=told.expected,
            lower=told.lower,
            upper=told.upper,
            detector=told.detector,
            config_digest=told.config_digest,
            severity=told.severity,
            score_kind=told.score_kind,
        ),
        contributors=contributors(causes) or dict(told.contributors),
        effects=effects(causes) or effects_of(seen.judgement),
        strength=told.strength,
        inputs=list(found.inputs) if found is not None else [],
        state_digest="",
    )


def causes_of(metric: Metric, found: SeriesWindow | None) -> LatencyCauses | None:
    """What explains a window's value, where the causes of latency do."""
    return found.causes if found is not None and metric.is_latency else None


def told_columns(told: ToldScore) -> dict[str, Any]:
    """The columns that `window_scores` and `anomalies` share."""
    names = ("score", "confidence", "severity", "actual", "expected", "lower", "upper", "strength", "detector")
    return {
        **{name: getattr(told, name) for name in (*names, "config_digest")},
        "score_kind": told.score_kind.value,
        "contributors": list(told.contributors),
        "contributions": list(told.contributors.values()),
    }


def _number(value: float, most: float, missing: float = 0.0) -> float:
    """Within 0 and `most`; `missing` where nothing was said."""
    return min(max(value if math.isfinite(value) else missing, 0.0), most)
