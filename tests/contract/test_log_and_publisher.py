"""What a Publisher and a Log promise, held against the in-memory ones and a real Kafka."""

import asyncio
import random

import pytest

from infra.dead_letters import DeadLetters
from infra.kafka import KafkaCluster, KafkaLog, KafkaPublisher, KafkaTail, KafkaTopicAdmin
from infra.ports import InvalidRecord, Record, RetryLater
from infra.topic_plan import AddPartitions, CreateTopic
from schemas.base import UNREADABLE_HEADERS, DecodeError, Reason
from schemas.topics import Topic, dead_letters_of
from tests.fakes import FakeBroker, FakeLog, FakePublisher
from tests.poison import BAD_RECORDS, append_a_header_name_that_is_not_utf8


class Fake:
    """The in-memory world."""

    def __init__(self):
        self.broker = FakeBroker()
        self.publisher = FakePublisher(self.broker)

    def log(self, topic, group, **callbacks):
        return FakeLog(self.broker, group=group, topics=[topic], **callbacks)

    def committed(self, group, topic):
        return {p: o for (g, t, p), o in self.broker.committed.items() if (g, t) == (group, topic)}

    def close(self):
        self.publisher.close()


class Real:
    """A real Kafka."""

    def __init__(self, settings):
        self.settings = settings
        self.cluster = KafkaCluster(settings)
        self.publisher = KafkaPublisher(settings, client_id="test", linger_ms=0)

    def log(self, topic, group, **callbacks):
        return KafkaLog(self.settings, group=group, topics=[topic], client_id="test", **callbacks)

    def committed(self, group, topic):
        return self.cluster.committed(group, topic)

    def close(self):
        self.publisher.close()


def declared(name):
    return Topic(name, "a test's", (), "none", retention_ms=3_600_000, retention_bytes=10_000_000)


@pytest.fixture(params=["fake", "real"])
def world(request, unique):
    if request.param == "fake":
        found = Fake()
    else:
        found = Real(request.getfixturevalue("kafka"))
        topic = declared(unique)
        KafkaTopicAdmin(found.cluster).carry_out(CreateTopic(topic, 2, 1, topic.config()))
    yield found
    found.close()


def poll_until(log, count, until):
    records = []
    until(lambda: records.extend(log.poll(100, 0.1)) or len(records) >= count, f"{count} records")
    return records


def test_records_arrive_as_they_were_sent_in_order(world, unique, until):
    delivered = []
    for i in range(5):
        world.publisher.publish(
            unique,
            None if i == 4 else b"v%d" % i,
            key=b"k",
            partition=1,
            headers=[("h", b"1"), ("h", None)],
            on_delivery=lambda offset, error: delivered.append((offset, error)),
        )
    assert world.publisher.flush(10) == 0
    until(lambda: len(delivered) == 5, "deliveries")
    assert sorted(delivered) == [(i, None) for i in range(5)]
    log = world.log(unique, unique)
    records = poll_until(log, 5, until)
    log.close()
    assert [(r.offset, r.value) for r in records] == [(0, b"v0"), (1, b"v1"), (2, b"v2"), (3, b"v3"), (4, None)]
    assert {(r.topic, r.partition, r.key, r.headers) for r in records} == {
        (unique, 1, b"k", (("h", b"1"), ("h", None)))
    }
    assert all(r.timestamp_ms > 1_600_000_000_000 for r in records)


def test_one_key_stays_on_one_partition(world, unique, until):
    for i in range(6):
        world.publisher.publish(unique, b"v", key=b"ab"[i % 2 : i % 2 + 1])
    assert world.publisher.flush(10) == 0
    log = world.log(unique, unique)
    records = poll_until(log, 6, until)
    log.close()
    for key in (b"a", b"b"):
        assert len({r.partition for r in records if r.key == key}) == 1


def test_only_what_is_stored_is_committed(world, unique, until):
    for _ in range(4):
        world.publisher.publish(unique, b"v", partition=0)
    world.publisher.flush(10)
    log = world.log(unique, unique)
    poll_until(log, 4, until)
    log.store(unique, 0, 3)
    log.commit()
    assert world.committed(unique, unique) == {0: 3}
    log.close()
    again = world.log(unique, unique)
    assert [r.offset for r in poll_until(again, 1, until)] == [3]
    again.close()


def test_a_paused_partition_gives_nothing_until_resumed(world, unique, until):
    log = world.log(unique, unique)
    until(lambda: log.poll(10, 0.1) or len(log.assignment()) == 2, "assignment")
    log.pause([(unique, 0)])
    for partition in (0, 1):
        world.publisher.publish(unique, b"v", partition=partition)
    world.publisher.flush(10)
    assert [r.partition for r in poll_until(log, 1, until)] == [1]
    assert log.poll(10, 0.3) == []
    log.resume([(unique, 0)])
    assert [r.partition for r in poll_until(log, 1, until)] == [0]
    log.close()


def test_rebalance_callbacks_tell_what_came(world, unique, until):
    came = []
    log = world.log(unique, unique, on_assigned=came.append)
    until(lambda: log.poll(10, 0.1) or came, "assignment")
    assert set().union(*came) == {(unique, 0), (unique, 1)} == log.assignment()
    log.store(unique, 7, 1)
    log.close()


def test_too_large_a_record_is_refused_at_once(world, unique):
    with pytest.raises(InvalidRecord):
        world.publisher.publish(unique, b"x" * 3_000_000)


