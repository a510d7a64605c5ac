"""The books of everything that the topics still hold, read from their beginning once. Blocks; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from infra.kafka import KafkaCluster, KafkaTail
from infra.ports import Clock, Record, TableReader
from infra.settings import KafkaSettings
from infra.up.books import Account, Books
from infra.up.table_rows import count_answered, table_differences
from infra.up.traffic import REQUEST_DEAD_LETTERS, Traffic, prediction_fate
from schemas import topics
from schemas.base import DecodeError, decode
from schemas.telemetry import TELEMETRY_KINDS, InferenceServed

REORDER_OFFSETS = 4_000
"""Requests of a partition are answered out of order by less than this: a worker holds at most 2,000."""
POLL_RECORDS = 5_000
POLL_SECONDS = 0.5
ASK_EVERY_SECONDS = 1.0
SILENCE_SECONDS = 30.0
"""Without a record for so long, though some are missing, reading has failed."""

Progress = Callable[[int, int], None]
"""Called with (records read, records to read)."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The account of a range, and what does not fit in words. `notes` say what the range leaves out.

    `unreadable` counts records that are not what their topic carries.
    """

    account: Account
    ranges: Mapping[int, tuple[int, int]]
    dead_letters: Mapping[str, int]
    unreadable: int
    differences: tuple[str, ...]
    notes: tuple[str, ...]


def audit(
    kafka: KafkaSettings, table: TableReader, clock: Clock, progress: Progress, wait_seconds: float = 0.0
) -> Audit:
    """Read predictions, dead letters and telemetry and compare with the table. Raises RetryLater, ConnectionError.

    The account ends at the request topic's end when it begins. Up to `wait_seconds` are given to what is under way
    then, so that the books can balance while traffic flows.
    """
    cluster = KafkaCluster(kafka, client_id="inferwatch-books")
    reader = _Reader(kafka, clock)
    requests = cluster.ranges(topics.REQUESTS.name)
    starts, notes = _starts(reader, cluster, requests)
    ends = {number: max(after, starts[number]) for number, (_, after) in requests.items()}
    books = Books(cluster.cluster_id, cluster.topic_id(topics.REQUESTS.name), starts, ends)
    traffic = Traffic(books, {})

    def account() -> Account:
        seen = count_answered(table, books.cluster_id, books.topic_id, starts, ends)
        return books.account(ends, sum(seen.values()))

    def is_done() -> bool:
        return books.is_observed(ends) and account().balanced

    read = (topics.PREDICTIONS.name, REQUEST_DEAD_LETTERS, topics.TELEMETRY.name)
    # Their ends are asked for after the requests' ends: what was answered until then is in.
    wanted = {topic: cluster.ranges(topic) for topic in read}
    reader.read(
        wanted,
        lambda records: traffic.fold(records, clock.monotonic()),
        progress,
        Patience(is_done, wait_seconds),
    )
    result = account()
    found: list[str] = []
    if not result.balanced:
        found = books.differences(ends) + table_differences(table, books, books.answered_in_telemetry(), ends)
    ranges = {number: (start, ends[number]) for number, start in starts.items()}
    return Audit(result, ranges, dict(traffic.dead_letters), traffic.unreadable, tuple(found), tuple(notes))


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


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on reading after the end: until `is_done`, asked every second, at most `seconds`."""

    is_done: Callable[[], bool]
    seconds: float


class _Reader:
    """Reads ranges of topics to their ends."""

    def __init__(self, kafka: KafkaSettings, clock: Clock) -> None:
        self._kafka = kafka
        self._clock = clock

    def read(
        self,
        wanted: Mapping[str, Mapping[int, tuple[int, int]]],
        fold: Callable[[list[Record]], None],
        progress: Progress,
        patience: Patience | None = None,
    ) -> None:
        """At least every record of the ranges, in order within a partition; what follows them may be read, too.

        Raises ConnectionError when records stop coming.
        """
        starts = {(topic, number): both[0] for topic, ranges in wanted.items() for number, both in ranges.items()}
        left = {
            (topic, number): after
            for topic, ranges in wanted.items()
            for number, (first, after) in ranges.items()
            if after > first
        }
        if not starts or (not left and patience is None):
            return
        total = sum(after - starts[key] for key, after in left.items())
        tail = KafkaTail(self._kafka, (), start=starts, client_id="inferwatch-books")
        try:
            self._read_to_end(tail, left, fold, lambda done: progress(min(done, total), total))
            if patience is not None:
                self._read_on(tail, fold, patience)
        finally:
            tail.close()

    def _read_to_end(
        self,
        tail: KafkaTail,
        left: dict[tuple[str, int], int],
        fold: Callable[[list[Record]], None],
        progress: Callable[[int], None],
    ) -> None:
        heard_at, done = self._clock.monotonic(), 0
        while left:
            records = tail.poll(POLL_RECORDS, POLL_SECONDS)
            now = self._clock.monotonic()
            if records:
                heard_at = now
            elif now - heard_at > SILENCE_SECONDS:
                raise ConnectionError(f"Kafka sent nothing for {SILENCE_SECONDS:.0f} s, though records are left")
            fold(records)
            done += len(records)
            progress(done)
            for key, offset in tail.position().items():
                if key in left and offset >= left[key]:
                    del left[key]

    def _read_on(self, tail: KafkaTail, fold: Callable[[list[Record]], None], patience: Patience) -> None:
        deadline = self._clock.monotonic() + patience.seconds
        ask_at = self._clock.monotonic()
        while self._clock.monotonic() < deadline:
            if self._clock.monotonic() >= ask_at:
                if patience.is_done():
                    return
                ask_at = self._clock.monotonic() + ASK_EVERY_SECONDS
            fold(tail.poll(POLL_RECORDS, POLL_SECONDS))

    def first_records(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> dict[int, Record]:
        """The first record of each range."""
        found: dict[int, Record] = {}

        def keep(records: list[Record]) -> None:
            for record in records:
                found.setdefault(record.partition, record)

        firsts = {number: (first, first + 1) for number, (first, _) in ranges.items()}
        self.read({topic: firsts}, keep, lambda done, total: None)
        return found
