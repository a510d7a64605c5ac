"""A reader without a group: every partition, from a chosen start on. Ranges that end are `KafkaRangeReader`'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from infra.kafka.connection import LOG, REQUEST_SECONDS, consume, groupless_config, sorted_error
from infra.ports import Record, RetryLater
from infra.settings import KafkaSettings

GATHERED_BYTES = 1_048_576


class KafkaTail:
    """Reads topics without a group: every partition, from a chosen start. Used by one thread only."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        *,
        start: str | int | Mapping[tuple[str, int], int] = "end",
        client_id: str = "inferwatch-tail",
        gather_seconds: float = 0.0,
    ) -> None:
        """`start`: "beginning", "end", epoch milliseconds, or offsets by (topic, partition) (only those are read).

        `gather_seconds`: for so long the broker may gather records before it sends them. For readers that nobody waits
        for: one that takes each record as it comes costs a broker beside it a tenth of a core at 500 records a second.
        """
        gathered: dict[str, str | int | float | bool] = (
            {"fetch.wait.max.ms": round(1000 * gather_seconds), "fetch.min.bytes": GATHERED_BYTES}
            if gather_seconds
            else {"fetch.wait.max.ms": 50}
        )
        self._consumer = Consumer(groupless_config(settings, client_id) | gathered, logger=LOG)
        try:
            self._consumer.assign(self._starts(topics, start))
        except KafkaException as error:
            self._consumer.close()
            raise sorted_error(error, ", ".join(topics)) from None

    def _starts(self, topics: Sequence[str], start: str | int | Mapping[tuple[str, int], int]) -> list[TopicPartition]:
        if isinstance(start, Mapping):
            return [TopicPartition(topic, partition, offset) for (topic, partition), offset in start.items()]
        known = self._consumer.list_topics(timeout=REQUEST_SECONDS).topics
        missing = [topic for topic in topics if topic not in known]
        if missing:
            raise RetryLater(f"no topic {', '.join(missing)}: `inferwatch topics apply` makes it")
        pairs = [TopicPartition(topic, partition) for topic in topics for partition in known[topic].partitions]
        if isinstance(start, int):
            asked = [TopicPartition(p.topic, p.partition, start) for p in pairs]
            return self._consumer.offsets_for_times(asked, timeout=REQUEST_SECONDS)
        if start not in ("beginning", "end"):
            raise ValueError(f"start is {start!r}: beginning, end, milliseconds or offsets")
        if start == "beginning":
            return [TopicPartition(p.topic, p.partition, OFFSET_BEGINNING) for p in pairs]
        # "end" is resolved now: OFFSET_END would be resolved at the first fetch and miss what comes before it.
        return [TopicPartition(p.topic, p.partition, self._end(p)) for p in pairs]

    def _end(self, partition: TopicPartition) -> int:
        return self._consumer.get_watermark_offsets(partition, timeout=REQUEST_SECONDS)[1]

    def poll(self, count_max: int, timeout_seconds: float) -> list[Record]:
        """Up to `count_max` records, waiting at most `timeout_seconds`. Raises RetryLater on broker trouble."""
        return consume(self._consumer, count_max, timeout_seconds)

    def pause(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Fetch nothing more from these partitions until resumed."""
        self._consumer.pause([TopicPartition(*one) for one in partitions])

    def resume(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Fetch from these partitions again."""
        self._consumer.resume([TopicPartition(*one) for one in partitions])

    def position(self) -> dict[tuple[str, int], int]:
        """The next offset to be read, by (topic, partition); negative before the first record of a partition."""
        found = self._consumer.position(self._consumer.assignment())
        return {(p.topic, p.partition): p.offset for p in found}

    def close(self) -> None:
        """Release the connection."""
        self._consumer.close()
