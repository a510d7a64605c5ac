"""The outbox: confirmations settle, failures are published again, refusals get a stand-in."""

import itertools

import pytest

from infra.outbox import TIMES_KEPT, Outbox, Outgoing
from infra.ports import Fatal, InvalidRecord, RetryLater
from infra.progress import Progress
from tests.fakes import FakeBroker, FakeClock, FakePublisher


@pytest.fixture
def world():
    clock = FakeClock()
    broker = FakeBroker(clock)
    publisher = FakePublisher(broker)
    return clock, broker, publisher, Outbox(publisher, clock)


def begin():
    progress = Progress("t", 0, 1)
    return progress, progress.begin(0)


def test_a_confirmed_delivery_settles(world):
    _, broker, publisher, outbox = world
    publisher.hold = True
    progress, receipt = begin()
    outbox.send(Outgoing("out", b"1", partition=1), [receipt])
    outbox.collect()
    assert (outbox.pending, progress.take_next_offset()) == (1, None)
    publisher.release()
    outbox.collect()
    assert (outbox.pending, progress.take_next_offset()) == (0, 1)
    assert [(r.partition, r.value) for r in broker.of("out")] == [(1, b"1")]


def test_a_failed_delivery_is_published_again_with_growing_waits(world):
    clock, broker, publisher, outbox = world
    publisher.fail = [RetryLater("away")] * 4
    progress, receipt = begin()
    outbox.send(Outgoing("out", b"1"), [receipt])
    waits = []
    for _ in range(2_000):
        left = len(publisher.fail)
        outbox.collect()
        if len(publisher.fail) < left or broker.of("out"):
            waits.append(clock.monotonic())
        if broker.of("out"):
            break
        clock.advance(0.01)
    outbox.collect()
    assert [round(b - a, 1) for a, b in itertools.pairwise(waits)] == [0.2, 0.4, 0.8]
    assert progress.take_next_offset() == 1
    assert len(broker.of("out")) == 1


def test_a_publisher_that_raises_is_tried_again_too(world):
    clock, broker, publisher, outbox = world
    publish, raised = publisher.publish, []

    def away_once(*arguments, **keywords):
        if not raised:
            raised.append(1)
            raise RetryLater("buffer full")
        publish(*arguments, **keywords)

    publisher.publish = away_once
    progress, receipt = begin()
    outbox.send(Outgoing("out", b"1"), [receipt])
    clock.advance(1)
    outbox.collect()
    outbox.collect()
    assert progress.take_next_offset() == 1
    assert len(broker.of("out")) == 1


@pytest.mark.parametrize("at_once", [True, False])
def test_a_refused_record_gets_its_stand_in(world, at_once):
    _, broker, publisher, outbox = world
    value = b"x" * (3 * broker.record_bytes_max) if at_once else b"x"
    if not at_once:
        publisher.fail = [InvalidRecord("too large")]
    progress, receipt = begin()
    outbox.send(Outgoing("out", value), [receipt], instead=lambda: Outgoing("out", b"small"))
    outbox.collect()
    outbox.collect()
    assert [r.value for r in broker.of("out")] == [b"small"]
    assert progress.take_next_offset() == 1


def test_a_refusal_without_stand_in_is_raised(world):
    _, _, publisher, outbox = world
    publisher.fail = [InvalidRecord("too large")]
    outbox.send(Outgoing("out", b"x"), [begin()[1]])
    with pytest.raises(InvalidRecord):
        outbox.collect()


def test_a_publisher_broken_for_good_is_not_tried_again(world):
    _, broker, publisher, outbox = world
    publisher.fail = [Fatal("fenced")]
    outbox.send(Outgoing("out", b"x"), [begin()[1]], instead=lambda: Outgoing("out", b"small"))
    with pytest.raises(Fatal):
        outbox.collect()

    def broken(*arguments, **keywords):
        raise Fatal("fenced")

    publisher.publish = broken
    with pytest.raises(Fatal):
        outbox.send(Outgoing("out", b"x"), [begin()[1]], instead=lambda: Outgoing("out", b"small"))
    assert broker.of("out") == []


def test_keys_count_as_bytes_held():
    clock = FakeClock()
    outbox = Outbox(FakePublisher(FakeBroker(clock), hold=True), clock, bytes_max=60_000)
    outbox.send(Outgoing("out", b"x", b"k" * 65_536), [])
    assert outbox.is_full()


def test_it_is_full_by_records_and_by_bytes():
    clock = FakeClock()
    publisher = FakePublisher(FakeBroker(clock), hold=True)
    few = Outbox(publisher, clock, pending_max=2)
    for _ in range(2):
        assert not few.is_full()
        few.send(Outgoing("out", b"1"), [])
    assert few.is_full()
    small = Outbox(publisher, clock, bytes_max=1_000)
    small.send(Outgoing("out", b"x" * 900), [])
    assert small.is_full()
    publisher.release()
    small.collect()
    assert not small.is_full()


def test_the_time_to_delivery_is_told_once_with_tries_again(world):
    clock, _, publisher, outbox = world
    publisher.hold = True
    outbox.send(Outgoing("out", b"1"), [])
    clock.advance(0.25)
    publisher.release()
    clock.advance(5)  # it counts when it was confirmed, not when somebody looked
    assert outbox.take_delivery_seconds() == []
    outbox.collect()
    publisher.fail = [RetryLater("away")]
    outbox.send(Outgoing("out", b"2"), [])
    publisher.release()
    outbox.collect()
    clock.advance(1)
    outbox.collect()
    publisher.release()
    outbox.collect()
    assert outbox.take_delivery_seconds() == pytest.approx([0.25, 1.0])
    assert outbox.take_delivery_seconds() == []
    assert (outbox.delivered, outbox.pending) == (2, 0)


def test_times_that_nobody_takes_do_not_pile_up(world):
    outbox = world[3]
    for _ in range(TIMES_KEPT + 10):
        outbox.send(Outgoing("out", b"1"), [])
        outbox.collect()
    assert len(outbox.take_delivery_seconds()) == TIMES_KEPT
