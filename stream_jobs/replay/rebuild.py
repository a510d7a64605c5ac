"""Scores stored windows again, strictly in order, under the rules of now. Pure but for the windows it is given.

Owns one book of series per partition of the windows topic, as the live jobs do; never their topics, groups or tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.columns import Column, plain
from schemas.alerts import PIPELINE
from schemas.tables import ALERTS, ANOMALIES, WINDOW_SCORES
from stream_jobs.metrics import scoring_of, share_of_budget
from stream_jobs.partial_events import target_of
from stream_jobs.replay.recompute import OF_THE_LEDGER
from stream_jobs.replay.stored_series import StoredWindow, by_partition
from stream_jobs.series_book import SeriesBook
from stream_jobs.settings import JobSettings
from stream_jobs.stage import Effects
from stream_jobs.window_effects import WindowEffects

REBUILT = (WINDOW_SCORES, ANOMALIES, ALERTS)
"""Tables whose rows come out; each has a `rebuilt_` one, which has the run's id, too."""
ALERTS_MAX = 100_000
"""Alerts that are compared. A budget of 21 a week and facts beside it stay far below."""

Keep = Callable[[str, dict[str, Column]], None]
"""Called with the name of a live table and rows for its rebuilt one."""
Row = Mapping[str, Any]


@dataclass(slots=True)
class Rebuild:
    """One run. Windows that end before `since_ms` only warm it up: nothing that they give is kept or counted."""

    settings: JobSettings
    partitions: int
    since_ms: int
    keep: Keep = lambda table, rows: None
    counts: Counter[str] = field(default_factory=Counter)
    """Rows by live table, and `windows`, `warm_up_windows`."""
    alerts: dict[str, Row] = field(default_factory=dict)
    """The last state of each alert that was opened since then, as rows."""
    first_ms: int | None = None
    """End of the first window of the warm-up."""

    def run(self, windows: Iterable[StoredWindow]) -> None:
        """Score them all. They must rise."""
        books = [self._book(number) for number in range(self.partitions)]
        for stored in windows:
            is_warm_up = stored.window.end_ms <= self.since_ms
            self.first_ms = stored.window.end_ms if self.first_ms is None else self.first_ms
            self.counts["warm_up_windows" if is_warm_up else "windows"] += 1
            targets = [target_of(one.key, self.partitions) for one in stored.found.values()]
            shares = by_partition(stored.found, targets)
            for number, book in enumerate(books):
                effects, given = WindowEffects(), Effects()
                book.score(stored.window, shares.get(number, {}), stored.complete, effects)
                book.live.changed.clear()
                book.live.parked.changed.clear()
                effects.into(given)
                if not is_warm_up:
                    self._take(given)

    def _book(self, partition: int) -> SeriesBook:
        settings = self.settings
        a_week = share_of_budget(settings.alerts_a_week, partition, self.partitions)
        idle_ms = round(settings.idle_seconds * 1000)
        return SeriesBook(
            scoring_of(settings, a_week), settings.series_max, idle_ms, partition, settings.parked_series_max
        )

    def _take(self, given: Effects) -> None:
        for table in REBUILT:
            rows = given.rows.get(table.name)
            if rows is None:
                continue
            self.counts[table.view] += len(next(iter(rows.values())))
            self.keep(table.name, rows)
        for row in _as_rows(given.rows.get(ALERTS.name, {})):
            # One that the warm-up opened was not opened in the range, whatever becomes of it there.
            if row["opened_at"] > self.since_ms and (
                row["incident_id"] in self.alerts or len(self.alerts) < ALERTS_MAX
            ):
                self.alerts[row["incident_id"]] = row


@dataclass(frozen=True, slots=True)
class Comparison:
    """Alerts that were told against those that would have been: `same` by name, `moved` the same trouble opened in
    another window (live, rebuilt), `added` and `gone`."""

    same: Sequence[Row]
    moved: Sequence[tuple[Row, Row]]
    added: Sequence[Row]
    gone: Sequence[Row]


def compare(live: Iterable[Row], rebuilt: Iterable[Row]) -> Comparison:
    """Compare by incident id, then by series and metric with times that overlap. What a watchdog or the ledger told is
    left out: it is not told from windows."""
    windows_told = (row for row in live if row["scenario"] != PIPELINE and row["kind"] not in OF_THE_LEDGER)
    told = {row["incident_id"]: row for row in windows_told}
    would = {row["incident_id"]: row for row in rebuilt}
    same = [would[name] for name in would if name in told]
    left = [row for name, row in told.items() if name not in would]
    moved, added = [], []
    for row in (row for name, row in would.items() if name not in told):
        match = next((one for one in left if _overlap(one, row)), None)
        if match is None:
            added.append(row)
        else:
            left.remove(match)
            moved.append((match, row))
    return Comparison(same, moved, added, left)


def _overlap(one: Row, other: Row) -> bool:
    labels = ("scenario", "model", "model_version", "metric")
    if any(one[name] != other[name] for name in labels):
        return False
    ends = [row["resolved_at"] if row["resolved_at"] is not None else float("inf") for row in (one, other)]
    return bool(one["onset"] <= ends[1] and other["onset"] <= ends[0])


def _as_rows(columns: Mapping[str, Column]) -> list[dict[str, Any]]:
    values = [plain(column) for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)] if values else []
