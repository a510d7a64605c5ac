"""A consumer-group member: cooperative rebalances, offsets stored by hand after delivery."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from infra.kafka.connection import LOG, REQUEST_SECONDS, client_config, consume, sorted_error, within
from infra.ports import Record, RetryLater
from infra.settings import KafkaSettings

PartitionsCallback = Callable[[set[tuple[str, int]]], None]


REBALANCE_MS = 30_000
"""After so long without a poll a member is out, and so long a rebalance waits for members that do not come. A broker
that was killed in a rebalance comes back with members whose clients have other names by now: with librdkafka's five
minutes nobody was served for so long."""


LAST_SECONDS = 5.0
"""Longest wait for a last commit, and for the broker to be told that a member leaves: both have no limit of their own,
and a process that is to end would wait for as long as the broker stands still."""


class KafkaLog:
    """A `Log` on Kafka: a consumer-group member, cooperative-sticky, offsets stored by hand."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        group: str,
        topics: Sequence[str],
        client_id: str,
        on_assigned: PartitionsCallback | None = None,
        on_revoked: PartitionsCallback | None = None,
        on_lost: Callable[[], None] | None = None,
        session_timeout_ms: int | None = None,
        topic_id_of: Callable[[str], str] | None = None,
    ) -> None:
        """`on_lost` is called before `on_revoked` when the session is over: by the group, or as Kafka did not answer.

        `topic_id_of` tells a topic's id, or raises RetryLater: with it offsets are committed as that topic's. One of
        a topic that was deleted since, committed by a member that had not seen it, is then no place to begin at."""
        session = session_timeout_ms or settings.session_timeout_ms
        config = client_config(settings, client_id) | {
            "group.id": group,
            "enable.auto.commit": True,
            "auto.commit.interval.ms": 1_000,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session,
            "heartbeat.interval.ms": max(300, session // 4),
            "max.poll.interval.ms": max(REBALANCE_MS, 3 * session),
            "fetch.wait.max.ms": 50,
            "queued.max.messages.kbytes": 32_768,
            "queued.min.messages": 2_000,
            # By itself the client lets up to a second pass after a pause: a fast model stood still for a third of it.
            "fetch.queue.backoff.ms": 20,
            # Small fetches of each partition: what is fetched ahead is delivered partition after partition, and thrown
            # away at each pause.
            "max.partition.fetch.bytes": 65_536,
        }
        self._consumer = Consumer(config, logger=LOG)
        self._owned: set[tuple[str, int]] = set()
        self._topic_id_of = topic_id_of
        self._ids: dict[tuple[str, int], str] = {}
        self._on_assigned = on_assigned or (lambda partitions: None)
        self._on_revoked = on_revoked or (lambda partitions: None)
        self._on_lost = on_lost or (lambda: None)
        self._one_call = threading.Lock()
        """Of a call that was left behind and the closing, which frees what that call still uses."""
        self._consumer.subscribe(list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        new = {(p.topic, p.partition) for p in partitions}
        if self._topic_id_of is not None and partitions:
            self._place(consumer, partitions, self._topic_id_of)
        self._owned |= new
        self._on_assigned(new)

    def _place(self, consumer: Consumer, partitions: list[TopicPartition], topic_id_of: Callable[[str], str]) -> None:
        """Have partitions begin at their start whose committed offset is another topic's of that name."""
        for partition in partitions:
            self._ids.pop((partition.topic, partition.partition), None)
        try:
            ids = {topic: topic_id_of(topic) for topic in {p.topic for p in partitions}}
            found = consumer.committed(partitions, timeout=REQUEST_SECONDS)
        except (RetryLater, KafkaException) as error:
            LOG.warning("whether committed offsets are of these topics is not known: %s", error)
            return
        self._ids |= {(p.topic, p.partition): ids[p.topic] for p in partitions}
        stale = [p for p in found if p.offset >= 0 and p.metadata and p.metadata != ids[p.topic]]
        if not stale:
            return
        places = {(p.topic, p.partition) for p in stale}
        for p in partitions:
            if (p.topic, p.partition) in places:
                LOG.warning(
                    "%s[%d]: begins at its start: what is committed is of a deleted topic", p.topic, p.partition
                )
                p.offset = OFFSET_BEGINNING
        consumer.incremental_assign(partitions)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {(p.topic, p.partition) for p in partitions}
        self._on_revoked(gone)
        self._owned -= gone

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._on_lost()
        self._revoked(consumer, partitions)

    def poll(self, count_max: int, timeout_seconds: float) -> list[Record]:
        """See `Log.poll`."""
        return consume(self._consumer, count_max, timeout_seconds)

    def pause(self, partitions: Sequence[tuple[str, int]]) -> None:
        """See `Log.pause`."""
        self._consumer.pause([TopicPartition(*p) for p in partitions if p in self._owned])

    def resume(self, partitions: Sequence[tuple[str, int]]) -> None:
        """See `Log.resume`."""
        self._consumer.resume([TopicPartition(*p) for p in partitions if p in self._owned])

    def store(self, topic: str, partition: int, next_offset: int) -> None:
        """See `Log.store`."""
        place = TopicPartition(topic, partition, next_offset, metadata=self._ids.get((topic, partition), ""))
        try:
            self._consumer.store_offsets(offsets=[place])
        except KafkaException as error:
            if error.args[0].code() not in (KafkaError._STATE, KafkaError._UNKNOWN_PARTITION):
                raise sorted_error(error, topic) from None

    def commit(self) -> None:
        """See `Log.commit`."""
        try:
            within(LAST_SECONDS, self._commit, "commit")
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:
                raise sorted_error(error, "commit") from None

    def _commit(self) -> None:
        with self._one_call:
            self._consumer.commit(asynchronous=False)

    def _close(self) -> None:
        with self._one_call:
            self._consumer.close()

    def assignment(self) -> set[tuple[str, int]]:
        """See `Log.assignment`."""
        return set(self._owned)

    def close(self) -> None:
        """See `Log.close`."""
        try:
            within(LAST_SECONDS, self._close, "leaving the group")
        except RetryLater as error:
            LOG.warning("the group notices by itself that this member is gone: %s", error)
