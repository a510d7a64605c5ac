"""Reads ranges of a topic's partition to their ends."""

from __future__ import annotations

from collections.abc import Iterator

from infra.kafka import KafkaTail
from infra.ports import Clock, Record
from infra.settings import KafkaSettings

POLL_RECORDS = 2_000
POLL_SECONDS = 0.5
SILENCE_SECONDS = 30.0
"""Without a record for so long, though some are missing, reading has failed."""


def records(kafka: KafkaSettings, clock: Clock, topic: str, partition: int, first: int, after: int) -> Iterator[Record]:
    """The records from offset `first` to below `after`, in order. Raises ConnectionError when they stop coming, and
    RetryLater."""
    if after <= first:
        return
    tail = KafkaTail(kafka, (), start={(topic, partition): first}, client_id="inferwatch-audit")
    try:
        heard_at = clock.monotonic()
        while True:
            found = tail.poll(POLL_RECORDS, POLL_SECONDS)
            now = clock.monotonic()
            if found:
                heard_at = now
            elif now - heard_at > SILENCE_SECONDS:
                raise ConnectionError(
                    f"{topic}[{partition}]: Kafka sent nothing for {SILENCE_SECONDS:.0f} s, though records are left"
                )
            yield from (record for record in found if record.offset < after)
            # Not by the last record: at the end of the range there may be none, such as after a compaction.
            if tail.position().get((topic, partition), -1) >= after:
                return
    finally:
        tail.close()
