"""The pipeline's anomaly and alert about itself: a consumer group falls behind, or a process was restarted. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from schemas.alerts import PIPELINE, AlertChanged, AlertStatus
from schemas.anomalies import AnomalyDetected, AnomalyKind, Score, ScoreKind
from schemas.windows import SeriesKey

METRIC = "commit_lag_seconds"
"""For how long the oldest record that is not committed has been there."""
WORSE = 2.0
"""An open alert is told again when the lag has grown by this factor since."""
DETECTOR = "watchdog"
"""What its anomalies name as their detector."""
RECOVERED_SHARE = 0.5
"""It is over below this share of the limit: a lag that hovers at the limit makes one alert."""


@dataclass(frozen=True, slots=True)
class LagPolicy:
    """When it alerts. Times in seconds."""

    lag_seconds: float = 120.0
    """Twice what lies between two barriers of a job at most: one interval is usual, and a minute with many series."""
    looks: int = 2
    """Looks in a row beyond it that open an alert, and below `RECOVERED_SHARE` of it that end one."""


@dataclass(frozen=True, slots=True)
class Told:
    """A change of the alert, and the anomaly that it rests on; None: it is over."""

    change: AlertChanged
    anomaly: AnomalyDetected | None


class LagAlert:
    """Where a group stands. For one thread."""

    def __init__(self, policy: LagPolicy, group: str) -> None:
        self._policy, self._group = policy, group
        self._open: AlertChanged | None = None
        self._beyond = self._below = 0
        self._onset_ms = 0
        self._told = 0.0
        self._looked_ms: int | None = None

    def look(self, behind: int, lag_seconds: float, why: str, restarted: bool, now_ms: int) -> Told | None:
        """Fold a look in; the change of the alert that it makes, if any. `why`: what the watchdog says of it;
        `now_ms`: epoch milliseconds."""
        looked_ms = now_ms if self._looked_ms is None else min(self._looked_ms, now_ms)
        self._looked_ms = now_ms
        beyond = lag_seconds > self._policy.lag_seconds
        if beyond and not self._beyond:
            self._onset_ms = max(0, now_ms - round(lag_seconds * 1000))
        self._beyond = self._beyond + 1 if beyond else 0
        self._below = self._below + 1 if lag_seconds < RECOVERED_SHARE * self._policy.lag_seconds else 0
        how = f"{behind} records behind, the oldest for {lag_seconds:.0f} s"
        how += f": {why}" if why else ""
        if self._open is None:
            if not restarted and self._beyond < self._policy.looks:
                return None
            kind = AnomalyKind.STALL if restarted else AnomalyKind.LAG
            return self._tell(AlertStatus.OPEN, kind, lag_seconds, how, (looked_ms, now_ms))
        if self._below >= self._policy.looks and not restarted:
            return self._tell(AlertStatus.RESOLVED, self._open.kind, lag_seconds, "has caught up", (looked_ms, now_ms))
        if restarted or lag_seconds >= WORSE * max(self._told, self._policy.lag_seconds):
            return self._tell(AlertStatus.UPDATED, self._open.kind, lag_seconds, how, (looked_ms, now_ms))
        return None

    def _tell(
        self, status: AlertStatus, kind: AnomalyKind, lag_seconds: float, how: str, look_ms: tuple[int, int]
    ) -> Told:
        before, limit, now_ms = self._open, self._policy.lag_seconds, look_ms[1]
        onset_ms = min(look_ms[0], self._onset_ms) if self._beyond else look_ms[0]
        score = lag_seconds / (lag_seconds + limit)
        incident_id = _id(self._group, now_ms) if before is None else before.incident_id
        change = AlertChanged(
            incident_id=incident_id,
            sequence=0 if before is None else before.sequence + 1,
            status=status,
            kind=kind,
            series=SeriesKey(scenario=PIPELINE, model=self._group[:200], version=""),
            metric=METRIC,
            summary=f"Consumer group {self._group} {'is ' if how[0].isdigit() else ''}{how}."[:1_000],
            opened_ms=now_ms if before is None else before.opened_ms,
            onset_ms=onset_ms if before is None else before.onset_ms,
            changed_ms=now_ms,
            resolved_ms=now_ms if status is AlertStatus.RESOLVED else None,
            windows=1 if before is None else before.windows + 1,
            score=score,
            peak_score=score if before is None else max(score, before.peak_score),
            actual=lag_seconds,
            expected=0.0,
            lower=0.0,
            upper=limit,
            anomaly_id=_id(self._group, METRIC, now_ms),
        )
        anomaly = None
        if status is AlertStatus.RESOLVED and before is not None:
            change = change.model_copy(update={"anomaly_id": before.anomaly_id})
        else:
            anomaly = self._anomaly(change, look_ms)
        self._told = lag_seconds
        if status is AlertStatus.RESOLVED:
            self._open, self._below, self._told = None, 0, 0.0
        else:
            self._open = change
        return Told(change, anomaly)

    def _anomaly(self, change: AlertChanged, look_ms: tuple[int, int]) -> AnomalyDetected:
        """What was seen between two looks, as any other anomaly: a lag of as long as the limit has strength 0.5."""
        score = Score(
            score=change.score,
            confidence=1.0,
            actual=change.actual,
            expected=change.expected,
            lower=change.lower,
            upper=change.upper,
            detector=DETECTOR,
            config_digest=_id(repr(self._policy))[:16],
            severity=change.score,
            score_kind=ScoreKind.STRENGTH,
        )
        return AnomalyDetected(
            anomaly_id=change.anomaly_id,
            kind=change.kind,
            series=change.series,
            metric=change.metric,
            window_start_ms=look_ms[0],
            window_end_ms=look_ms[1],
            onset_ms=change.onset_ms,
            score=score,
            contributors={METRIC: 1.0},
            strength=change.score,
        )


def _id(*parts: object) -> str:
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=12).hexdigest()
