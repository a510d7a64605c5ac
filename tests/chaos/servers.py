"""The chaos suite's own way to Kafka and ClickHouse; nothing of the product is in it."""

import json
import urllib.parse
import urllib.request
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

READ_SECONDS = 120.0
POISON = "chaos-poison"
"""The name of a header of records that the run itself put where they do not belong."""


@dataclass(frozen=True)
class Message:
    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


class Servers:
    """The checker's own way to Kafka and ClickHouse."""

    def __init__(self, bootstrap: str, clickhouse: str) -> None:
        self.bootstrap, self.clickhouse = bootstrap, clickhouse

    def topic_id(self, topic: str) -> str:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        future = admin.describe_topics(TopicCollection([topic]), request_timeout=20)[topic]
        # As Kafka writes ids; librdkafka writes them with another alphabet.
        return str(future.result(20).topic_id).translate(str.maketrans("+/", "-_")).rstrip("=")

    def read(self, topic: str) -> list[Message]:
        """Everything the topic holds, partition after partition in order. Raises TimeoutError."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "chaos-checker",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "check.crcs": True,
            }
        )
        try:
            known = consumer.list_topics(topic, timeout=20).topics[topic].partitions
            wanted, found = {}, []
            for number in known:
                first, after = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=20)
                if after > first:
                    wanted[number] = (first, after)
            consumer.assign([TopicPartition(topic, number, first) for number, (first, _) in wanted.items()])
            left = set(wanted)
            while left:
                message = consumer.poll(READ_SECONDS)
                if message is None:
                    raise TimeoutError(f"{topic}: nothing came in {READ_SECONDS:.0f} s; left {sorted(left)}")
                number = message.partition()
                if message.error():
                    if message.error().name() == "_PARTITION_EOF":
                        left.discard(number)
                    continue
                if message.offset() < wanted[number][1]:
                    headers = {name: value or b"" for name, value in message.headers() or ()}
                    found.append(
                        Message(
                            number, message.offset(), message.timestamp()[1], message.key(), message.value(), headers
                        )
                    )
            return sorted(found, key=lambda one: (one.partition, one.offset))
        finally:
            consumer.close()

    def first_offsets(self, topic: str) -> dict[int, int]:
        """The first offset that is still there, of each partition."""
        return {number: first for number, (first, _) in self._ranges(topic).items()}

    def end_offsets(self, topic: str) -> dict[int, int]:
        """The next offset of each partition."""
        return {number: after for number, (_, after) in self._ranges(topic).items()}

    def _ranges(self, topic: str) -> dict[int, tuple[int, int]]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "chaos-checker"})
        try:
            known = consumer.list_topics(topic, timeout=20).topics[topic].partitions
            return {one: consumer.get_watermark_offsets(TopicPartition(topic, one), timeout=20) for one in known}
        finally:
            consumer.close()

    def committed(self, group: str, topic: str, topic_id: str = "") -> dict[int, int]:
        """The next offset that a group has committed of each partition; 0 where there is none.

        With `topic_id`, what was committed of another topic of that name is none: our workers commit with the id.
        """
        config = {"bootstrap.servers": self.bootstrap, "group.id": group, "enable.auto.commit": False}
        consumer = Consumer(config)
        try:
            known = consumer.list_topics(topic, timeout=20).topics[topic].partitions
            found = consumer.committed([TopicPartition(topic, number) for number in known], timeout=20)
        finally:
            consumer.close()
        return {
            one.partition: max(0, one.offset) if not topic_id or one.metadata in (None, "", topic_id) else 0
            for one in found
        }

    def rows(self, sql: str, database: str = "default") -> list[dict]:
        text = self.text(f"{sql} FORMAT JSONEachRow", database)
        return [json.loads(line) for line in text.splitlines()]

    def text(self, sql: str, database: str = "default") -> str:
        url = f"{self.clickhouse}/?{urllib.parse.urlencode({'database': database})}"
        with urllib.request.urlopen(urllib.request.Request(url, sql.encode()), timeout=60) as answer:
            return answer.read().decode()
