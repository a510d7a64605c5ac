"""What a RangeReader promises, held against the in-memory one and a real Kafka."""

import re
from contextlib import closing

import pytest
from confluent_kafka import Producer, TopicPartition

from infra.clock import SystemClock
from infra.kafka import KafkaCluster, KafkaRangeReader, KafkaTopicAdmin
from infra.ports import RetryLater, Silence
from infra.record_ranges import first_record, records_between
from infra.topic_plan import CreateTopic
from schemas.topics import Topic
from tests.fakes import FakeBroker, FakeClock, FakeRangeReader

PATIENT_SECONDS = 20.0
"""A reader that waits so long for nothing is one that does not see where its range ends: no test waits for it."""


class Fake:
    """The in-memory world."""

    def __init__(self, topic):
        self.topic, self.broker = topic, FakeBroker()
        self.clock = self.broker.clock

    def reader(self, silence_seconds=PATIENT_SECONDS, seconds=float("inf")):
        return FakeRangeReader(self.broker, silence_seconds=min(silence_seconds, seconds))

    def append(self, partition, *values):
        for value in values:
            self.broker.append(self.topic, value, partition=partition)

    def gap(self, partition):
        """Two offsets without a record."""
        for _ in range(2):
            self.broker.append_gap(self.topic, partition)

    def only_the_takers_time(self):
        """The clock that the reader looks at: it moves when the test says so."""
        return self.clock

    def delete_below(self, partition, offset):
        for number in range(offset):
            self.broker.delete(self.topic, partition, number)


class Real:
    """A real Kafka."""

    def __init__(self, topic, settings):
        self.topic, self.settings, self.clock = topic, settings, SystemClock()
        self.cluster = KafkaCluster(settings)
        declared = Topic(topic, "a test's", (), "none", retention_ms=3_600_000, retention_bytes=10_000_000)
        KafkaTopicAdmin(self.cluster).carry_out(CreateTopic(declared, 2, 1, declared.config()))

    def reader(self, silence_seconds=PATIENT_SECONDS, seconds=float("inf")):
        return KafkaRangeReader(
            self.settings, self.clock, client_id="test", silence_seconds=silence_seconds, seconds=seconds
        )

    def append(self, partition, *values):
        producer = self._producer()
        for value in values:
            producer.produce(self.topic, value, partition=partition)
        assert producer.flush(10) == 0

    def gap(self, partition):
        """A record that a transaction took back, and the transaction's marker."""
        producer = self._producer({"transactional.id": f"{self.topic}-{partition}"})
        producer.init_transactions(60)
        producer.begin_transaction()
        producer.produce(self.topic, b"taken back", partition=partition)
        producer.flush(10)
        producer.abort_transaction(10)

    def only_the_takers_time(self):
        self.clock = FakeClock()
        return self.clock

    def delete_below(self, partition, offset):
        found = self.cluster.admin.delete_records([TopicPartition(self.topic, partition, offset)])
        for one in found.values():
            one.result(10)

    def _producer(self, more=()):
        return Producer({"bootstrap.servers": self.settings.bootstrap_servers, "linger.ms": 0, **dict(more)})


@pytest.fixture(params=["fake", "real"])
def world(request, unique):
    return Fake(unique) if request.param == "fake" else Real(unique, request.getfixturevalue("kafka"))


def read(world, ranges, **options):
    """(partition, offset) and value of each record, and no empty batch."""
    batches = list(world.reader(**options).read({(world.topic, number): both for number, both in ranges.items()}))
    assert all(batches)
    return [((one.partition, one.offset), one.value) for batch in batches for one in batch]


def test_the_records_of_the_ranges_come_in_order_within_a_partition_and_no_others(world):
    world.append(0, b"a", b"b", b"c", b"d", b"e")
    world.append(1, b"f", b"g", b"h")
    found = read(world, {0: (1, 4), 1: (0, 2)})
    assert [one for one in found if one[0][0] == 0] == [((0, 1), b"b"), ((0, 2), b"c"), ((0, 3), b"d")]
    assert [one for one in found if one[0][0] == 1] == [((1, 0), b"f"), ((1, 1), b"g")]
    assert len(found) == 5


