"""What one source partition sends to one place arrives in its order, whatever fails on the way."""

import asyncio
from collections import defaultdict

import pytest

from infra.dead_letters import DeadLetters
from infra.ports import Fatal, InvalidRecord, Record, RetryLater
from stream_jobs.outbox import Batch, Outbox
from stream_jobs.stage import Outgoing
from tests.fakes import FakeBroker, FakePublisher


class RefusingPublisher(FakePublisher):
    """`raises` scripts what the next calls raise at once."""

    def __init__(self, broker, **arguments):
        super().__init__(broker, **arguments)
        self.raises = []

    def publish(self, *args, **kwargs):
        failure = self.raises.pop(0) if self.raises else None
        if failure is not None:
            raise failure
        super().publish(*args, **kwargs)


class Sender:
    """An outbox, its broker and a batch."""

    def __init__(self, **arguments):
        self.broker, self.fatal = FakeBroker(), []
        self.publisher = RefusingPublisher(self.broker, **arguments)
        self.outbox = Outbox(self.publisher, DeadLetters(self.publisher, "jobs.score"), resend_seconds=0.001)
        self.batch = Batch()

    def send(self, number, source=0, target=0, key=None):
        value = f"{source}/{number}".encode()
        event = Outgoing("out", value, key=key, partition=target if key is None else None)
        self.outbox.event(self.batch, event, Record("in", source, number, 0, None, b""))

    async def settle(self):
        self.outbox.seal(self.batch)
        async with asyncio.timeout(10):
            await self.batch.settled.wait()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    async def __aenter__(self):
        self.outbox.start(self.fatal.append)
        return self

    async def __aexit__(self, *error):
        self.outbox.stop()


def arrived(broker, partition=0):
    """Numbers by source partition, in the order of the log."""
    found = defaultdict(list)
    for record in broker.records["out", partition]:
        source, number = record.value.split(b"/")
        found[int(source)].append(int(number))
    return dict(found)


def test_a_failed_event_is_sent_again_before_those_after_it():
    async def run():
        async with Sender() as sender:
            sender.publisher.fail = [RetryLater("timed out"), None, RetryLater("timed out"), RetryLater("timed out")]
            sender.publisher.raises = [None, None, RetryLater("the buffer is full")]
            for number in range(20):
                for source in range(2):
                    sender.send(number, source=source)
            await sender.settle()
            assert arrived(sender.broker) == {0: list(range(20)), 1: list(range(20))}
            assert sender.fatal == []

    asyncio.run(run())


def test_only_its_own_lane_waits_for_an_event_that_is_on_its_way():
    async def run():
        async with Sender(hold=True) as sender:
            for number in range(3):
                sender.send(number, target=0)
                sender.send(number, target=1)
                sender.send(number, key=b"incident")
            await sender.until(lambda: sender.publisher.flush(0) == 3)
            await asyncio.sleep(0.02)
            assert sender.publisher.flush(0) == 3
            sender.publisher.fail = []
            sender.outbox.seal(sender.batch)
            while not sender.batch.settled.is_set():
                sender.publisher.release()
                await asyncio.sleep(0.001)
            assert sorted(map(len, sender.broker.records.values())) in ([3, 6], [3, 3, 3])
            assert sender.outbox._lanes == {}  # nothing is remembered of a lane that is done

    asyncio.run(run())


def test_those_after_an_event_that_is_refused_for_good_go_on():
    async def run():
        async with Sender() as sender:
            sender.publisher.fail = [None, InvalidRecord("too large")]
            for number in range(4):
                sender.send(number)
            await sender.settle()
            assert arrived(sender.broker) == {0: [0, 2, 3]}
            assert len(sender.broker.of("in.dead-letters")) == 1

    asyncio.run(run())


def test_what_a_lost_partition_has_not_sent_yet_is_not_sent_any_more():
    async def run():
        async with Sender(hold=True) as sender:
            for number in range(3):
                sender.send(number)
            await sender.until(lambda: sender.publisher.flush(0) == 1)
            sender.batch.dropped = True
            sender.publisher.fail = [RetryLater("timed out")]
            new = sender.batch = Batch()
            sender.send(0)
            sender.outbox.seal(new)
            while not new.settled.is_set():
                sender.publisher.release()
                await asyncio.sleep(0.001)
            assert arrived(sender.broker) == {0: [0, 0]}  # one was on its way and cannot be called back
            assert sender.outbox._lanes == {}
            assert not sender.outbox.is_full

    asyncio.run(run())


@pytest.mark.parametrize("at_once", [True, False])
def test_a_publisher_that_is_broken_for_good_is_told_and_not_tried_again(at_once):
    async def run():
        async with Sender() as sender:
            script = sender.publisher.raises if at_once else sender.publisher.fail
            script.append(Fatal("fenced"))
            sender.send(0)
            sender.send(1)
            await sender.until(lambda: sender.fatal)
            await asyncio.sleep(0.02)
            assert [str(error) for error in sender.fatal] == ["fenced"]
            assert arrived(sender.broker) == {}
            assert not sender.batch.settled.is_set()

    asyncio.run(run())
