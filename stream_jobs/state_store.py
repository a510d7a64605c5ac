"""The state topics on Kafka: appends that wait for delivery, reads up to a known record. Owns no protocol."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial

from infra.kafka import KafkaRangeReader
from infra.ports import Clock, Fatal, InvalidRecord, Publisher, Record, RetryLater
from infra.record_ranges import records_between
from infra.settings import KafkaSettings


class KafkaStateStore:
    """A `StateStore` on one compacted topic. Thread-safe: each read has a reader of its own."""

    def __init__(
        self,
        settings: KafkaSettings,
        publisher: Publisher,
        topic: str,
        clock: Clock,
        *,
        timeout_seconds: float = 60.0,
    ) -> None:
        """`timeout_seconds`: longest wait for deliveries, and for the next records of a read."""
        self._publisher, self._topic, self._timeout_seconds = publisher, topic, timeout_seconds
        self._reader = KafkaRangeReader(settings, clock, client_id="inferwatch-state", silence_seconds=timeout_seconds)

    def append(self, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> list[int]:
        """See `StateStore.append`. Raises InvalidRecord, which names the record, when one is refused for good, and
        Fatal when nothing can be published any more."""
        waiting = _Deliveries(len(records))
        try:
            for at, (key, value) in enumerate(records):
                self._publisher.publish(
                    self._topic, value, key=key, partition=partition, on_delivery=partial(waiting.done, at)
                )
        except InvalidRecord as error:
            raise self._refused(partition, *records[at], error) from error
        try:
            return waiting.wait(self._timeout_seconds)
        except InvalidRecord as error:
            raise self._refused(partition, *records[waiting.failed_at], error) from error

    def _refused(self, partition: int, key: bytes, value: bytes | None, error: InvalidRecord) -> InvalidRecord:
        where = f"{self._topic}[{partition}]"
        return InvalidRecord(f"{where} refused state record {key.decode()} of {len(value or b'')} bytes: {error}")

    def read(self, partition: int, start: int, through: int) -> Iterator[Record]:
        """See `StateStore.read`."""
        return records_between(self._reader, self._topic, partition, min(start, through), through + 1)


class _Deliveries:
    """Waits until a number of records is delivered or one failed."""

    def __init__(self, count: int) -> None:
        self._offsets = [-1] * count
        self._open = count
        self._error: Exception | None = None
        self.failed_at = -1
        self._lock = threading.Lock()
        self._ready = threading.Event()
        if not count:
            self._ready.set()

    def done(self, at: int, offset: int | None, error: Exception | None) -> None:
        with self._lock:
            self._open -= 1
            if error is not None and not isinstance(self._error, InvalidRecord | Fatal):
                self._error, self.failed_at = error, at
            elif offset is not None:
                self._offsets[at] = offset
            if not self._open:
                self._ready.set()

    def wait(self, timeout_seconds: float) -> list[int]:
        if not self._ready.wait(timeout_seconds):
            raise RetryLater(f"{self._open} state records were not delivered in {timeout_seconds:.0f} s")
        if isinstance(self._error, InvalidRecord | Fatal):
            raise self._error
        if self._error is not None:
            raise RetryLater(f"a state record was not delivered: {self._error}")
        return self._offsets
