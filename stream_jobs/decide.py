"""From anomalous windows to incidents: open after several in a row, update when it worsens, resolve when it is over."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from schemas.alerts import AlertChanged, AlertStatus
from schemas.anomalies import AnomalyKind
from schemas.windows import SeriesKey
from stream_jobs.detectors.forecast_residual import Judgement
from stream_jobs.window_rows import id_of, name_of

WORSE = 2.0
"""An open incident is updated when its deviation, in half bands, has grown by this factor since it was last told."""


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """When a metric's anomalous windows become an incident. Times in milliseconds of log time."""

    kind: AnomalyKind
    metric: str
    open_windows: int
    """Anomalous windows in a row that open an incident, when they are confirmed."""
    unconfirmed_windows: int
    """The same without confirmation."""
    extreme_score: float
    """One window with a score of at least this opens it at once; above 1: never."""
    resolve_windows: int
    unjudged_ms: int
    """An incident whose metric could not be judged for so long is resolved, and says why."""
    update_ms: int
    cool_down_ms: int
    """For so long after an incident opening the next needs twice the windows, and one extreme window is not enough."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One judged window of a series' metric."""

    series: SeriesKey
    window_start_ms: int
    window_end_ms: int
    actual: float
    judgement: Judgement
    anomaly_id: str
    confirmed: bool = True
    """Whether the anomaly is one of most requests, and not of a few."""
    agreed: bool = True
    """Whether the detector's score says so too, or need not be asked."""
    cause: str = ""
    """What explains it, in words; empty when nothing does."""

    @property
    def anomalous(self) -> bool:
        """Outside the trigger's band, and not usual for the series."""
        return self.judgement.anomalous and self.agreed


@dataclass(slots=True)
class IncidentState:
    """Where a series' metric stands; whole numbers, shares and texts only. `incident_id` is empty between incidents."""

    anomalous_run: int = 0
    confirmed_run: int = 0
    normal_run: int = 0
    unjudged_ms: int = 0
    """Windows without a judgement since the last with one, added up."""
    run_onset_ms: int = 0
    incident_id: str = ""
    sequence: int = 0
    opened_ms: int = 0
    onset_ms: int = 0
    of_most: bool = False
    windows: int = 0
    peak_score: float = 0.0
    told_score: float = 0.0
    told_ms: int = 0
    resolved_ms: int = -1
    last_anomaly_id: str = ""
    last_actual: float = 0.0
    last_expected: float = 0.0
    last_lower: float = 0.0
    last_upper: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether an incident is going on."""
        return self.incident_id != ""

    @property
    def is_calm(self) -> bool:
        """Whether nothing is going on, nor was just before: a window without an anomaly then changes nothing."""
        return not self.incident_id and not self.anomalous_run and self.resolved_ms < 0

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to remember."""
        return _values(self) == _BLANK

    def clear(self, resolved_ms: int) -> None:
        """Forget everything but when the last incident ended; -1: long ago."""
        for name, value in asdict(IncidentState(resolved_ms=resolved_ms)).items():
            setattr(self, name, value)

    def state(self) -> dict[str, Any]:
        """Plain values; exact through JSON."""
        return dict(zip(_NAMES, _values(self), strict=True))

    @classmethod
    def restored(cls, state: Any) -> IncidentState:
        """The inverse of `state`. Raises ValueError when it is broken."""
        try:
            taken = cls(**state)
        except TypeError as error:
            raise ValueError(f"incident: {error}") from None
        if any(type(value) is not type(blank) for value, blank in zip(_values(taken), _values(cls()), strict=True)):
            raise ValueError("incident: a value of the wrong type")
        return taken


def observe(
    state: IncidentState, policy: AlertPolicy, seen: Observation, admits: Callable[[], bool] = lambda: True
) -> AlertChanged | None:
    """Fold one judged window in; returns the change of the incident that it makes, if any.

    While the trigger learns, as after a gap, it says of an open incident neither that it goes on nor that it is over.
    `admits` is asked whether an incident may open, in each window in which it would.
    """
    anomalous = seen.anomalous
    if state.is_open and seen.judgement.learning:
        return unjudged(state, policy, seen.series, seen.window_start_ms, seen.window_end_ms)
    state.unjudged_ms = 0
    if not anomalous and not state.is_open:
        cooling = state.resolved_ms >= 0 and seen.window_end_ms - state.resolved_ms <= policy.cool_down_ms
        if not state.is_calm:
            state.clear(state.resolved_ms if cooling else -1)
        return None
    state.last_actual = seen.actual
    state.last_expected = seen.judgement.expected
    state.last_lower, state.last_upper = seen.judgement.lower, seen.judgement.upper
    # An incident of most requests is over when only the slowest are slow, as short stalls make them.
    if anomalous and (seen.confirmed or not state.of_most):
        return _anomalous(state, policy, seen, admits)
    state.anomalous_run, state.confirmed_run = 0, 0
    state.normal_run += 1
    if state.normal_run < policy.resolve_windows:
        return None
    return resolve(state, policy, seen.series, seen.window_end_ms, seen.judgement.score, "is back to normal")


