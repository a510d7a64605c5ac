"""One partition's requests: telemetry read once, in order, and compared with the rows that readers see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from infra.audit.expected_rows import COMPARED, NotStorable, expected
from infra.audit.findings import DETAILS_MAX, Findings, Kind
from infra.audit.fingerprint import prints_of
from infra.audit.rows import Compared, Due, compare
from infra.audit.stored_rows import RowReader
from infra.audit.told import Span, Told
from infra.log_clock import LogClock
from infra.ports import Record
from schemas.base import DecodeError, decode
from schemas.telemetry import TELEMETRY_KINDS, InferenceServed, TelemetryTicked

NAMED_MAX = 10_000
ALL_ROWS = 2**31
"""Rows refused of a record that is a dead letter as a whole."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is audited of one partition: request offsets [start, end), and which telemetry is judged.

    `is_given`: somebody named the request offsets, so that rows outside them are nobody's business.
    """

    partition: int
    start: int
    end: int
    due: Due
    is_given: bool = False


@dataclass(slots=True)
class PartitionCounts:
    """What a partition's audit counted."""

    events: int = 0
    requests: int = 0
    """Requests told by the events read, repeats included."""
    other_topics: int = 0
    """Events about another request topic, such as one deleted since."""
    topic_ids: set[str] = field(default_factory=set)
    """The request topics of our cluster that were told of: windows count the requests of all of them."""
    unreadable: int = 0
    repeats: int = 0
    compared: Compared = field(default_factory=Compared)

    def add(self, other: PartitionCounts) -> None:
        """Take another's counts in."""
        self.events += other.events
        self.requests += other.requests
        self.other_topics += other.other_topics
        self.topic_ids |= other.topic_ids
        self.unreadable += other.unreadable
        self.repeats += other.repeats
        self.compared.add(other.compared)


class PartitionAudit:
    """Folds the telemetry of one partition. Memory: two spans of offsets, and one as it is read from the table."""

    def __init__(
        self,
        rows: RowReader,
        scope: Scope,
        letters: Mapping[tuple[int, int], int],
        findings: Findings,
        fetch: Callable[[int, int], Record | None],
        *,
        looks_for_silent: bool,
    ) -> None:
        """`letters`: rows refused by (partition, telemetry offset). `fetch` gets one telemetry record again, so that
        what is altered can be named. `looks_for_silent`: whether what cannot be read must have a dead letter; not where
        the dead letters are not all there any more."""
        self._rows, self._scope, self._findings, self._fetch = rows, scope, findings, fetch
        number = scope.partition
        self._looks_for_silent = looks_for_silent
        self._refused = {offset: count for (at, offset), count in letters.items() if at == number}
        self._told = Told(scope.start, scope.end)
        self._clock = LogClock()
        self._early: list[int] = []
        """Told, though below the range that was derived from the first event: not compared."""
        self._silent: list[int] = []
        self.counts = PartitionCounts()

    def run(self, records: Iterable[Record]) -> PartitionCounts:
        """Compare all that these records tell. Raises as reading and the table's reader do."""
        for record in records:
            self._clock.read(record.timestamp_ms)
            event = self._event(record)
            if event is not None:
                self._add(event, record)
        for span in self._told.rest():
            self._compare(span)
        self._finish()
        return self.counts

    def _event(self, record: Record) -> InferenceServed | None:
        """The event, when the job had to store it: None for what it could not read, or refused as a whole."""
        if self._refused.get(record.offset) == ALL_ROWS:
            self.counts.unreadable += 1
            return None
        try:
            event: InferenceServed | TelemetryTicked = decode(record.headers, record.value, TELEMETRY_KINDS).data  # type: ignore[assignment]
            if event.partition != record.partition:
                raise NotStorable("an event in another partition's place")
        except (DecodeError, NotStorable):
            self._unreadable(record)
            return None
        if not isinstance(event, InferenceServed):
            return None
        self.counts.events += 1
        if event.cluster_id == self._rows.cluster_id:
            self.counts.topic_ids.add(event.topic_id)
        if (event.cluster_id, event.topic_id) != (self._rows.cluster_id, self._rows.topic_id):
            self.counts.other_topics += 1
            return None
        return event

    def _unreadable(self, record: Record) -> None:
        self.counts.unreadable += 1
        is_due = record.offset < self._scope.due.committed
        if self._looks_for_silent and is_due and record.offset not in self._refused and len(self._silent) < NAMED_MAX:
            self._silent.append(record.offset)

    def _add(self, event: InferenceServed, record: Record) -> None:
        try:
            columns = expected(event, record.offset)
        except NotStorable:
            self._unreadable(record)
            return
        offsets = np.array(event.requests.offset, dtype=np.int64)
        self.counts.requests += len(offsets)
        if offsets[0] < self._scope.start and len(self._early) < NAMED_MAX:
            self._early += offsets[offsets < self._scope.start].tolist()
        for span in self._told.add(offsets, prints_of(COMPARED, columns), record.offset, self._clock.now_ms):
            self._compare(span)

    def _compare(self, span: Span) -> None:
        scope = self._scope
        seen = self._rows.span(scope.partition, span.first, span.after)
        altered = compare(scope.partition, span, seen, scope.due, self._refused, self._findings, self.counts.compared)
        for offset in altered[:DETAILS_MAX].tolist():
            told_at = int(span.told_at[offset - span.first])
            self._findings.detail(Kind.ALTERED, scope.partition, self._what_differs(offset, told_at))

    def _finish(self) -> None:
        scope, told = self._scope, self._told
        self.counts.repeats = told.repeats
        self._findings.add(Kind.SILENT, scope.partition, self._silent)
        late = set(told.too_late)
        if not scope.is_given:
            late |= set(self._early)
            judged = (scope.due.first, scope.due.committed)
            outside = self._rows.outside(scope.partition, (scope.start, scope.end), judged)
            self._findings.add(Kind.EXTRA, scope.partition, [offset for offset in outside if offset not in late])
        self._findings.add(Kind.TOO_LATE, scope.partition, sorted(late))

    def _what_differs(self, offset: int, told_at: int) -> str:
        """In words, column by column."""
        record = self._fetch(self._scope.partition, told_at)
        rows = self._rows.columns(self._scope.partition, offset)
        if record is None or not rows:
            return f"offset {offset}: gone since"
        event = decode(record.headers, record.value, TELEMETRY_KINDS).data
        if not isinstance(event, InferenceServed):
            return f"offset {offset}: no event at telemetry offset {told_at}"
        place = event.requests.offset.index(offset)
        columns = {name: values[place : place + 1] for name, values in expected(event, told_at).items()}
        found = (
            []
            if rows[0]["telemetry_offset"] == told_at
            else [f"telemetry_offset {rows[0]['telemetry_offset']}, not {told_at}"]
        )
        for column in COMPARED:
            told, seen = columns[column.name][0], rows[0][column.name]
            if hasattr(seen, "timestamp"):
                seen = round(seen.timestamp() * 1000)
            if told != seen:
                found.append(f"{column.name} {seen!r}, not {told!r}")
        return f"offset {offset}: " + (", ".join(found[:6]) or "served_at")
