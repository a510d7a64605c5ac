"""In-memory stand-ins for the outside world, held to the same contract tests as the real adapters."""

from __future__ import annotations

import itertools
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from infra.ports import DeliveryCallback, InvalidRecord, Ranges, Record, RetryLater, Silence
from infra.record_ranges import Unread


class FakeClock:
    """Time that moves only when told to."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic = 1_000.0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now_ms += round(seconds * 1000)
        self._monotonic += seconds


class FakeBroker:
    """Topics in memory: partitions of records, committed offsets by group. `gaps` are offsets that hold no record."""

    def __init__(self, clock: FakeClock | None = None, partitions: int = 2, record_bytes_max: int = 1_048_576) -> None:
        self.clock = clock or FakeClock()
        self.partitions = partitions
        self.record_bytes_max = record_bytes_max
        self.records: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self.committed: dict[tuple[str, str, int], int] = {}
        self.gaps: set[tuple[str, int, int]] = set()
        self._one_at_a_time = threading.Lock()  # each record has an offset of its own, whoever appends

    def append(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> Record:
        if partition is None:
            partition = zlib.crc32(key or b"") % self.partitions
        with self._one_at_a_time:
            log = self.records[topic, partition]
            record = Record(topic, partition, len(log), self.clock.now_ms(), key, value, tuple(headers))
            log.append(record)
        return record

    def append_gap(self, topic: str, partition: int) -> None:
        """An offset without a record, such as a transaction's marker."""
        self.delete(topic, partition, self.append(topic, None, partition=partition).offset)

    def delete(self, topic: str, partition: int, offset: int) -> None:
        """Have a record gone, as compaction and retention do."""
        self.gaps.add((topic, partition, offset))

    def held(self, topic: str, partition: int, first: int, after: int | None = None) -> list[Record]:
        """The records of a range, up to the end by default."""
        log = self.records[topic, partition][first:after]
        return [one for one in log if (topic, partition, one.offset) not in self.gaps]

    def of(self, topic: str) -> list[Record]:
        """All records of a topic, partition by partition."""
        return [one for name, number in sorted(self.records) if name == topic for one in self.held(name, number, 0)]


class FakePublisher:
    """A Publisher on a FakeBroker. `fail` scripts the next deliveries: an exception, or None to deliver.

    With `hold=True` deliveries wait for `release()`, so that a test decides what is durable when it crashes.
    `sent_now` counts what had been handed over each time that it was told not to wait for more.
    """

    def __init__(self, broker: FakeBroker, *, hold: bool = False) -> None:
        self.broker = broker
        self.fail: list[Exception | None] = []
        self.hold = hold
        self.sent_now: list[int] = []
        self._handed_over = 0
        self._held: list[Callable[[], None]] = []

    def publish(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        on_delivery: DeliveryCallback | None = None,
    ) -> None:
        if len(value or b"") + len(key or b"") > 2 * self.broker.record_bytes_max:
            raise InvalidRecord(f"{topic}: message size too large")
        failure = self.fail.pop(0) if self.fail else None
        self._handed_over += 1

        def deliver() -> None:
            if failure is not None:
                if on_delivery:
                    on_delivery(None, failure)
                return
            record = self.broker.append(topic, value, key=key, partition=partition, headers=headers)
            if on_delivery:
                on_delivery(record.offset, None)

        if self.hold:
            self._held.append(deliver)
        else:
            deliver()

    def release(self, count: int | None = None) -> None:
        """Deliver what is held, the oldest `count`."""
        batch, self._held = self._held[:count], self._held[len(self._held) if count is None else count :]
        for deliver in batch:
            deliver()

    def send_now(self) -> None:
        self.sent_now.append(self._handed_over)

    def flush(self, timeout_seconds: float) -> int:
        return len(self._held)

    def close(self, timeout_seconds: float = 10.0) -> int:
        return len(self._held)


