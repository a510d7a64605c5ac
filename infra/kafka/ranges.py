"""Reads ranges of partitions to their ends, without a group. Follows nothing: that is `KafkaTail`'s."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.kafka.connection import LOG, groupless_config, polled, records_of, sorted_error
from infra.ports import Clock, Ranges, Record, RetryLater, Silence
from infra.record_ranges import Unread
from infra.settings import KafkaSettings

POLL_RECORDS, POLL_SECONDS = 2_000, 0.5
SILENCE_SECONDS = 30.0
"""A broker that starts again is back sooner."""


class KafkaRangeReader:
    """A `RangeReader` on Kafka. Each read has a connection of its own, which goes when the read ends or is closed."""

    def __init__(
        self,
        settings: KafkaSettings,
        clock: Clock,
        *,
        client_id: str,
        silence_seconds: float = SILENCE_SECONDS,
        seconds: float = math.inf,
    ) -> None:
        """`silence_seconds`: longest wait for the next records. `seconds`: longest time for a whole read, for who may
        not block longer, with what is done between two batches."""
        self._settings, self._clock, self._client_id = settings, clock, client_id
        self._silence_seconds, self._seconds = silence_seconds, seconds

    def read(self, ranges: Ranges) -> Generator[list[Record], None, None]:
        """See `RangeReader.read`."""
        unread = Unread(ranges)
        if not unread:
            return
        consumer = Consumer(
            # The end of a log that ends in a gap is told by nothing but this.
            groupless_config(self._settings, self._client_id) | {"enable.partition.eof": True, "fetch.wait.max.ms": 50},
            logger=LOG,
        )
        try:
            starts = [TopicPartition(*place, ranges[place][0]) for place in sorted(unread.places)]
            consumer.assign(starts)
            yield from self._read(consumer, unread)
        except KafkaException as error:
            raise sorted_error(error, str(unread)) from None
        finally:
            consumer.close()

    def _read(self, consumer: Consumer, unread: Unread) -> Generator[list[Record], None, None]:
        began_at, quiet_seconds, trouble = self._clock.monotonic(), 0.0, ""
        while unread:
            asked_at, open_before = self._clock.monotonic(), unread.places
            messages = polled(consumer, POLL_RECORDS, POLL_SECONDS)
            now = self._clock.monotonic()
            found = unread.take(_records(messages, unread))
            trouble = _trouble(messages) or trouble
            for topic, number, offset in _ends(messages):
                unread.reached((topic, number), offset)
                if (topic, number) in unread.places:
                    trouble = f"{topic}[{number}] ends at offset {offset}: was it made anew?"
            over = open_before - unread.places
            if over and unread:  # or what follows their ranges would be fetched, too
                consumer.pause([TopicPartition(*place) for place in over])
            # Only what was waited here: whoever takes the records may take his time.
            quiet_seconds = 0.0 if found else quiet_seconds + now - asked_at
            if found:
                trouble = ""
                yield found
            if unread and quiet_seconds > self._silence_seconds:
                raise Silence(_said(unread, f"nothing came for {quiet_seconds:.0f} s", trouble))
            if unread and self._clock.monotonic() - began_at > self._seconds:
                raise Silence(_said(unread, f"{self._seconds:.0f} s were over", trouble))


def _records(messages: Sequence[Message], unread: Unread) -> list[Record]:
    try:
        return records_of(messages)
    except RetryLater as error:
        raise RetryLater(f"{unread}: {error}") from None


def _ends(messages: Sequence[Message]) -> list[tuple[str, int, int]]:
    """(topic, partition, next offset) of the partitions that are read to the log's end."""
    return [
        (message.topic() or "", message.partition() or 0, message.offset() or 0)
        for message in messages
        if (error := message.error()) is not None and error.code() == KafkaError._PARTITION_EOF
    ]


def _trouble(messages: Sequence[Message]) -> str:
    """What the client last complained about; empty when it did not."""
    errors = [error for message in messages if (error := message.error()) is not None]
    return next((one.str() for one in reversed(errors) if one.code() != KafkaError._PARTITION_EOF), "")


def _said(unread: Unread, what: str, trouble: str) -> str:
    cause = trouble or "a broker is away or slow"
    return f"{unread}, then {what} ({cause}); try again when Kafka is well, `inferwatch doctor` tells"
