"""Anomalies, alerts, windows and requests as ClickHouse has them, for replays. Reads; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from schemas.tables import ALERTS, ANOMALIES, WINDOWS, Table
from stream_jobs.window_rows import WindowId

ANOMALIES_MAX = 10_000
"""Of one alert: a day of windows of ten seconds has 8,640."""
ALERTS_MAX = 100_000
"""Alerts that are read at once."""


class Tables(Protocol):
    """What is asked: see `infra.ports.TableReader.query`."""

    def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Column names and rows. Raises RetryLater, ValueError."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an id names: an alert with its anomalies, or an anomaly alone. `alert` is None for the latter."""

    alert: Mapping[str, Any] | None
    anomalies: Sequence[Mapping[str, Any]]


def find(tables: Tables, name: str) -> Found | None:
    """The alert or anomaly of that id; None when there is none. Raises RetryLater, ValueError."""
    anomalies = _rows(tables, ANOMALIES, "anomaly_id = {id:String}", {"id": name})
    if anomalies:
        return Found(None, anomalies)
    alerts = _rows(tables, ALERTS, "incident_id = {id:String}", {"id": name})
    if not alerts:
        return None
    return Found(alerts[0], anomalies_of(tables, alerts[0]))


def anomalies_of(tables: Tables, alert: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The anomalies that an alert rests on: those of its series and metric from its onset to its last change."""
    where = (
        "scenario = {scenario:String} AND model = {model:String} AND model_version = {model_version:String} "
        "AND metric = {metric:String} AND window_start >= fromUnixTimestamp64Milli({onset:Int64}, 'UTC') "
        "AND window_end <= fromUnixTimestamp64Milli({changed_at:Int64}, 'UTC')"
    )
    names = ("scenario", "model", "model_version", "metric", "onset", "changed_at")
    return _rows(tables, ANOMALIES, where, {name: alert[name] for name in names}, ANOMALIES_MAX)


def window_row(tables: Tables, window: WindowId, labels: Mapping[str, str]) -> dict[str, Any] | None:
    """A series' row of `windows`, by its labels; None when there is none, or none any more."""
    where = (
        "source_topic_id = {topic:String} AND window_start = fromUnixTimestamp64Milli({start:Int64}, 'UTC') "
        "AND window_end = fromUnixTimestamp64Milli({end:Int64}, 'UTC') AND scenario = {scenario:String} "
        "AND model = {model:String} AND model_version = {model_version:String}"
    )
    parameters = {"topic": window.topic_id, "start": window.start_ms, "end": window.end_ms, **labels}
    found = _rows(tables, WINDOWS, where, parameters)
    return found[0] if found else None


def _rows(
    tables: Tables, table: Table, where: str, parameters: Mapping[str, Any], most: int = 2
) -> list[dict[str, Any]]:
    names = ", ".join(f"`{name}`" for name in table.column_names)
    order = "window_end" if "window_end" in table.column_names else "changed_at"
    sql = f"SELECT {names} FROM {table.view} WHERE {where} ORDER BY {order} LIMIT {most}"
    return [dict(zip(table.column_names, map(plain, row), strict=True)) for row in tables.query(sql, parameters)[1]]


def plain(value: Any) -> Any:
    """As the job writes it: times in epoch milliseconds."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1000)
    return list(value) if isinstance(value, tuple) else value


def alerts_between(tables: Tables, since_ms: int, until_ms: int) -> list[dict[str, Any]]:
    """Alerts that windows which ended in the time opened. Raises RetryLater, ValueError."""
    where = (
        "opened_at > fromUnixTimestamp64Milli({since:Int64}, 'UTC') "
        "AND opened_at <= fromUnixTimestamp64Milli({until:Int64}, 'UTC')"
    )
    return _rows(tables, ALERTS, where, {"since": since_ms, "until": until_ms}, ALERTS_MAX)
