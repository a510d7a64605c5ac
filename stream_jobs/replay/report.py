"""What a replay found: anomaly by anomaly, and of an alert whether it opened where and as it was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from infra.exit_codes import EXIT_INTERNAL, EXIT_REFUSED
from infra.ports import RetryLater
from schemas.alerts import PIPELINE, AlertChanged, AlertStatus, alert_row
from stream_jobs.replay.from_telemetry import compared
from stream_jobs.replay.recompute import AnomalyRow, Difference, NotReproducible, Recomputed, recompute, same_bits
from stream_jobs.window_rows import RESIDUAL, SeriesWindow


class Result(StrEnum):
    """What came out."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    CANNOT = "cannot"


class Windows(Protocol):
    """Where windows come from: telemetry, and what the table has of them."""

    def again(self, stored: AnomalyRow) -> SeriesWindow | None:
        """The window from telemetry; None when that holds nothing of the series. Raises NotReproducible."""

    def row(self, stored: AnomalyRow) -> Mapping[str, Any] | None:
        """The row of `windows`; None when it is gone."""


@dataclass(slots=True)
class Replayed:
    """One anomaly. `source`: telemetry or row, what it came from. `notes`: what was not looked at, and why."""

    row: Mapping[str, Any]
    source: str = "row"
    result: Result = Result.CANNOT
    differences: list[Difference] = field(default_factory=list)
    why: str = ""
    notes: list[str] = field(default_factory=list)
    alert: AlertChanged | None = None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        columns = (self.row[f"source_{name}"] for name in ("partitions", "first_offsets", "next_offsets"))
        inputs = [
            {"partition": number, "first_offset": first, "next_offset": after}
            for number, first, after in zip(*columns, strict=True)
        ]
        names = ("anomaly_id", "kind", "metric", "window_start", "window_end", "state_digest", "config_digest")
        return {
            **{name: self.row[name] for name in names},
            "series": "/".join((self.row["scenario"], self.row["model"], self.row["model_version"])),
            "inputs": inputs,
            "recomputed_from": self.source,
            "result": self.result.value,
            "why": self.why,
            "notes": self.notes,
            "differences": [
                {"column": one.column, "stored": one.stored, "recomputed": one.recomputed} for one in self.differences
            ],
        }


@dataclass(slots=True)
class Report:
    """All of an id. `alert`: as stored, for an alert."""

    name: str
    anomalies: list[Replayed]
    alert: Mapping[str, Any] | None = None
    differences: list[Difference] = field(default_factory=list)
    """Of the alert itself."""
    notes: list[str] = field(default_factory=list)

    @property
    def result(self) -> Result:
        """The worst of all."""
        found = {one.result for one in self.anomalies}
        if self.differences or Result.DIFFERS in found:
            return Result.DIFFERS
        return Result.CANNOT if Result.CANNOT in found or not self.anomalies else Result.REPRODUCED

    @property
    def exit_code(self) -> int:
        """0, 70 when something differs, 65 when it cannot be said."""
        return {Result.REPRODUCED: 0, Result.DIFFERS: EXIT_INTERNAL, Result.CANNOT: EXIT_REFUSED}[self.result]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "id": self.name,
            "is_alert": self.alert is not None,
            "result": self.result.value,
            "differences": [
                {"column": one.column, "stored": one.stored, "recomputed": one.recomputed} for one in self.differences
            ],
            "notes": self.notes,
            "anomalies": [one.as_json() for one in self.anomalies],
        }


def replay_anomaly(row: Mapping[str, Any], windows: Windows | None, *, insist: bool = False) -> Replayed:
    """Recompute one anomaly: from telemetry where `windows` has it, else from its own row.

    `insist`: from telemetry or not at all.
    """
    found = Replayed(row)
    try:
        stored = AnomalyRow(row)
        again = None if windows is None else _from_telemetry(stored, windows, found, insist)
        result = recompute(stored, None if again is None else stored.metric.value_of(again))
    except NotReproducible as error:
        if not found.differences:
            found.why = str(error)
            return found
        result = Recomputed({}, (), None)
    found.differences.extend(result.differences)
    found.alert = result.alert
    found.result = Result.DIFFERS if found.differences else Result.REPRODUCED
    return found


def _from_telemetry(stored: AnomalyRow, windows: Windows, found: Replayed, insist: bool) -> SeriesWindow | None:
    """The window again, where it can be had; what of it differs is added to what was found. Raises NotReproducible."""
    if stored.metric.name == RESIDUAL:
        found.notes.append("its value rests on what a regression had learnt: the stored one was taken")
        return None
    if not stored.input.is_present:
        found.notes.append("the window held nothing of the series: there is no telemetry to read")
        return None
    try:
        again = windows.again(stored)
    except (NotReproducible, RetryLater) as error:
        if insist:
            raise
        found.notes.append(f"recomputed from the row, not from telemetry: {error}")
        return None
    found.source = "telemetry"
    if again is None:
        found.differences.append(Difference("telemetry", "requests of the series", "none"))
        raise NotReproducible("the telemetry holds nothing of the series")
    value = stored.metric.value_of(again)
    if not same_bits(_plain(stored.input.value), _plain(value)):
        found.differences.append(Difference("telemetry.value", stored.input.value, value))
    row = windows.row(stored)
    if row is None:
        found.notes.append("the window's row is gone: only its value was compared")
    elif row["revision"]:
        found.notes.append(f"the window was corrected since (revision {row['revision']}): only its value was compared")
    else:
        found.differences += [Difference(f"windows.{name}", *both) for name, both in compared(row, again).items()]
    if value is None:
        raise NotReproducible("the telemetry holds too little to judge the metric")
    return again


def replay_alert(name: str, alert: Mapping[str, Any], anomalies: Sequence[Replayed]) -> Report:
    """What the alert's anomalies say of it: which one opened it, under which name, and how it was told."""
    report = Report(name, list(anomalies), alert)
    if alert["scenario"] == PIPELINE:
        report.notes.append("a watchdog told it, from what it saw of Kafka then: nothing of that is kept")
        return report
    if not anomalies:
        report.notes.append("its anomalies are not in the table, or not any more")
        return report
    changes = [one.alert for one in anomalies if one.alert is not None and one.alert.incident_id == name]
    opening = [one for one in changes if one.sequence == 0]
    if not opening:
        if all(one.result is Result.REPRODUCED for one in anomalies):
            report.differences.append(Difference("alert", name, "none of its anomalies opens it"))
        return report
    opened = alert_row(opening[0])
    for column in ("kind", "metric", "scenario", "model", "model_version", "opened_at", "onset"):
        if not same_bits(alert[column], opened[column]):
            report.differences.append(Difference(f"alert.{column}", alert[column], opened[column]))
    last = [one for one in changes if one.sequence == alert["sequence"]]
    if last:
        for column, value in alert_row(last[-1]).items():
            if column != "summary" and not same_bits(alert[column], value):
                report.differences.append(Difference(f"alert.{column}", alert[column], value))
    elif alert["status"] == AlertStatus.RESOLVED.value:
        report.notes.append("how it was resolved rests on windows without an anomaly: `inferwatch rebuild` shows it")
    report.notes.append("that the alert budget let it open is granted: it rests on all alerts before")
    return report


def _plain(value: Any) -> Any:
    """Histograms as a list: a dictionary compares by `==`, and its order means nothing."""
    return sorted(value.items()) if isinstance(value, Mapping) else value
