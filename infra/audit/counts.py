"""The whole proof of counts: what is judged, every partition's rows, then the windows. Blocks; changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from infra.audit.findings import Difference, Findings, Kind
from infra.audit.letters import refused_rows
from infra.audit.partition_counts import PartitionAudit, PartitionCounts, Scope
from infra.audit.rows import Due
from infra.audit.stored_rows import RowReader
from infra.audit.window_counts import WindowAudit, WindowCounts
from infra.kafka import KafkaCluster, KafkaRangeReader
from infra.ports import Clock, Record, TableReader
from infra.record_ranges import first_record, records_between
from infra.settings import KafkaSettings
from schemas import tables, topics
from schemas.base import DecodeError, decode
from schemas.telemetry import TELEMETRY_KINDS, InferenceServed

REORDER_OFFSETS = 4_000
"""Requests of a partition are told out of order by less than this: a worker holds at most 2,000 of it."""
ASK_EVERY_SECONDS = 0.5
SAY_EVERY = 500

Progress = Callable[[int, int], None]
"""Called with (telemetry records read, records to read)."""


@dataclass(frozen=True, slots=True)
class Range:
    """What was asked for. None: all there is.

    `offsets` are of the request topic where `of_telemetry` is False. Times in epoch milliseconds, of the telemetry's
    append.
    """

    partition: int | None = None
    first: int | None = None
    after: int | None = None
    of_telemetry: bool = False
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Views:
    """What readers read."""

    requests: str = tables.REQUESTS.view
    windows: str = tables.WINDOWS.view


@dataclass(slots=True)
class Audited:
    """What came out. `ranges`: by partition, request offsets and judged telemetry offsets."""

    ranges: dict[int, tuple[tuple[int, int], tuple[int, int]]]
    rows: PartitionCounts
    windows: WindowCounts
    differences: list[Difference]
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)
    owed_from: dict[int, int] = field(default_factory=dict)

    @property
    def agree(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    @property
    def proven(self) -> bool:
        """Whether there was anything to compare."""
        return self.rows.compared.matched > 0


class CountsAudit:
    """Compares Kafka with ClickHouse. `run` raises RetryLater, ValueError."""

    def __init__(
        self, kafka: KafkaSettings, table: TableReader, group: str, clock: Clock, *, views: Views | None = None
    ) -> None:
        """`group`: the consumer group of the score job, whose commits say what must be stored."""
        self._table, self._group, self._clock = table, group, clock
        self._views = views or Views()
        self._cluster = KafkaCluster(kafka, client_id="inferwatch-audit")
        self._reader = KafkaRangeReader(kafka, clock, client_id="inferwatch-audit")
        self._notes: list[str] = []

    def run(self, wanted: Range, progress: Progress, wait_seconds: float = 0.0) -> Audited:
        """Up to `wait_seconds` are given to the job to commit what is there when this begins."""
        telemetry = self._cluster.ranges(topics.TELEMETRY.name)
        # Asked after telemetry's ends: what telemetry tells of is there.
        requests = self._cluster.ranges(topics.REQUESTS.name)
        committed = self._committed(telemetry, wait_seconds)
        letters, complete = refused_rows(self._cluster, self._reader)
        if not complete:
            self._notes.append("retention has taken dead letters of telemetry: silent losses are not looked for")
        rows = RowReader(
            self._table, self._cluster.cluster_id, self._cluster.topic_id(topics.REQUESTS.name), self._views.requests
        )
        scopes = [
            self._scope(number, telemetry[number], requests.get(number, (0, 0)), committed.get(number, 0), wanted)
            for number in sorted(telemetry)
            if wanted.partition in (None, number)
        ]
        if not scopes:
            raise ValueError(f"there is no partition {wanted.partition}: {topics.TELEMETRY.name} has {len(telemetry)}")
        findings, counts = Findings(), PartitionCounts()
        owed_from: dict[int, int] = {}
        total, done = sum(scope.due.end - scope.due.first for scope in scopes), 0
        for scope in scopes:
            audit = PartitionAudit(rows, scope, letters, findings, self._fetch, looks_for_silent=complete)
            found = audit.run(self._read(scope, progress, done, total))
            done += scope.due.end - scope.due.first
            counts.add(found)
            if found.compared.owed_from is not None:
                owed_from[scope.partition] = found.compared.owed_from
        if wanted.partition is None:
            self._unknown(rows, findings)
        windows = (
            self._windows(rows, scopes, findings, counts.topic_ids) if self._judges_windows(wanted) else WindowCounts()
        )
        ranges = {one.partition: ((one.start, one.end), (one.due.first, one.due.committed)) for one in scopes}
        return Audited(ranges, counts, windows, findings.all(), findings.counts(), self._notes, owed_from)

    def _judges_windows(self, wanted: Range) -> bool:
        if wanted.of_telemetry or (wanted.first is None and wanted.after is None):
            return True
        self._notes.append("windows are not compared: they cover telemetry offsets, not request offsets")
        return False

    def _committed(self, telemetry: Mapping[int, tuple[int, int]], wait_seconds: float) -> dict[int, int]:
        """Up to which telemetry offset rows must be stored, by partition."""
        deadline = self._clock.monotonic() + wait_seconds
        while True:
            found = self._cluster.committed(self._group, topics.TELEMETRY.name)
            late = {number: end for number, (_, end) in telemetry.items() if found.get(number, 0) < end and end > 0}
            if not late or self._clock.monotonic() >= deadline:
                break
            time.sleep(ASK_EVERY_SECONDS)
        if late:
            behind = sum(end - max(found.get(number, 0), telemetry[number][0]) for number, end in late.items())
            self._notes.append(
                f"group {self._group} has not committed the last {behind:,} telemetry records: under way"
            )
        return {number: min(found.get(number, 0), end) for number, (_, end) in telemetry.items()}

    def _scope(
        self, number: int, telemetry: tuple[int, int], requests: tuple[int, int], committed: int, wanted: Range
    ) -> Scope:
        first, end = telemetry
        for at_ms, is_start in ((wanted.since_ms, True), (wanted.until_ms, False)):
            if at_ms is not None:
                offset = self._cluster.offsets_at(topics.TELEMETRY.name, at_ms)[number]
                first, end = (max(first, offset), end) if is_start else (first, min(end, offset))
        if wanted.of_telemetry:
            first, end = max(first, wanted.first or 0), min(end, end if wanted.after is None else wanted.after)
        end = max(first, end)
        due = Due(first, max(first, min(committed, end)), end, whole=first == 0)
        start, after = 0 if first == 0 else self._first_told(number, first, end), requests[1]
        is_given = not wanted.of_telemetry and (wanted.first is not None or wanted.after is not None)
        if is_given:
            start = max(start, wanted.first or 0)
            after = min(after, after if wanted.after is None else wanted.after)
        if telemetry[0] > 0 and wanted.since_ms is None and not is_given:
            self._notes.append(f"partition {number}: retention has taken telemetry before offset {telemetry[0]}")
        return Scope(number, start, max(start, after), due, is_given)

    def _first_told(self, number: int, first: int, end: int) -> int:
        """The lowest request offset that telemetry from an offset on can tell of."""
        for record in records_between(self._reader, topics.TELEMETRY.name, number, first, end):
            event = _served(record)
            if event is not None:
                return max(0, event.requests.offset[0] - REORDER_OFFSETS)
        return 0

    def _read(self, scope: Scope, progress: Progress, done: int, total: int) -> Iterator[Record]:
        found = records_between(self._reader, topics.TELEMETRY.name, scope.partition, scope.due.first, scope.due.end)
        return _counted(found, lambda count: progress(min(total, done + count), total))

    def _fetch(self, partition: int, offset: int) -> Record | None:
        return first_record(self._reader, topics.TELEMETRY.name, partition, offset, offset + 1)

    def _unknown(self, rows: RowReader, findings: Findings) -> None:
        """Rows of offsets that the request topic does not have: an id that nobody gave."""
        highest = rows.highest()
        ends = self._cluster.ranges(topics.REQUESTS.name)  # asked after the rows
        for number, offset in sorted(highest.items()):
            if offset >= ends.get(number, (0, 0))[1]:
                findings.add(Kind.UNKNOWN, number, [offset])

    def _windows(
        self, rows: RowReader, scopes: list[Scope], findings: Findings, topic_ids: Collection[str]
    ) -> WindowCounts:
        ends = {number: end for number, (_, end) in self._cluster.ranges(topics.WINDOWS.name).items()}
        taken = self._cluster.committed(self._group, topics.WINDOWS.name)
        caught_up = all(taken.get(number, 0) >= end for number, end in ends.items())
        if not caught_up:
            self._notes.append("windows are still being made: rows of the last 3 minutes need not be in one yet")
        return WindowAudit(
            self._table,
            rows,
            self._cluster.topic_id(topics.TELEMETRY.name),
            {scope.partition: scope.due for scope in scopes},
            findings,
            caught_up=caught_up,
            topic_ids=topic_ids,
            view=self._views.windows,
        ).run()


def _counted(found: Iterator[Record], say: Callable[[int], None]) -> Iterator[Record]:
    """The records, and now and then how many there were."""
    for count, record in enumerate(found, start=1):
        yield record
        if count % SAY_EVERY == 0:
            say(count)


def _served(record: Record) -> InferenceServed | None:
    try:
        event = decode(record.headers, record.value, TELEMETRY_KINDS).data
    except DecodeError:
        return None
    return event if isinstance(event, InferenceServed) else None
