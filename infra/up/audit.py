"""The books of everything that the topics still hold, read from their beginning once. Blocks; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from infra.kafka import KafkaCluster, KafkaRangeReader, KafkaTail
from infra.ports import Clock, Ranges, Record, TableReader
from infra.record_ranges import first_record, records_between
from infra.settings import KafkaSettings
from infra.up.books import Account, Books
from infra.up.differences import Difference, log_differences, owed_differences
from infra.up.ledger_figures import LedgerFigures
from infra.up.outcomes import FirstWords
from infra.up.table_sight import TableSight
from infra.up.traffic import REQUEST_DEAD_LETTERS, Traffic, prediction_fate
from schemas import topics
from schemas.base import DecodeError, decode
from schemas.telemetry import TELEMETRY_KINDS, InferenceServed

CLIENT_ID = "inferwatch-books"
REORDER_OFFSETS = 4_000
"""Requests of a partition are answered out of order by less than this: a worker holds at most 2,000 of it."""
NAMED_MAX = 5
"""Ranges of offsets that a text names; more are counted."""
SKEW_MS = 60_000
"""How much the clocks of two brokers may differ, which append requests and their answers."""
LEDGER_MS = 60_000
"""The ledger reports several times a minute."""
POLL_RECORDS = 5_000
POLL_SECONDS = 0.5
ASK_EVERY_SECONDS = 1.0

Progress = Callable[[int, int], None]
"""Called with (records read, records to read)."""
Fold = Callable[[list[Record]], None]
"""Called with the next records."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The account of a range, and what does not fit in words. `notes` say what the range leaves out.

    `unreadable` counts records that are not what their topic carries.
    """

    account: Account
    ranges: Mapping[int, tuple[int, int]]
    dead_letters: Mapping[str, int]
    unreadable: int
    differences: tuple[Difference, ...]
    """What is wrong; none when the books balance."""
    answered_again: tuple[Difference, ...]
    """No fault: the first answer counts."""
    ledger: LedgerFigures | None
    """What the ledger says of itself; None where it did not report in the last minute."""
    at_ms: int
    notes: tuple[str, ...]

    @property
    def balanced(self) -> bool:
        """Whether the books balance: by the account, and offset by offset."""
        return self.account.balanced and not self.differences

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is wrong, and the table was not asked."""
        return self.account.is_unknown and not self.differences


@dataclass(frozen=True, slots=True)
class Span:
    """Requests appended from `since_ms` on and before `until_ms`, epoch milliseconds; None: no bound."""

    since_ms: int | None = None
    until_ms: int | None = None


def audit(
    kafka: KafkaSettings,
    table: TableReader,
    clock: Clock,
    progress: Progress,
    wait_seconds: float = 0.0,
    span: Span | None = None,
) -> Audit:
    """Read predictions, dead letters and telemetry and compare with the table. Raises RetryLater, TryAgain where
    Kafka is away; without the table the account is of Kafka alone, and a note says so.

    The account ends at the request topic's end when it begins. Up to `wait_seconds` are given to what is under way
    then, so that the books can balance while traffic flows.
    """
    cluster = KafkaCluster(kafka, client_id=CLIENT_ID)
    reader = _Reader(kafka, clock)
    requests = cluster.ranges(topics.REQUESTS.name)
    span = span or Span()
    starts, notes = _starts(reader, cluster, requests)
    _begin(span, cluster, requests, starts, notes)
    ends = {number: max(after, starts[number]) for number, (_, after) in _ended(span, cluster, requests).items()}
    words = FirstWords()
    books = Books(cluster.cluster_id, cluster.topic_id(topics.REQUESTS.name), starts, ends, heard=words.take)
    traffic = Traffic(books, {})
    sight = TableSight(table, books, ends)

    def account() -> Account:
        return books.account(ends, sight.rows())

    def is_done() -> bool:
        found = account()
        return books.is_observed(ends) and (found.balanced or found.is_unknown)

    read = (topics.PREDICTIONS.name, REQUEST_DEAD_LETTERS, topics.TELEMETRY.name)
    # Their ends are asked for after the requests' ends: what was answered until then is in.
    wanted = {(topic, number): both for topic in read for number, both in _since(span, cluster, topic).items()}

    def fold(records: list[Record]) -> None:
        traffic.fold(records, clock.monotonic())

    reader.read(wanted, fold, progress)
    reader.read_on(wanted, fold, is_done, wait_seconds)
    result = account()
    again, found = _explained(reader, books, ends, clock)
    found += sight.differences(words, NAMED_MAX)
    notes += sight.notes
    return Audit(
        account=result,
        ranges={number: (start, ends[number]) for number, start in starts.items()},
        dead_letters=dict(traffic.dead_letters),
        unreadable=traffic.unreadable,
        differences=tuple(found),
        answered_again=tuple(again),
        ledger=_ledger(reader, cluster, books.topic_id, clock),
        at_ms=clock.now_ms(),
        notes=tuple(notes),
    )


def _explained(
    reader: _Reader, books: Books, ends: Mapping[int, int], clock: Clock
) -> tuple[list[Difference], list[Difference]]:
    """What was answered again, and what is wrong by Kafka alone."""
    said = log_differences(books, ends, NAMED_MAX)
    again = [one for one in said if one.kind == "answered_again"]
    owed = owed_differences(books, ends, reader.requests, clock.now_ms(), NAMED_MAX)
    return again, [*owed, *(one for one in said if one.kind != "answered_again")]