class FakeLog:
    """A Log on a FakeBroker that owns every partition; `revoke` and `assign` script rebalances."""

    def __init__(
        self,
        broker: FakeBroker,
        *,
        group: str,
        topics: Sequence[str],
        on_assigned: Callable[[set[tuple[str, int]]], None] | None = None,
        on_revoked: Callable[[set[tuple[str, int]]], None] | None = None,
    ) -> None:
        self.broker = broker
        self.group = group
        self._topics = list(topics)
        self._on_assigned = on_assigned or (lambda partitions: None)
        self._on_revoked = on_revoked or (lambda partitions: None)
        self._owned: set[tuple[str, int]] = set()
        self._paused: set[tuple[str, int]] = set()
        self._position: dict[tuple[str, int], int] = {}
        self._stored: dict[tuple[str, int], int] = {}
        self._script: list[Callable[[], None]] = []
        self.fail: list[Exception | None] = []
        self.assign({(topic, p) for topic in topics for p in range(broker.partitions)})

    def assign(self, partitions: set[tuple[str, int]]) -> None:
        """Script: these partitions come at the next poll."""

        def come() -> None:
            self._owned.update(partitions)
            for topic, partition in partitions:
                start = self.broker.committed.get((self.group, topic, partition), 0)
                self._position[topic, partition] = start
            self._on_assigned(set(partitions))

        self._script.append(come)

    def revoke(self, partitions: set[tuple[str, int]]) -> None:
        """Script: these partitions go at the next poll."""

        def go() -> None:
            self._on_revoked(set(partitions))
            self.commit()
            self._owned.difference_update(partitions)  # what is paused stays paused, as with librdkafka

        self._script.append(go)

    def poll(self, count_max: int, timeout_seconds: float) -> list[Record]:
        script, self._script = self._script, []
        for step in script:
            step()
        failure = self.fail.pop(0) if self.fail else None
        if failure is not None:
            raise failure
        found: list[Record] = []
        for pair in sorted(self._owned - self._paused):
            batch = self.broker.held(*pair, self._position[pair])[: count_max - len(found)]
            if batch:
                self._position[pair] = batch[-1].offset + 1
            found.extend(batch)
        if not found:
            self.broker.clock.advance(timeout_seconds)
        return found

    def pause(self, partitions: Sequence[tuple[str, int]]) -> None:
        self._paused.update(p for p in partitions if p in self._owned)

    def resume(self, partitions: Sequence[tuple[str, int]]) -> None:
        self._paused.difference_update(partitions)

    def store(self, topic: str, partition: int, next_offset: int) -> None:
        if (topic, partition) in self._owned:
            self._stored[topic, partition] = next_offset

    def commit(self) -> None:
        for (topic, partition), offset in self._stored.items():
            self.broker.committed[self.group, topic, partition] = offset
        self._stored.clear()

    def assignment(self) -> set[tuple[str, int]]:
        return set(self._owned)

    def close(self) -> None:
        self.commit()
        self._owned.clear()


class FakeRangeReader:
    """A RangeReader on a FakeBroker. `fail` scripts the next batches: an exception, or None to give one.

    Records of a partition in `silent` do not come. Waiting for what does not come takes `silence_seconds` of the
    broker's clock.
    """

    def __init__(self, broker: FakeBroker, *, silence_seconds: float = 30.0, batch_records: int = 2) -> None:
        self.broker = broker
        self.silence_seconds, self.batch_records = silence_seconds, batch_records
        self.silent: set[tuple[str, int]] = set()
        self.fail: list[Exception | None] = []
        self.opened = self.closed = 0

    def read(self, ranges: Ranges) -> Generator[list[Record], None, None]:
        unread = Unread(ranges)
        self.opened += 1
        try:
            for place, (first, after) in sorted(ranges.items()):
                if place in self.silent or place not in unread.places:
                    continue
                held = self.broker.held(*place, first, after)
                for at in range(0, len(held), self.batch_records):
                    failure = self.fail.pop(0) if self.fail else None
                    if failure is not None:
                        raise failure
                    yield unread.take(held[at : at + self.batch_records])
                unread.reached(place, len(self.broker.records[place]))
            if unread:
                self.broker.clock.advance(self.silence_seconds)
                raise Silence(f"{unread}, then nothing came for {self.silence_seconds:.0f} s")
        finally:
            self.closed += 1


class FakeTable:
    """A TableWriter that keeps rows and tokens. `fail` scripts the next inserts: an exception, or None to store.

    `bad` judges a row; a block that holds a bad one is refused as a server would.
    """

    def __init__(self, bad: Callable[[dict[str, Any]], bool] | None = None) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.tokens: dict[str, set[str]] = defaultdict(set)
        self.fail: list[Exception | None] = []
        self.blocks = 0
        self._bad = bad or (lambda row: False)

    def insert(self, table: str, columns: Mapping[str, Sequence[Any]], *, token: str) -> int:
        failure = self.fail.pop(0) if self.fail else None
        if failure is not None:
            raise failure
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            raise InvalidRecord(f"{table}: columns of different lengths {sorted(lengths)}")
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if any(map(self._bad, rows)):
            raise InvalidRecord(f"{table}: a bad value")
        if token not in self.tokens[table]:
            self.tokens[table].add(token)
            self.rows[table].extend(rows)
            self.blocks += 1
        return len(rows)

    def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        raise RetryLater("the fake answers no SQL")


def counter_ids(prefix: str = "id") -> Callable[[], str]:
    """Ids that count: id-0, id-1, ..."""
    numbers = itertools.count()
    return lambda: f"{prefix}-{next(numbers)}"
