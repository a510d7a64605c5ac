"""What there is to show of a run at one moment, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra.up.books import Account
from infra.up.supervision import ChildState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The pipeline seen from its topics. Rates are means of about 10 s; `recent_ms` of about 30 s, by quantile."""

    account: Account
    sent_per_second: float
    predictions_per_second: float
    rows_per_second: float
    recent_ms: Mapping[float, float | None]
    run_ms: Mapping[float, float | None]
    lags: Mapping[str, int]
    oldest_owed_seconds: float | None
    dead_letters: Mapping[str, int]
    unreadable: int
    """Records on our own topics that are not what the topic carries: counted by the watch, which only views."""
    anomalies: int
    alerts_opened: int
    alerts_resolved: int
    open_alerts: tuple[str, ...]
    devices: tuple[str, ...]
    models: tuple[str, ...]
    first_prediction_seconds: float | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One child: CPU in percent of one core, memory in bytes, both with its own children; None when not running."""

    name: str
    state: ChildState
    pid: int | None
    restarts: int
    cpu_percent: float | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class View:
    """Everything shown. `snapshot` is None until the topics are there. `phase` is what `up` does now."""

    phase: str
    uptime_seconds: float
    processes: tuple[ProcessRow, ...]
    snapshot: Snapshot | None
    events: tuple[str, ...]
    where: tuple[tuple[str, str], ...]
    """Name and place: servers, a first query, logs."""