def unjudged(
    state: IncidentState, policy: AlertPolicy, series: SeriesKey, start_ms: int, end_ms: int
) -> AlertChanged | None:
    """Fold in a window in which the metric could not be judged; ends an incident of which nothing is known for long."""
    if not state.is_open:
        return None
    state.unjudged_ms += end_ms - start_ms
    if state.unjudged_ms <= policy.unjudged_ms:
        return None
    return resolve(state, policy, series, end_ms, 0.0, "can no longer be judged: its windows hold too little")


def resolve(
    state: IncidentState, policy: AlertPolicy, series: SeriesKey, at_ms: int, score: float, how: str
) -> AlertChanged:
    """End the open incident at `at_ms`; `how` completes the sentence "<metric> of <series> ..."."""
    state.sequence += 1
    change = _change(state, policy, series, AlertStatus.RESOLVED, at_ms, score, how)
    state.clear(at_ms)
    return change


def given_up(alert: AlertChanged, at_ms: int) -> AlertChanged:
    """The end at `at_ms` of an incident of which only its last change is known."""
    how = "can no longer be judged: what was known of it is lost"
    return alert.model_copy(
        update={
            "sequence": alert.sequence + 1,
            "status": AlertStatus.RESOLVED,
            "summary": _summary(alert.metric, alert.series, how),
            "changed_ms": at_ms,
            "resolved_ms": at_ms,
            "score": 0.0,
        }
    )


def _anomalous(
    state: IncidentState, policy: AlertPolicy, seen: Observation, admits: Callable[[], bool]
) -> AlertChanged | None:
    score, at_ms = seen.judgement.score, seen.window_end_ms
    if state.anomalous_run == 0:
        state.run_onset_ms = seen.window_start_ms
    state.anomalous_run += 1
    state.confirmed_run += seen.confirmed
    state.normal_run = 0
    state.windows = state.windows + 1 if state.is_open else state.anomalous_run
    state.peak_score = max(state.peak_score, score) if state.windows > 1 else score
    state.last_anomaly_id = seen.anomaly_id
    if not state.is_open:
        cooling = state.resolved_ms >= 0 and at_ms - state.resolved_ms <= policy.cool_down_ms
        times = 2 if cooling else 1
        enough = (
            state.confirmed_run >= policy.open_windows * times
            or state.anomalous_run >= policy.unconfirmed_windows * times
            or (score >= policy.extreme_score and not cooling)
        )
        if not enough or not admits():
            return None
        state.incident_id = incident_id(seen.series, policy.metric, seen.window_start_ms)
        state.sequence, state.opened_ms, state.onset_ms = 0, at_ms, state.run_onset_ms
        state.of_most = seen.confirmed
        status = AlertStatus.OPEN
    elif _beyond(score) >= WORSE * _beyond(state.told_score) and at_ms - state.told_ms >= policy.update_ms:
        state.sequence += 1
        status = AlertStatus.UPDATED
    else:
        return None
    state.told_score, state.told_ms = score, at_ms
    how = f"is {_number(seen.actual)}, expected about {_number(seen.judgement.expected)}"
    how += f": {seen.cause}" if seen.cause else ""
    return _change(state, policy, seen.series, status, at_ms, score, how)


def incident_id(series: SeriesKey, metric: str, opening_window_start_ms: int) -> str:
    """Name of the incident that a window opened: the same in every replay."""
    return id_of(name_of(series), metric, str(opening_window_start_ms))


def _change(
    state: IncidentState,
    policy: AlertPolicy,
    series: SeriesKey,
    status: AlertStatus,
    at_ms: int,
    score: float,
    how: str,
) -> AlertChanged:
    return AlertChanged(
        incident_id=state.incident_id,
        sequence=state.sequence,
        status=status,
        kind=policy.kind,
        series=series,
        metric=policy.metric,
        summary=_summary(policy.metric, series, how),
        opened_ms=state.opened_ms,
        onset_ms=state.onset_ms,
        changed_ms=at_ms,
        resolved_ms=at_ms if status is AlertStatus.RESOLVED else None,
        windows=state.windows,
        score=score,
        peak_score=state.peak_score,
        actual=state.last_actual,
        expected=state.last_expected,
        lower=state.last_lower,
        upper=state.last_upper,
        anomaly_id=state.last_anomaly_id,
    )


def _summary(metric: str, series: SeriesKey, how: str) -> str:
    return f"{metric} of {series} {how}."[:1_000]


def _beyond(score: float) -> float:
    return score / (1.0 - score) if score < 1.0 else float("inf")


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


_NAMES = tuple(one.name for one in fields(IncidentState))
_ask_values = operator.attrgetter(*_NAMES)


def _values(state: IncidentState) -> tuple[Any, ...]:
    """All of them, in order. Asked of each metric of each series at every barrier: `asdict` takes ten times as long."""
    found: tuple[Any, ...] = _ask_values(state)
    return found


_BLANK = _values(IncidentState())
