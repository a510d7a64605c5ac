"""The publisher: idempotent, acks=all, at-least-once, bounded, with its own delivery thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from infra.kafka.connection import LOG, client_config, sorted_error
from infra.ports import DeliveryCallback, RetryLater
from infra.settings import KafkaSettings
from schemas.base import VALUE_BYTES_MAX
from schemas.topics import PARTITIONER

PUBLISH_BUFFER_RECORDS = 100_000
PUBLISH_BUFFER_KIB = 65_536
"""Bounds the memory of undelivered records; a full buffer blocks `publish`."""
PUBLISH_WAIT_SECONDS = 30.0
SEND_NOW_SECONDS = 0.002
"""How long `send_now` waits: with less, the client's own thread has hardly woken up to send."""


class KafkaPublisher:
    """A `Publisher` on Kafka: acks=all, idempotent, murmur2_random, lz4, bounded buffer, its own delivery thread."""

    def __init__(self, settings: KafkaSettings, *, client_id: str, linger_ms: float = 5.0) -> None:
        config = client_config(settings, client_id) | {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": linger_ms,
            "compression.type": "lz4",
            "partitioner": PARTITIONER,
            "queue.buffering.max.messages": PUBLISH_BUFFER_RECORDS,
            "queue.buffering.max.kbytes": PUBLISH_BUFFER_KIB,
            "message.max.bytes": VALUE_BYTES_MAX * 2,
            "delivery.timeout.ms": 120_000,
            "request.timeout.ms": 15_000,  # below the connection's own limit
        }
        self._producer = Producer(config, logger=LOG)
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name=f"{client_id}-deliveries", daemon=True)
        self._poller.start()

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
        """See `Publisher.publish`."""
        arguments: dict[str, Any] = {"value": value, "key": key, "headers": list(headers)}
        if partition is not None:
            arguments["partition"] = partition
        if on_delivery is not None:
            arguments["on_delivery"] = _delivery(on_delivery)
        deadline = time.monotonic() + PUBLISH_WAIT_SECONDS
        while True:
            try:
                self._producer.produce(topic, **arguments)
                return
            except BufferError:
                if time.monotonic() > deadline:
                    raise RetryLater(f"{topic}: the send buffer stayed full for {PUBLISH_WAIT_SECONDS:.0f} s") from None
                self._producer.poll(0.05)
            except KafkaException as error:
                raise sorted_error(error, topic) from None

    def send_now(self) -> None:
        """See `Publisher.send_now`."""
        self._producer.flush(SEND_NOW_SECONDS)  # the client lets nothing linger while somebody waits in it

    def flush(self, timeout_seconds: float) -> int:
        """See `Publisher.flush`."""
        return int(self._producer.flush(timeout_seconds))

    def close(self, timeout_seconds: float = 10.0) -> int:
        """See `Publisher.close`. May be called twice."""
        pending = self.flush(timeout_seconds)
        self._closing.set()
        self._poller.join(timeout=2.0)
        if pending:
            self._producer.purge()
            self._producer.flush(1.0)
        return pending

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.1)


def _delivery(callback: DeliveryCallback) -> Callable[[KafkaError | None, Message], None]:
    def report(error: KafkaError | None, message: Message) -> None:
        if error is None:
            callback(message.offset(), None)
        else:
            callback(None, sorted_error(KafkaException(error), message.topic() or ""))

    return report