def _begin(
    span: Span,
    cluster: KafkaCluster,
    requests: Mapping[int, tuple[int, int]],
    starts: dict[int, int],
    notes: list[str],
) -> None:
    """Raise the starts to what was asked for since then."""
    if span.since_ms is None:
        return
    for number, offset in cluster.offsets_at(topics.REQUESTS.name, span.since_ms).items():
        if number in starts:
            starts[number] = max(starts[number], min(offset, requests[number][1]))
    deleted = [number for number, (first, _) in requests.items() if first > 0 and starts[number] == first]
    if deleted:
        notes.append(f"partitions {deleted}: retention may have taken requests of the time asked for")


def _ended(span: Span, cluster: KafkaCluster, requests: Mapping[int, tuple[int, int]]) -> Mapping[int, tuple[int, int]]:
    """The ranges of requests, cut where the span ends."""
    if span.until_ms is None:
        return requests
    ends = cluster.offsets_at(topics.REQUESTS.name, span.until_ms)
    return {number: (first, min(after, ends.get(number, after))) for number, (first, after) in requests.items()}


def _since(span: Span, cluster: KafkaCluster, topic: str) -> dict[int, tuple[int, int]]:
    """What of a topic can be about the span: nothing tells of a request before it is there."""
    ranges = cluster.ranges(topic)
    if span.since_ms is None:
        return ranges
    starts = cluster.offsets_at(topic, max(0, span.since_ms - SKEW_MS))
    return {number: (min(max(first, starts.get(number, 0)), end), end) for number, (first, end) in ranges.items()}


def _ledger(reader: _Reader, cluster: KafkaCluster, topic_id: str, clock: Clock) -> LedgerFigures | None:
    """The ledger's last reports; None when there was none in the last minute."""
    figures = LedgerFigures(topic_id)
    since = cluster.offsets_at(topics.WINDOWS.name, clock.now_ms() - LEDGER_MS)
    ends = {number: after for number, (_, after) in cluster.ranges(topics.WINDOWS.name).items()}
    wanted = {(topics.WINDOWS.name, number): (since.get(number, after), after) for number, after in ends.items()}
    reader.read(wanted, figures.fold, lambda done, total: None)
    return figures if figures.rows else None


def _starts(
    reader: _Reader, cluster: KafkaCluster, requests: Mapping[int, tuple[int, int]]
) -> tuple[dict[int, int], list[str]]:
    """Where the account can begin in each partition: after all requests whose answers may have been deleted."""
    starts = {number: first for number, (first, _) in requests.items()}
    notes = []
    for topic in (topics.PREDICTIONS.name, topics.TELEMETRY.name):
        cut = {number: both for number, both in cluster.ranges(topic).items() if 0 < both[0] < both[1]}
        for number, record in reader.first_records(topic, cut).items():
            offset = _request_offset(record)
            if offset is not None and number in starts and offset > starts[number]:
                starts[number] = min(offset + REORDER_OFFSETS, requests[number][1])
                notes.append(
                    f"partition {number}: from offset {starts[number]}; retention of {topic} has taken what is before"
                )
    return starts, notes


def _request_offset(record: Record) -> int | None:
    """The highest request offset that a prediction or telemetry record speaks of."""
    if record.topic == topics.PREDICTIONS.name:
        found = prediction_fate(record.headers, record.value)
        return None if found is None else found[0].offset
    try:
        event = decode(record.headers, record.value, TELEMETRY_KINDS).data
    except DecodeError:
        return None
    return event.requests.offset[-1] if isinstance(event, InferenceServed) else None


class _Reader:
    """Reads ranges of topics to their ends, and on from there."""

    def __init__(self, kafka: KafkaSettings, clock: Clock) -> None:
        self._kafka, self._clock = kafka, clock
        self._reader = KafkaRangeReader(kafka, clock, client_id=CLIENT_ID)

    def read(self, ranges: Ranges, fold: Fold, progress: Progress) -> None:
        """Every record of the ranges, in order within a partition. Raises RetryLater."""
        done, total = 0, sum(after - first for first, after in ranges.values())
        for records in self._reader.read(ranges):
            fold(records)
            done += len(records)
            progress(done, total)

    def read_on(self, ranges: Ranges, fold: Fold, is_done: Callable[[], bool], seconds: float) -> None:
        """What follows the ranges, as it comes: until `is_done`, asked every second, at most `seconds`. Raises
        RetryLater."""
        deadline = self._clock.monotonic() + seconds
        if not ranges or seconds <= 0 or is_done():
            return
        starts = {place: after for place, (_, after) in ranges.items()}
        tail = KafkaTail(self._kafka, (), start=starts, client_id=CLIENT_ID)
        try:
            ask_at = self._clock.monotonic() + ASK_EVERY_SECONDS
            while (now := self._clock.monotonic()) < deadline:
                if now >= ask_at:
                    if is_done():
                        return
                    ask_at = now + ASK_EVERY_SECONDS
                fold(tail.poll(POLL_RECORDS, POLL_SECONDS))
        finally:
            tail.close()

    def requests(self, partition: int, first: int, after: int) -> list[Record]:
        """The requests of a range of offsets."""
        return list(records_between(self._reader, topics.REQUESTS.name, partition, first, after))

    def first_records(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> dict[int, Record]:
        """The first record of each range that has one."""
        found = {number: first_record(self._reader, topic, number, *both) for number, both in ranges.items()}
        return {number: record for number, record in found.items() if record is not None}
