"""What offsets Faust's consumer commits. Every test here fails on stock Faust's consumer (the strict xfails say so)."""

import asyncio
from contextlib import aclosing
from types import SimpleNamespace

import faust
import pytest
from aiokafka.errors import IllegalGenerationError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import Transport
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from infra.ports import RetryLater
from infra.settings import KafkaSettings
from stream_jobs.app import new_app
from stream_jobs.barrier import LostPartitions
from stream_jobs.faust_consumer import BarrierTransport

P0 = TP("topic", 0)


class StockTransport(Transport):
    """Stock Faust."""


BOTH = pytest.mark.parametrize(
    "transport", [BarrierTransport, pytest.param(StockTransport, marks=pytest.mark.xfail(raises=AssertionError))]
)


class Coordinator:
    """Kafka's side: what was committed, and whether it refuses."""

    def __init__(self):
        self.generation = 5
        self.commits = []
        self.refuse = None
        self._commit_lock = asyncio.Lock()

    async def ensure_coordinator_known(self):
        pass

    async def _do_commit_offsets(self, assignment, offsets):
        if self.refuse is not None:
            raise self.refuse
        self.commits.append({place: one.offset for place, one in offsets.items()})


class Thread:
    """The consumer's thread, here in the same loop, with aiokafka's consumer behind it."""

    def __init__(self, coordinator):
        self.coordinator = coordinator
        self.places = {TopicPartition("topic", 0), TopicPartition("topic", 1)}
        self.kafka = SimpleNamespace(
            _coordinator=coordinator,
            assignment=lambda: self.places,
            _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=None)),
        )

    def _ensure_consumer(self):
        return self.kafka

    def assignment(self):
        return {TP(place.topic, place.partition) for place in self.places}

    async def call_thread(self, call, *args):
        return await call(*args)

    async def commit(self, offsets):
        wanted = {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
        try:
            await self.coordinator._do_commit_offsets(None, wanted)
        except KafkaError:
            return False  # as stock Faust's thread does when the group has moved on
        return True


class Producer:
    """Outputs on their way to Kafka. A flush delivers all but `stuck` of them, and returns."""

    def __init__(self):
        self.pending, self.stuck = [], 0

    def send(self, value):
        self.pending.append(value)

    async def flush(self):
        await asyncio.sleep(0)
        del self.pending[: len(self.pending) - self.stuck]


def consumer_of(transport):
    """A consumer with an owned partition of one acking topic, and Kafka's side of it."""
    app = new_app(
        KafkaSettings(bootstrap_servers="127.0.0.1:9"), group="g", client_id="c", topics=[], job=SimpleNamespace()
    )
    app.transport = transport(app.conf.broker_consumer, app)
    app.producer = Producer()
    app.topics._acking_topics.add("topic")
    app.flow_control.resume()
    coordinator = Coordinator()
    consumer = transport.Consumer(app.transport, print, None, None, loop=asyncio.get_running_loop())
    consumer._thread.thread_loop.close()
    consumer._thread = Thread(coordinator)
    app.consumer = consumer
    return consumer, coordinator


def message(consumer, offset, tp=P0):
    one = ConsumerMessage(tp.topic, tp.partition, offset, 0.0, 0, None, None, b"", None, tp=tp)
    one.generation_id = consumer.app.consumer_generation_id
    consumer._unacked_messages.add(one)
    return one


@BOTH
def test_acked_event_is_not_committed_by_itself(transport):
    async def run():
        consumer, coordinator = consumer_of(transport)
        consumer.ack(message(consumer, 0))
        await consumer.commit()
        await consumer.force_commit()
        assert coordinator.commits == []

    asyncio.run(run())


@BOTH
def test_unfinished_event_behind_an_acked_one_is_not_committed(transport):
    """faust-streaming 606: with several streams, the later event is acked first and its offset committed."""

    async def run():
        consumer, coordinator = consumer_of(transport)
        message(consumer, 10)
        consumer.ack(message(consumer, 11))
        await consumer.commit()
        assert not any(offset > 10 for commit in coordinator.commits for offset in commit.values())

    asyncio.run(run())


async def work_on(consumer, record, body):
    """A real stream over one record, left as an agent's loop is when its body raises."""
    channel = consumer.app.channel()
    stream = consumer.app.stream(channel)
    stream.channel.queue.put_nowait(faust.Event(consumer.app, None, b"", None, record))
    async with aclosing(aiter(stream)) as values:
        async for _ in values:
            body()
            return


@BOTH
def test_nothing_is_committed_while_an_output_is_not_delivered(transport):
    """Flush before commit: stock Faust flushes, does not look whether all was delivered, and commits."""

    async def run():
        consumer, coordinator = consumer_of(transport)
        producer = consumer.app.producer
        producer.stuck = 1
        await work_on(consumer, message(consumer, 0), lambda: [producer.send(value) for value in (b"a", b"b")])
        await consumer.commit()
        assert b"b" in producer.pending
        assert coordinator.commits == []

    asyncio.run(run())


@BOTH
def test_record_of_which_the_stream_s_body_raised_is_not_committed(transport):
    """Ack on exception: a stream acks its record however its body is left, and the next commit goes past it."""

    def fail():
        raise OSError("the body raised")

    async def run():
        consumer, coordinator = consumer_of(transport)
        with pytest.raises(OSError, match="the body raised"):
            await work_on(consumer, message(consumer, 0), fail)
        await consumer.commit()
        assert coordinator.commits == []

    asyncio.run(run())


@BOTH
def test_fault_of_a_task_commits_nothing(transport):
    async def run():
        consumer, coordinator = consumer_of(transport)
        consumer.ack(message(consumer, 0))
        await consumer.on_task_error(RuntimeError("an agent raised"))
        assert coordinator.commits == []

    asyncio.run(run())


@BOTH
def test_stop_commits_nothing(transport):
    async def run():
        consumer, coordinator = consumer_of(transport)
        consumer.ack(message(consumer, 0))
        await consumer.commit_and_end_transactions()
        assert coordinator.commits == []

    asyncio.run(run())


@BOTH
def test_refused_commit_is_not_believed(transport):
    """faust-streaming 316: after a refused commit the bookkeeping advances and the offset is never committed again."""

    async def run():
        consumer, coordinator = consumer_of(transport)
        coordinator.refuse = IllegalGenerationError()
        consumer.ack(message(consumer, 0))
        await consumer.commit()
        assert consumer._committed_offset[P0] is None

    asyncio.run(run())


def test_barrier_commits_what_it_is_told():
    async def run():
        consumer, coordinator = consumer_of(BarrierTransport)
        await consumer.commit_barrier({("topic", 0): 7, ("topic", 1): 9}, 5)
        assert coordinator.commits == [{TopicPartition("topic", 0): 7, TopicPartition("topic", 1): 9}]

    asyncio.run(run())


def test_barrier_of_an_earlier_generation_is_refused_before_it_is_sent():
    async def run():
        consumer, coordinator = consumer_of(BarrierTransport)
        with pytest.raises(LostPartitions):
            await consumer.commit_barrier({("topic", 0): 7}, 4)
        assert coordinator.commits == []

    asyncio.run(run())


def test_barrier_of_a_partition_that_is_not_ours_is_refused():
    async def run():
        consumer, coordinator = consumer_of(BarrierTransport)
        with pytest.raises(LostPartitions):
            await consumer.commit_barrier({("topic", 2): 7}, 5)
        assert coordinator.commits == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("refusal", "raised"), [(IllegalGenerationError(), LostPartitions), (TimeoutError(), RetryLater)]
)
def test_barrier_raises_when_kafka_refuses(refusal, raised):
    async def run():
        consumer, coordinator = consumer_of(BarrierTransport)
        coordinator.refuse = refusal
        with pytest.raises(raised):
            await consumer.commit_barrier({("topic", 0): 7}, 5)

    asyncio.run(run())
