"""What the repair commands read from Kafka: dead letters, markers, and topics that records were put back to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from infra.kafka import KafkaCluster, KafkaRangeReader
from infra.ports import Clock, Record, RetryLater
from infra.record_ranges import records_between
from infra.settings import KafkaSettings
from schemas.topics import REQUEUES


class KafkaLogs:
    """A `Logs` on Kafka. Raises RetryLater, also for a topic that is not there."""

    def __init__(self, kafka: KafkaSettings, clock: Clock) -> None:
        self._cluster = KafkaCluster(kafka, client_id="inferwatch-repair")
        self._reader = KafkaRangeReader(kafka, clock, client_id="inferwatch-repair")

    def letters(self, topics: Sequence[str]) -> Iterator[Record]:
        """All records of these dead-letter topics, topic by topic, that are there now."""
        for topic in topics:
            for partition, (first, after) in sorted(self._ranges(topic).items()):
                yield from records_between(self._reader, topic, partition, first, after)

    def markers(self, first: int) -> Iterator[Record]:
        """See `Logs.markers`."""
        kept, after = self._ranges(REQUEUES.name)[0]
        return records_between(self._reader, REQUEUES.name, 0, max(first, kept), after)

    def end(self, topic: str, partition: int) -> int:
        """See `Logs.end`."""
        ranges = self._ranges(topic)
        if partition not in ranges:
            raise ValueError(
                f"{topic} has {len(ranges)} partitions now: no record can be put back to partition {partition}"
            )
        return ranges[partition][1]

    def since(self, topic: str, partition: int, first: int) -> Iterator[Record]:
        """See `Logs.since`."""
        kept, after = self._ranges(topic).get(partition, (0, 0))
        return records_between(self._reader, topic, partition, max(first, kept), after)

    def _ranges(self, topic: str) -> dict[int, tuple[int, int]]:
        found = self._cluster.ranges(topic)
        if not found:
            raise RetryLater(f"no topic {topic}: `inferwatch topics apply` makes it")
        return found
