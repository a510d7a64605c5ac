"""Questions about the cluster: ids, partitions, offset ranges, committed offsets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from infra.kafka.connection import LOG, REQUEST_SECONDS, Electing, client_config, sorted_error
from infra.kafka.group_members import REBALANCING, GroupSeen, assigned
from infra.ports import RetryLater, TryAgain
from infra.settings import KafkaSettings

ANSWER_SECONDS = 1.0
"""Longest wait for one answer while no broker is known to be there: a signal is handled between two such waits."""
ELECTING_SECONDS, ELECTING_PAUSE_SECONDS = 5.0, 0.1
"""How long offsets are asked for again while a partition's leader is not settled, as after a broker's start."""


class KafkaCluster:
    """Questions about the cluster: ids, partitions, offset ranges, committed offsets. Thread-safe."""

    def __init__(self, settings: KafkaSettings, *, client_id: str = "inferwatch-admin") -> None:
        self._config = client_config(settings, client_id)
        self.admin = AdminClient(self._config, logger=LOG)
        self._readers: dict[str, Consumer] = {}
        self._lock = threading.Lock()

    def wait_ready(self, deadline_seconds: float, stop: threading.Event | None = None) -> bool:
        """Wait until a broker answers: then True; False when `stop` was set before, which is noticed within
        ANSWER_SECONDS. Raises TryAgain when none does in time."""
        deadline = time.monotonic() + deadline_seconds
        while True:
            if stop is not None and stop.is_set():
                return False
            try:
                self.admin.list_topics(timeout=min(ANSWER_SECONDS, max(0.1, deadline - time.monotonic())))
                return True
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise TryAgain(f"Kafka does not answer: {error.args[0].str()}") from None

    @property
    def cluster_id(self) -> str:
        """The cluster's id. Raises RetryLater."""
        return str(self.ask(lambda admin: admin.list_topics(timeout=REQUEST_SECONDS)).cluster_id)

    def topic_id(self, topic: str) -> str:
        """The topic's id, as Kafka writes it (base64 for URLs, no padding): another one after the topic was deleted
        and made again. Raises RetryLater."""
        asked = TopicCollection([topic])

        def question(admin: AdminClient) -> Any:
            return admin.describe_topics(asked, request_timeout=REQUEST_SECONDS)[topic].result(REQUEST_SECONDS)

        found = str(self.ask(question).topic_id)
        return found.translate(str.maketrans("+/", "-_")).rstrip("=")

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has; 0 when there is no such topic. Raises RetryLater."""
        found = self.ask(lambda admin: admin.list_topics(timeout=REQUEST_SECONDS)).topics.get(topic)
        return 0 if found is None or found.error is not None else len(found.partitions)

    def broker_hosts(self) -> list[str]:
        """Host names under which the brokers want to be reached. Raises RetryLater."""
        found = self.ask(lambda admin: admin.list_topics(timeout=REQUEST_SECONDS))
        return sorted({str(broker.host) for broker in found.brokers.values()})

    def ranges(self, topic: str) -> dict[int, tuple[int, int]]:
        """(first offset kept, next offset) of every partition. Raises RetryLater."""
        counts = {topic: self.partitions(topic)}
        first = self._offsets(counts, OffsetSpec.earliest())[topic]  # type: ignore[no-untyped-call]
        after = self.ends(counts)[topic]
        return {partition: (first[partition], after[partition]) for partition in first}

    def ends(self, counts: Mapping[str, int]) -> dict[str, dict[int, int]]:
        """The next offset of every partition of topics with so many partitions. Raises RetryLater."""
        return self._offsets(counts, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def offsets_at(self, topic: str, time_ms: int) -> dict[int, int]:
        """The first offset of every partition appended at or after an epoch millisecond; its next offset where there is
        none. Raises RetryLater."""
        asked = dict.fromkeys(range(self.partitions(topic)), time_ms)
        return {number: offset for number, (offset, _) in self.since(topic, asked).items()}

    def since(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, tuple[int, int]]:
        """By partition, (offset of the first record appended at that time or later, next offset); equal when there is
        none. Raises RetryLater."""
        # Before the others: what is appended meanwhile must not lie below an end that is told.
        ends = self.ends({topic: self.partitions(topic)})[topic]
        asked = {TopicPartition(topic, number): OffsetSpec.for_timestamp(at) for number, at in times_ms.items()}
        found = {number: offset for (_, number), offset in self._listed(asked).items()}
        return {
            number: (end if (at := found[number]) < 0 else min(at, end), end)
            for number, end in ends.items()
            if number in found
        }

    def _offsets(self, counts: Mapping[str, int], spec: OffsetSpec) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {topic: {} for topic in counts}
        pairs = [TopicPartition(topic, partition) for topic, count in counts.items() for partition in range(count)]
        for (topic, partition), offset in self._listed(dict.fromkeys(pairs, spec)).items():
            found[topic][partition] = offset
        return found

    def _listed(self, asked: dict[TopicPartition, OffsetSpec]) -> dict[tuple[str, int], int]:
        if not asked:
            return {}
        deadline = time.monotonic() + ELECTING_SECONDS
        while True:
            try:
                return self._listed_now(asked)
            except Electing:
                if time.monotonic() > deadline:
                    raise
                time.sleep(ELECTING_PAUSE_SECONDS)

    def _listed_now(self, asked: dict[TopicPartition, OffsetSpec]) -> dict[tuple[str, int], int]:
        def question(admin: AdminClient) -> dict[tuple[str, int], int]:
            futures = admin.list_offsets(
                asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_SECONDS
            )
            return {
                (pair.topic, pair.partition): future.result(REQUEST_SECONDS).offset for pair, future in futures.items()
            }

        found: dict[tuple[str, int], int] = self.ask(question)
        return found

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's committed next offsets on a topic; partitions without one are left out. Raises RetryLater.

        A consumer that never joins asks, not the admin client: that one reads from a null pointer, and the process is
        gone, when a broker that has just started says that it is not the group's coordinator (librdkafka 2.16).
        """
        pairs = [TopicPartition(topic, partition) for partition in range(self.partitions(topic))]
        return {number: offset for (_, number), offset in self._committed(group, pairs).items()}

    def committed_all(self, group: str) -> dict[tuple[str, int], int]:
        """The group's committed next offsets on all topics. Raises RetryLater."""
        topics = self.ask(lambda admin: admin.list_topics(timeout=REQUEST_SECONDS)).topics
        pairs = [TopicPartition(name, number) for name, topic in topics.items() for number in topic.partitions]
        return self._committed(group, pairs)

    def group(self, group: str) -> GroupSeen:
        """Who is in the group now, and with which partitions. Raises RetryLater."""
        found = self._described(group)
        return GroupSeen(
            any(one.state in REBALANCING for one in found),
            {member.id: str(member.client_id) for one in found for member in one.members},
            {member.id: assigned(member.assignment or b"") for one in found for member in one.members},
        )

    def _committed(self, group: str, pairs: list[TopicPartition]) -> dict[tuple[str, int], int]:
        if not pairs:
            return {}
        reader = self._reader_of(group)
        try:
            try:
                found = reader.committed(pairs, timeout=REQUEST_SECONDS)
            except KafkaException as error:
                raise sorted_error(error, "cluster") from None
            if failed := next((one.error for one in found if one.error is not None), None):
                raise RetryLater(f"cluster: {failed.str()}")
        except RetryLater:
            with self._lock:  # another client finds the coordinator that there is then
                if self._readers.get(group) is reader:
                    del self._readers[group]
            raise
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def _reader_of(self, group: str) -> Consumer:
        with self._lock:
            if group not in self._readers:
                config = self._config | {"group.id": group, "enable.auto.commit": False}
                self._readers[group] = Consumer(config, logger=LOG)
            return self._readers[group]

    def members(self, group: str) -> int:
        """How many members the group has now; 0 for one that nobody is in. Raises RetryLater."""
        return sum(len(one.members) for one in self._described(group))

    def _described(self, group: str) -> list[Any]:
        """The group, if there is one.

        By the older call of librdkafka. Its newer one (`describe_consumer_groups`) ends the process with a failed
        assertion (`eonce->refcnt > 0`, librdkafka 2.16) when the answer comes after it was given up.
        """
        found = self.ask(lambda admin: admin.list_groups(group, timeout=REQUEST_SECONDS))
        if failed := next((one.error for one in found if one.error is not None), None):
            raise RetryLater(f"cluster: {failed.str()}")
        return list(found)

    def close(self) -> None:
        """Nothing to release: the client goes with its last reference."""

    def ask(self, question: Callable[[AdminClient], Any], where: str = "cluster") -> Any:
        """What `question` gives, which is to use the client that it is given and no other.

        A client that does not answer in time is replaced: see `_begin_anew`. `where` begins an error's text. Raises
        RetryLater, and what else `sorted_error` tells apart.
        """
        admin = self.admin  # held until the answer is there: with its last reference a client ends all open questions
        try:
            return question(admin)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._TIMED_OUT:
                self._begin_anew(admin)
            raise sorted_error(error, where) from None
        except TimeoutError:  # the future's own: the client never answered
            self._begin_anew(admin)
            raise RetryLater(f"{where}: no answer in time") from None

    def _begin_anew(self, silent: AdminClient) -> None:
        """The next question is asked on new connections: an old one may wait for what was not answered for another
        while (`socket.timeout.ms`) and keep all after it waiting, and a client that lived through a broker's restart
        may never answer again."""
        with self._lock:
            if self.admin is silent:  # else another thread has done it
                self.admin = AdminClient(self._config, logger=LOG)
