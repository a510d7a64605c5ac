"""What alert subscribers read on `alerts`: a compacted topic, one key per incident.

The record with the highest `sequence` is the incident's state. That is the last one, but for a job that was stopped and
continued at the wrong moment: what it still had on its way may lie behind what its successor said since.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from schemas.anomalies import AnomalyKind, Number
from schemas.base import Count, EpochMs, Label, Message, Share
from schemas.windows import SeriesKey

PIPELINE = "(pipeline)"
"""Scenario of alerts about the pipeline itself, which its watchdogs raise; their `model` is the consumer group. Not a
scenario's name: those have no brackets."""


class AlertStatus(StrEnum):
    """Where an incident stands."""

    OPEN = "open"
    UPDATED = "updated"
    RESOLVED = "resolved"


class AlertChanged(Message):
    """An incident opened, changed or was resolved. Keyed by `incident_id`; `sequence` counts its changes from 0.

    The highest sequence wins: a change may be told again, and then counts once.
    """

    KIND: ClassVar[str] = "alert.changed"

    incident_id: Label
    sequence: Count
    status: AlertStatus
    kind: AnomalyKind
    series: SeriesKey
    metric: Label
    summary: Annotated[str, Field(max_length=1_000)] = Field(description="One sentence for people.")
    opened_ms: EpochMs = Field(description="End of the window that opened it (log time).")
    onset_ms: EpochMs = Field(description="Start of the first anomalous window.")
    changed_ms: EpochMs = Field(description="End of the window that made this change (log time).")
    resolved_ms: EpochMs | None = None
    windows: Count = Field(description="Anomalous windows so far.")
    score: Share = Field(
        description="The trigger's strength: 0.5 at the end of its band, towards 1 beyond; not how rare the window is. "
        "The anomaly event says that, where its `score_kind` is rank."
    )
    peak_score: Share = Field(description="Highest strength so far.")
    actual: Number
    expected: Number
    lower: Number
    upper: Number
    anomaly_id: Label = Field(description="The anomaly event that this change rests on, or the last one.")


def alert_row(change: AlertChanged) -> dict[str, Any]:
    """A change as a row of the table `alerts`."""
    names = ("incident_id", "sequence", "metric", "summary", "windows", "score", "peak_score")
    return {
        **{name: getattr(change, name) for name in (*names, "actual", "expected", "lower", "upper")},
        "status": change.status.value,
        "kind": change.kind.value,
        "scenario": change.series.scenario,
        "model": change.series.model,
        "model_version": change.series.version,
        "opened_at": change.opened_ms,
        "onset": change.onset_ms,
        "changed_at": change.changed_ms,
        "resolved_at": change.resolved_ms,
    }


ALERT_KINDS: tuple[type[AlertChanged]] = (AlertChanged,)