def test_empty_ranges_have_nothing_and_need_no_topic(world):
    assert read(world, {}) == []
    assert read(world, {0: (3, 3), 1: (2, 1)}) == []
    assert first_record(world.reader(), world.topic, 0, 0, 0) is None
    assert list(world.reader().read({("no-such-topic", 0): (4, 4)})) == []


def test_a_range_that_ends_in_a_gap_ends_also_where_the_log_does(world):
    world.append(0, b"a")
    world.gap(0)
    began = world.clock.monotonic()
    assert read(world, {0: (0, 3)}) == [((0, 0), b"a")]
    assert read(world, {0: (1, 3)}) == []
    assert world.clock.monotonic() - began < PATIENT_SECONDS


def test_a_gap_in_the_middle_is_passed_over_and_a_range_may_end_within_it(world):
    world.append(0, b"a")
    world.gap(0)
    world.append(0, b"d", b"e")
    began = world.clock.monotonic()
    assert read(world, {0: (0, 4)}) == [((0, 0), b"a"), ((0, 3), b"d")]
    assert read(world, {0: (0, 2)}) == [((0, 0), b"a")]
    assert first_record(world.reader(), world.topic, 0, 1, 5).value == b"d"
    assert first_record(world.reader(), world.topic, 0, 1, 3) is None
    assert world.clock.monotonic() - began < PATIENT_SECONDS


def test_what_retention_took_is_passed_over(world):
    world.append(0, b"a", b"b", b"c")
    world.append(1, b"d", b"e")
    world.delete_below(0, 2)
    world.delete_below(1, 2)
    began = world.clock.monotonic()
    assert read(world, {0: (0, 3), 1: (0, 2)}) == [((0, 2), b"c")]
    assert world.clock.monotonic() - began < PATIENT_SECONDS


def test_what_does_not_come_is_said_with_what_and_how_far_and_the_rest_holds(world):
    world.append(0, b"a")
    world.append(1, b"b", b"c")
    found = []
    batches = world.reader(silence_seconds=5.0).read({(world.topic, 0): (0, 3), (world.topic, 1): (0, 2)})
    with pytest.raises(Silence) as told:
        found.extend(one.value for batch in batches for one in batch)
    assert sorted(found) == [b"a", b"b", b"c"]
    assert f"{world.topic}[0]: read up to offset 1 of 3" in str(told.value)
    assert re.search(r"\b[56] s", str(told.value))  # it waits half a second at a time
    assert isinstance(told.value, RetryLater)


def test_a_read_may_be_bounded_as_a_whole(world):
    world.append(0, b"a")
    began = world.clock.monotonic()
    with pytest.raises(Silence, match=r"read up to offset 1 of 2"):
        read(world, {0: (0, 2)}, seconds=5.0)
    assert 5.0 <= world.clock.monotonic() - began < PATIENT_SECONDS


def test_a_reader_reads_again_and_can_be_left_early(world):
    world.append(0, *(b"%d" % number for number in range(20)))
    reader = world.reader()
    with closing(reader.read({(world.topic, 0): (0, 20)})) as batches:
        assert next(batches)[0].value == b"0"
    assert first_record(reader, world.topic, 0, 7, 20).value == b"7"
    assert [one.value for one in records_between(reader, world.topic, 0, 17, 20)] == [b"17", b"18", b"19"]


def test_time_that_the_taker_takes_is_no_silence(world):
    world.append(0, b"a")
    world.append(1, b"b")
    clock, found = world.only_the_takers_time(), []
    for batch in world.reader(silence_seconds=0.1).read({(world.topic, 0): (0, 1), (world.topic, 1): (0, 1)}):
        found += batch
        clock.advance(0.3)
    assert len(found) == 2


def test_kafka_that_is_not_there_is_said_with_a_way_out(kafka, unique):
    settings = kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:9"})
    reader = KafkaRangeReader(settings, SystemClock(), client_id="test", silence_seconds=1.0)
    with pytest.raises(Silence) as told:
        list(reader.read({(unique, 0): (0, 1)}))
    assert f"{unique}[0]: read up to offset 0 of 1" in str(told.value)
    assert "inferwatch doctor" in str(told.value)