def test_what_the_broker_refuses_is_reported_to_the_callback(kafka, unique, until):
    real, seen = Real(kafka), []
    topic = declared(unique)
    KafkaTopicAdmin(real.cluster).carry_out(CreateTopic(topic, 1, 1, topic.config() | {"max.message.bytes": "1000"}))
    noise = random.Random(1).randbytes(50_000)
    real.publisher.publish(unique, noise, on_delivery=lambda offset, error: seen.append(error))
    until(lambda: seen, "a report")
    assert isinstance(seen[0], InvalidRecord)
    real.close()


def test_a_header_name_that_is_not_utf8_does_not_stop_a_reader(kafka, unique, until):
    real = Real(kafka)
    topic = declared(unique)
    KafkaTopicAdmin(real.cluster).carry_out(CreateTopic(topic, 1, 1, topic.config()))
    asyncio.run(append_a_header_name_that_is_not_utf8(kafka, unique))
    real.publisher.publish(unique, b"good", headers=[("h", b"1")])
    assert real.publisher.flush(10) == 0
    tail = KafkaTail(kafka, [unique], start="beginning")
    records = poll_until(tail, BAD_RECORDS + 1, until)
    tail.close()
    real.close()
    assert [(r.key, r.value, r.headers) for r in records] == [
        *((b"k", b"%d" % i, UNREADABLE_HEADERS) for i in range(BAD_RECORDS)),
        (None, b"good", (("h", b"1"),)),
    ]


def test_a_compressed_giant_becomes_a_dead_letter_on_a_real_topic(kafka, unique, until):
    real, seen = Real(kafka), []
    source = declared(unique)
    target = dead_letters_of(source)
    KafkaTopicAdmin(real.cluster).carry_out(CreateTopic(target, 1, 1, target.config()))
    noise = random.Random(1)
    giant = Record(
        unique, 0, 0, 1, noise.randbytes(4_000_000), noise.randbytes(4_000_000), [("x", noise.randbytes(49_000))]
    )
    error = DecodeError(Reason.TOO_LARGE, "\U0001f45f" * 3_000)
    DeadLetters(real.publisher, "s" * 100).send(giant, error, lambda offset, error: seen.append(error))
    until(lambda: seen, "a report")
    assert seen == [None]
    real.close()


def test_a_tail_starts_where_it_is_told(kafka, unique, until):
    real = Real(kafka)
    topic = declared(unique)
    KafkaTopicAdmin(real.cluster).carry_out(CreateTopic(topic, 1, 1, topic.config()))
    for i in range(3):
        real.publisher.publish(unique, b"%d" % i)
    real.publisher.flush(10)
    for start, expected in (("beginning", [b"0", b"1", b"2"]), ({(unique, 0): 2}, [b"2"]), (0, [b"0", b"1", b"2"])):
        tail = KafkaTail(kafka, [unique], start=start)
        assert [r.value for r in poll_until(tail, len(expected), until)] == expected
        assert tail.position() == {(unique, 0): 3}
        tail.close()
    tail = KafkaTail(kafka, [unique], start="end")
    real.publisher.publish(unique, b"new")
    assert [r.value for r in poll_until(tail, 1, until)] == [b"new"]
    tail.close()
    with pytest.raises(RetryLater, match="topics apply"):
        KafkaTail(kafka, [unique + "-none"])
    assert real.cluster.ranges(unique) == {0: (0, 4)}
    real.close()


def test_a_topic_that_was_never_used_is_known_as_such_and_can_be_given_partitions(kafka, unique):
    real, topic = Real(kafka), declared(unique)
    admin = KafkaTopicAdmin(real.cluster)
    admin.carry_out(CreateTopic(topic, 1, 1, topic.config()))
    assert admin.existing([unique])[unique].unused
    admin.carry_out(AddPartitions(topic, 1, 3))
    assert admin.existing([unique])[unique].partitions == 3
    real.publisher.publish(unique, b"x", partition=2)
    assert real.publisher.flush(10) == 0
    assert not admin.existing([unique])[unique].unused
    assert real.cluster.ends({unique: 3}) == {unique: {0: 0, 1: 0, 2: 1}}
    real.close()


def test_a_topic_made_again_has_another_id(kafka, unique, until):
    real = Real(kafka)
    topic = declared(unique)
    admin = KafkaTopicAdmin(real.cluster)
    admin.carry_out(CreateTopic(topic, 1, 1, topic.config()))
    first = real.cluster.topic_id(unique)
    real.cluster.admin.delete_topics([unique])[unique].result(10)
    until(lambda: real.cluster.partitions(unique) == 0, "deletion")
    admin.carry_out(CreateTopic(topic, 1, 1, topic.config()))
    assert real.cluster.topic_id(unique) != first
    assert real.cluster.cluster_id
    real.close()


def test_what_is_to_be_sent_now_does_not_wait_for_company(kafka, unique, until):
    real, topic = Real(kafka), declared(unique)
    KafkaTopicAdmin(real.cluster).carry_out(CreateTopic(topic, 1, 1, topic.config()))
    patient = KafkaPublisher(kafka, client_id="test", linger_ms=60_000)
    delivered = []
    patient.publish(unique, b"x", on_delivery=lambda offset, error: delivered.append((offset, error)))

    def sent():
        patient.send_now()
        return delivered

    assert until(sent, "a record that would linger for a minute") == [(0, None)]
    patient.close()
    real.close()
