"""Where unusable records go: their bytes, unchanged, with origin and reason, on the source's dead-letter topic."""

from __future__ import annotations

from infra.metrics import DEAD_LETTERS
from infra.ports import DeliveryCallback, Publisher, Record
from schemas.base import VALUE_BYTES_MAX, DecodeError
from schemas.dead_letters import DeadLetter


class DeadLetters:
    """Sends dead letters for one part of the pipeline. Thread-safe as its publisher is."""

    def __init__(self, publisher: Publisher, stage: str) -> None:
        self._publisher = publisher
        self._stage = stage

    def send(
        self, record: Record, error: DecodeError, on_delivery: DeliveryCallback | None = None, topic_id: str = ""
    ) -> None:
        """Publish a record as a dead letter and count it. The source's offset may move once it is delivered.

        `topic_id`: of the record's topic, where it is known: another of that name has the same offsets.
        """
        letter = DeadLetter.of(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            stage=self._stage,
            reason=error.reason,
            detail=error.detail,
            key=record.key,
            value=record.value,
            headers=record.headers,
            value_bytes_max=VALUE_BYTES_MAX,
            topic_id=topic_id,
        )
        DEAD_LETTERS.labels(record.topic, error.reason.value).inc()
        self._publisher.publish(
            letter.dead_letter_topic,
            letter.value,
            key=letter.key,
            headers=letter.record_headers(),
            on_delivery=on_delivery,
        )
